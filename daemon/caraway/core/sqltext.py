"""Reads as SQL text for a DataFusion upstream: quoted names, exact literals, and what it can't be told stays here.

Literals that have no plain spelling go through `arrow_cast`, which keeps type, unit, zone, precision and the last bit
of a float; DataFusion folds it into a constant, so that it does not stand in the way of pruning. A LIKE pattern with a
backslash is not told: DataFusion takes it for an escape, a `Like` has none.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from caraway.core.predicate import (
    And,
    Compare,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Predicate,
    RawSql,
    all_of,
    columns_of,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """`sql` gives every wanted row and column; `rest` is the condition still to apply, over columns that it gives."""

    sql: str
    rest: Predicate | None = None


def select(
    table: Sequence[str],
    columns: Sequence[str] | None = None,
    predicate: Predicate | None = None,
    limit: int | None = None,
) -> Statement:
    """`SELECT columns FROM table WHERE predicate LIMIT limit`, as much of it as SQL text can say."""
    condition, rest = split(predicate)
    parts = [f"SELECT {_columns(columns, rest)} FROM {'.'.join(map(quote, table))}"]
    if condition is not None:
        parts.append(f"WHERE {condition}")
    if limit is not None and rest is None:
        parts.append(f"LIMIT {limit}")
    return Statement(" ".join(parts), rest)


def split(predicate: Predicate | None) -> tuple[str | None, Predicate | None]:
    """The conjuncts that SQL can say as one condition, and those that it can't."""
    terms = predicate.terms if isinstance(predicate, And) else () if predicate is None else (predicate,)
    texts = [(term, condition(term)) for term in terms]
    said = " AND ".join(text for _, text in texts if text is not None)
    return said or None, all_of(*(term for term, text in texts if text is None))


def condition(predicate: Predicate) -> str | None:
    """The condition, in parentheses where it needs them; None if any part of it can't be said."""
    match predicate:
        case Compare(column, op, value):
            return _join(" ", quote(column), "<>" if op == "!=" else op, literal(value))
        case In(column, values):
            return _in(quote(column), values)
        case IsNull(column):
            return f"{quote(column)} IS NULL"
        case Like(column, pattern, case_insensitive):
            return _like(column, pattern, "ILIKE" if case_insensitive else "LIKE")
        case RawSql(text):
            return f"({text})"
        case Not(term):
            inner = condition(term)
            return None if inner is None else f"NOT ({inner})"
        case And(terms):
            return _group(" AND ", terms)
        case Or(terms):
            return _group(" OR ", terms)
        case _:
            assert_never(predicate)


def literal(value: Literal) -> str | None:
    """The value in SQL; None for a type that it has no spelling for."""
    if value.value is None:
        return "NULL"
    for pattern, spell in _SPELLINGS:
        if match := pattern.fullmatch(value.type):
            return spell(value.value, match)
    return None


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def text(value: object) -> str:
    """A string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def _columns(columns: Sequence[str] | None, rest: Predicate | None) -> str:
    if columns is None:
        return "*"
    wanted = dict.fromkeys((*columns, *sorted(columns_of(rest))))
    return ", ".join(map(quote, wanted)) or "1"


def _group(glue: str, terms: Sequence[Predicate]) -> str | None:
    joined = _join(glue, *map(condition, terms))
    return None if joined is None else f"({joined})"


def _in(column: str, values: Sequence[Literal]) -> str | None:
    if not values:
        return "FALSE"
    listed = _join(", ", *map(literal, values))
    return None if listed is None else f"{column} IN ({listed})"


def _like(column: str, pattern: str, operator: str) -> str | None:
    return None if "\\" in pattern else f"{quote(column)} {operator} {text(pattern)}"


def _join(glue: str, *parts: str | None) -> str | None:
    said = [part for part in parts if part is not None]
    return glue.join(said) if len(said) == len(parts) else None


def _cast(value: object, arrow_type: str) -> str:
    return f"arrow_cast({value}, {text(arrow_type)})"


_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}


def _timestamp(value: object, match: re.Match[str]) -> str:
    zone = f'Some("{match[2]}")' if match[2] else "None"
    return _cast(value, f"Timestamp({_UNITS[match[1]]}, {zone})")


_SPELLINGS: tuple[tuple[re.Pattern[str], Callable[[object, re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), spell)
    for pattern, spell in (
        (r"bool(?:ean)?", lambda value, _: "TRUE" if value else "FALSE"),
        (r"u?int(?:8|16|32|64)", lambda value, _: str(value)),
        (r"(?:large_)?(?:string|utf8)|string_view|utf8_view", lambda value, _: text(value)),
        (r"float|float32", lambda value, _: _cast(text(value), "Float32")),
        (r"double|float64", lambda value, _: _cast(text(value), "Float64")),
        (
            r"decimal(128|256)\((\d+), ?(-?\d+)\)",
            lambda value, m: _cast(text(f"{value:f}"), f"Decimal{m[1]}({m[2]}, {m[3]})"),
        ),
        (r"date32(?:\[day\])?", lambda value, _: _cast(value, "Date32")),
        (r"date64(?:\[ms\])?", lambda value, _: _cast(value, "Date64")),
        (r"time32\[(s|ms)\]", lambda value, m: _cast(_cast(value, "Int32"), f"Time32({_UNITS[m[1]]})")),
        (r"time64\[(us|ns)\]", lambda value, m: _cast(value, f"Time64({_UNITS[m[1]]})")),
        (r"timestamp\[(s|ms|us|ns)(?:, tz=([\w/+:-]+))?\]", _timestamp),
        (r"duration\[(s|ms|us|ns)\]", lambda value, m: _cast(value, f"Duration({_UNITS[m[1]]})")),
        (r"(?:large_)?binary|binary_view", lambda value, _: f"X'{value.hex()}'"),
    )
)
