"""Predicates as SQLite conditions over stored values, with bound parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import pyarrow as pa

from caraway.accelerators.sqlite.codec import Stored, codec_of
from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, Predicate, RawSql
from caraway.kernels import exact_scalar, scalar_of

Value: TypeAlias = int | str | bytes | None

_MAX_VALUES = 10_000
"""Far below the 32,766 parameters that a statement may have."""
_ZEROS = {"=": "IN (-1, 0)", "!=": "NOT IN (-1, 0)", "<": "< -1", "<=": "<= 0", ">": "> 0", ">=": ">= -1"}
"""Comparisons with 0.0, which -0.0 equals: codec.py keeps them as 0 and -1."""


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that is true for at least the rows of a predicate; with `exact`, it is the predicate, unknown included."""

    sql: str
    values: tuple[Value, ...] = ()
    exact: bool = True


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def condition(predicate: Predicate, types: Mapping[str, pa.DataType]) -> Condition | None:
    """What SQLite can check of a predicate, or None where that is nothing."""
    match predicate:
        case Compare(column, op, literal):
            return _compare(column, op, literal, types)
        case In(column, values):
            return _is_in(column, values, types)
        case IsNull(column):
            return _is_null(column, types)
        case Like(column, pattern, case_insensitive):
            return _like(column, pattern, types) if not case_insensitive else None
        case Not(term):
            return _negated(condition(term, types))
        case And(terms):
            return _all([condition(term, types) for term in terms])
        case Or(terms):
            return _any([condition(term, types) for term in terms])
        case RawSql():
            return None
        case _:
            assert_never(predicate)


def _compare(column: str, op: str, literal: Literal, types: Mapping[str, pa.DataType]) -> Condition | None:
    codec = codec_of(types[column])
    if not codec.in_table:
        return None
    if literal.value is None:
        return Condition("NULL")
    value = stored_value(literal, types[column])
    if value is None:
        return None
    if codec.zeros and value in {-1, 0}:
        return Condition(f"{quoted(column)} {_ZEROS[op]}")
    return Condition(f"{quoted(column)} {op} ?", (value,))


def _is_in(column: str, literals: tuple[Literal, ...], types: Mapping[str, pa.DataType]) -> Condition | None:
    codec = codec_of(types[column])
    if not codec.in_table or not 0 < len(literals) <= _MAX_VALUES:
        return None
    values = [None if literal.value is None else stored_value(literal, types[column]) for literal in literals]
    if any(value is None and literal.value is not None for value, literal in zip(values, literals, strict=True)):
        return None
    if codec.zeros and not {-1, 0}.isdisjoint(values):
        values += [-1, 0]
    return Condition(f"{quoted(column)} IN ({', '.join('?' * len(values))})", tuple(values))


def _is_null(column: str, types: Mapping[str, pa.DataType]) -> Condition | None:
    codec = codec_of(types[column])
    if codec.stored is Stored.NOTHING:
        return Condition("1")
    return Condition(f"{quoted(column)} IS NULL") if codec.in_table else None


def _like(column: str, pattern: str, types: Mapping[str, pa.DataType]) -> Condition | None:
    """GLOB, since LIKE ignores the case of ASCII letters; it ends at a NUL, so texts that hold one are let through."""
    if codec_of(types[column]).stored is not Stored.TEXT:
        return None
    special = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    glob = "".join(special.get(letter, letter) for letter in pattern)
    sql = f"({quoted(column)} GLOB ? OR instr({quoted(column)}, char(0)))"
    return Condition(sql, (glob,), exact=False)


def _negated(term: Condition | None) -> Condition | None:
    return Condition(f"NOT ({term.sql})", term.values) if term and term.exact else None


def _all(terms: list[Condition | None]) -> Condition | None:
    known = [term for term in terms if term is not None]
    if not known:
        return None if terms else Condition("1")
    exact = len(known) == len(terms) and all(term.exact for term in known)
    return Condition(_joined(known, "AND"), _values(known), exact)


def _any(terms: list[Condition | None]) -> Condition | None:
    known = [term for term in terms if term is not None]
    if len(known) < len(terms):
        return None
    return Condition(_joined(known, "OR") or "0", _values(known), all(term.exact for term in known))


def _joined(terms: list[Condition], word: str) -> str:
    return f" {word} ".join(f"({term.sql})" for term in terms)


def _values(terms: list[Condition]) -> tuple[Value, ...]:
    return tuple(value for term in terms for value in term.values)


def stored_value(literal: Literal, kind: pa.DataType) -> Value:
    """A literal as the column stores it, or None where the column's type can't express it."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    scalar = exact_scalar(scalar_of(literal), inner)
    if scalar is None:
        return None
    value: Value = codec_of(inner).encode(pa.array([scalar], inner))[0].as_py()
    return value
