"""What a plan tells before it runs: a name for it, the tables that it reads, whether its answer may be kept."""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

import pyarrow as pa

from caraway.core.names import SYSTEM_SCHEMAS
from caraway.model import PlanFacts
from caraway.query.worker.catalog import CATALOG, Names
from caraway.query.worker.words import PLACE, words

VOLATILE = frozenset(
    {
        *("current_date", "current_time", "current_timestamp", "now", "today"),
        *("rand", "random", "uuid"),
        *("file_row_index", "input_file_name"),
    }
)
"""The functions that information_schema.routines calls not deterministic (datafusion 55)."""
_VOLATILE_CALL = re.compile(rf"\b(?:{'|'.join(sorted(VOLATILE))})\(")
_NO_ROWS_OF_TABLES = ("Explain", "Analyze", "DescribeTable")
_SYSTEM_SCAN = re.compile(rf"^\s*TableScan: (?:{CATALOG}\.)?(?:{'|'.join(sorted(SYSTEM_SCHEMAS))})\.", re.MULTILINE)


def facts_of(
    display: str, sql: str, values: Mapping[str, pa.Scalar], *, reads: Iterable[str], names: Names
) -> PlanFacts:
    """The facts of a plan, by its `display_indent_schema`, that reads these tables (qualified names).

    The display shows `a - (b - c)` as `a - b - c`, five rows of VALUES, no arguments of table functions, and a quote
    in a string as it is; so the key holds the query's own words as well, and the display for what parameters do to
    the types and names of columns.
    """
    key = repr((names.version, display, *spelled(sql, values)))
    return PlanFacts(
        blake2b(key.encode(), digest_size=16).hexdigest(),
        tuple(names.infos[name].name for name in reads),
        cacheable=not display.startswith(_NO_ROWS_OF_TABLES) and _SYSTEM_SCAN.search(display) is None,
        volatile=_VOLATILE_CALL.search(display) is not None,
    )


def spelled(sql: str, values: Mapping[str, pa.Scalar]) -> Iterator[str]:
    """The words of a query, however they are set, with its parameters in their places; equal only for equal queries."""
    found = words(sql)
    if found is None:
        yield from (sql, *(f"${name}={value!r}" for name, value in sorted(values.items())))
        return
    for word in found:
        yield _literal(word.text[1:], values) if word.kind == PLACE else word.text


def _literal(place: str, values: Mapping[str, pa.Scalar]) -> str:
    """The value as a query would write it, or in a form that no query has."""
    if place not in values:
        return f"${place}"
    value = values[place].as_py()
    match value:
        case str():
            return "'{}'".format(value.replace("'", "''"))
        case None | bool() | int() | float():
            return str(value).lower().replace("none", "null")
        case _:
            return f"${values[place]!r}"
