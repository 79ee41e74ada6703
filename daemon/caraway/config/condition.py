"""The WHERE of a parsed statement as a predicate; what has no value of its own stays SQL text."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from sqlglot import exp

from caraway.config.dialect import text_of
from caraway.config.relative import relative
from caraway.core.predicate import Compare, CompareOp, In, IsNull, Like, Literal, Not, Predicate, RawSql, all_of, any_of

_FLIPPED: dict[CompareOp, CompareOp] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_UNDERSTOOD = frozenset({"this", "expression", "expressions", "low", "high", "negate"})
"""Arguments of a node that the translation reads; any other changes what the node means."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqlRefusedError(ValueError):
    """SQL that means more than the place allows; the text says what may stand there."""


def predicate_of(condition: exp.Expr, tables: frozenset[str]) -> Predicate | None:
    """The condition over columns that only `tables` may qualify; SqlRefusedError for what no row condition may hold.

    Each conjunct is translated whole or kept whole as RawSql.
    """
    try:
        prepared = _prepared(condition, tables)
        return all_of(*(_translated(term) or RawSql(text_of(term)) for term in _conjuncts(prepared)))
    except RecursionError as error:
        raise SqlRefusedError("the condition is nested too deeply") from error


def column_of(column: exp.Expr, tables: frozenset[str]) -> str:
    """The name of a column, lower-cased unless quoted."""
    qualifier = column.args.get("table")
    if column.args.get("db") is not None or (qualifier is not None and fold(qualifier) not in tables):
        raise SqlRefusedError(f"the column {text_of(column)} belongs to another table")
    if not isinstance(column.this, exp.Identifier):
        raise SqlRefusedError(f"{text_of(column)} is not a column")
    return fold(column.this)


def fold(identifier: exp.Expr) -> str:
    """An identifier as SQL understands it."""
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()


def _prepared(condition: exp.Expr, tables: frozenset[str]) -> exp.Expr:
    """A copy with bare, folded and quoted names of columns."""
    forbidden = (exp.Query, exp.AggFunc, exp.Window, exp.Placeholder, exp.Parameter)
    copy = exp.Paren(this=condition.copy())
    for node in copy.walk():
        if isinstance(node, forbidden):
            raise SqlRefusedError(f"{text_of(node)} is not allowed in this WHERE; only conditions on a row are")
    for column in list(copy.find_all(exp.Column)):
        column.replace(exp.column(exp.to_identifier(column_of(column, tables), quoted=True)))
    return copy


def _conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    pending = [condition]
    while pending:
        term = pending.pop().unnest()
        if isinstance(term, exp.And):
            pending += [term.expression, term.this]
        else:
            yield term


def _translated(term: exp.Expr) -> Predicate | None:
    """The term as a predicate, None where any part of it has no value."""
    term = term.unnest()
    if any(value and name not in _UNDERSTOOD for name, value in term.args.items()):
        return None
    if term.args.get("negate"):
        positive = term.copy()
        positive.set("negate", None)
        return _negated(positive)
    match term:
        case exp.And() | exp.Or():
            terms = [_translated(inner) for inner in term.flatten()]
            known = [inner for inner in terms if inner is not None]
            whole = all_of(*known) if isinstance(term, exp.And) else any_of(*known)
            return whole if len(known) == len(terms) else None
        case exp.Not():
            return _negated(term.this)
        case exp.Column():
            return Compare(_name(term), "=", Literal(True, "bool"))
        case exp.Between():
            bounds = _compare(term.this, ">=", term.args["low"]), _compare(term.this, "<=", term.args["high"])
            return all_of(*bounds) if None not in bounds else None
        case _:
            return _leaf(term)


def _negated(term: exp.Expr) -> Predicate | None:
    inner = _translated(term)
    return Not(inner) if inner is not None else None


def _leaf(term: exp.Expr) -> Predicate | None:
    operators: dict[type[exp.Expr], CompareOp] = {
        exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="
    }  # fmt: skip
    operator = operators.get(type(term))
    if operator is not None:
        return _compare(term.this, operator, term.expression) or _compare(
            term.expression, _FLIPPED[operator], term.this
        )
    if not isinstance(term.this, exp.Column):
        return None
    match term:
        case exp.Is():
            return _is(term)
        case exp.Like() | exp.ILike():
            return _like(term)
        case exp.In():
            values = [_literal(value) for value in term.expressions]
            known = tuple(value for value in values if value is not None)
            return In(_name(term.this), known) if known and len(known) == len(values) else None
        case _:
            return None


def _like(term: exp.Like | exp.ILike) -> Predicate | None:
    match _literal(term.expression):
        case Literal(str(pattern), "utf8"):
            return Like(_name(term.this), pattern, isinstance(term, exp.ILike))
        case _:
            return None


def _is(term: exp.Is) -> Predicate | None:
    if not isinstance(term.expression, exp.Null):
        return None
    return IsNull(_name(term.this))


def _compare(column: exp.Expr, operator: CompareOp, value: exp.Expr) -> Compare | None:
    literal = _literal(value)
    return Compare(_name(column), operator, literal) if isinstance(column, exp.Column) and literal else None


def _name(column: exp.Expr) -> str:
    return str(column.this.this)


def _literal(value: exp.Expr) -> Literal | None:
    """The value by its own type: what the column wants of it is known only with the schema."""
    value = value.unnest()
    match value:
        case exp.Boolean():
            return Literal(bool(value.this), "bool")
        case exp.Literal(is_string=True):
            return Literal(str(value.this), "utf8")
        case exp.Literal():
            return _number(str(value.this))
        case exp.Neg() if isinstance(value.this, exp.Literal) and not value.this.is_string:
            return _number(f"-{value.this.this}")
        case exp.Cast() if isinstance(value.this, exp.Literal) and value.this.is_string:
            return _moment(str(value.this.this), value.to.this)
        case _:
            return relative(value)


def _number(text: str) -> Literal | None:
    try:
        if text.removeprefix("-").isdecimal() and len(text) <= 20:
            number = int(text)
            return Literal(number, "int64") if -(2**63) <= number < 2**63 else None
        return Literal(float(text), "float64") if len(text) <= 20 else None
    except ValueError:
        return None


def _moment(text: str, kind: exp.DType) -> Literal | None:
    """DATE '..' and TIMESTAMP '..' as storage integers."""
    try:
        if kind == exp.DType.DATE:
            return Literal((date.fromisoformat(text) - _EPOCH.date()).days, "date32[day]")
        if kind == exp.DType.TIMESTAMP:
            at = datetime.fromisoformat(text)
            zoned = at.tzinfo is not None
            since = (at if zoned else at.replace(tzinfo=UTC)) - _EPOCH
            return Literal(since // timedelta(microseconds=1), "timestamp[us, tz=UTC]" if zoned else "timestamp[us]")
    except ValueError:
        return None
    return None
