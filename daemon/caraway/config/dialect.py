"""SQL as DataFusion speaks it: Postgres to sqlglot, but what sqlglot would rewrite passes as it was written."""

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.generators.postgres import PostgresGenerator
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import TokenType

# Postgres raises to a power with ^ and has no TRY_CAST; to sqlglot a function means what it means in Postgres (the
# format of to_char, for one). Aggregates are kept, so that they are recognised where they may not stand.
_AGGREGATES = {name for name, kind in exp.FUNCTION_BY_NAME.items() if issubclass(kind, exp.AggFunc)}
_REWRITTEN = (exp.TryCast, exp.BitwiseXor)


class RowSql(Postgres):
    """The dialect of conditions on rows."""

    class Parser(PostgresParser):
        FUNCTIONS = {name: parse for name, parse in PostgresParser.FUNCTIONS.items() if name in _AGGREGATES}  # noqa: RUF012
        BITWISE = {**PostgresParser.BITWISE, TokenType.CARET: exp.BitwiseXor}  # noqa: RUF012
        EXPONENT = {}  # noqa: RUF012

        def _parse_interval_span(self, this: exp.Expr, parse_function_unit: bool = True) -> exp.Interval:
            """The text of an interval stays whole: sqlglot keeps the first part of '1 day ago' alone."""
            interval = super()._parse_interval_span(this, parse_function_unit=parse_function_unit)
            spelled = this.is_string and any(letter.isalpha() for letter in this.name)
            return exp.Interval(this=this) if spelled and not isinstance(interval.unit, exp.IntervalSpan) else interval

    class Generator(PostgresGenerator):
        TRANSFORMS = {kind: text for kind, text in PostgresGenerator.TRANSFORMS.items() if kind not in _REWRITTEN}  # noqa: RUF012


def text_of(node: exp.Expr) -> str:
    """The SQL of a node."""
    return node.sql(dialect=RowSql, normalize_functions=False)
