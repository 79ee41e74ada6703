"""From the filters of a plan to predicates that a store understands.

A plan's expressions come as a small tree of plain values. Whatever has no counterpart is `Opaque` and left out: the
engine applies every filter again, so a predicate may only ever be weaker than the filter that it came from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caraway.core.predicate import (
    Compare,
    CompareOp,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Predicate,
    all_of,
    any_of,
)
from caraway.model import ScanRequest


@dataclass(frozen=True, slots=True)
class Column:
    name: str


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Negation:
    term: "Expression"


@dataclass(frozen=True, slots=True)
class NullTest:
    term: "Expression"


@dataclass(frozen=True, slots=True)
class Membership:
    term: "Expression"
    values: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Match:
    """LIKE; `escape` is the escape character where the query names one."""

    term: "Expression"
    pattern: "Expression"
    escape: str | None = None
    case_insensitive: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """An expression that only the engine can evaluate."""


Expression: TypeAlias = Column | Literal | Binary | Negation | NullTest | Membership | Match | Opaque

_OPS: dict[str, CompareOp] = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED: dict[CompareOp, CompareOp] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def translate(expression: Expression) -> Predicate | None:
    """A predicate that holds wherever the expression does; None where there is none to be had."""
    match expression:
        case Binary("AND", left, right):
            return all_of(translate(left), translate(right))
        case Binary("OR", left, right):
            terms = (translate(left), translate(right))
            return _either(*terms) if None not in terms else None
        case _:
            return _exact(expression)


def _exact(expression: Expression) -> Predicate | None:
    """The predicate that holds exactly where the expression does, NULLs included; under NOT nothing less will do."""
    match expression:
        case Binary("AND" | "OR" as op, left, right):
            terms = (_exact(left), _exact(right))
            if None in terms:
                return None
            return all_of(*terms) if op == "AND" else _either(*terms)
        case Binary(op, Column(name), Literal() as value) if op in _OPS and _known(value):
            return Compare(name, _OPS[op], value)
        case Binary(op, Literal() as value, Column(name)) if op in _OPS and _known(value):
            return Compare(name, _MIRRORED[_OPS[op]], value)
        case Column(name):
            return Compare(name, "=", Literal(True, "bool"))
        case Negation(term):
            negated = _exact(term)
            return Not(negated) if negated is not None else None
        case NullTest(Column(name)):
            return IsNull(name)
        case Membership(Column(name), values):
            literals = tuple(value for value in values if isinstance(value, Literal) and _known(value))
            return In(name, literals) if literals and len(literals) == len(values) else None
        case Match(Column(name), Literal(str() as pattern), None, insensitive) if "\\" not in pattern:
            return Like(name, pattern, insensitive)
        case _:
            return None


def _either(*terms: Predicate | None) -> Predicate:
    flat: list[Predicate] = []
    for term in terms:
        if isinstance(term, Or):
            flat.extend(term.terms)
        elif term is not None:
            flat.append(term)
    return any_of(*flat)


def _known(value: Literal) -> bool:
    """NULL and NaN compare differently from engine to engine."""
    return value.value is not None and not (isinstance(value.value, float) and math.isnan(value.value))


@dataclass(frozen=True, slots=True)
class Scan:
    """One reading of a table in a plan: its columns, the filter above it, its own row limit."""

    table: str
    columns: tuple[str, ...] | None = None
    filter: Expression | None = None
    limit: int | None = None


def requests(tables: Sequence[str], scans: Sequence[Scan]) -> tuple[ScanRequest, ...]:
    """One request a table, wide enough for each of its scans; a table without a scan is asked for whole."""
    return tuple(_request(table, [scan for scan in scans if scan.table == table]) for table in tables)


def _request(table: str, scans: Sequence[Scan]) -> ScanRequest:
    if not scans:
        return ScanRequest(table)
    predicates = [translate(scan.filter) if scan.filter is not None else None for scan in scans]
    wanted = [predicate for predicate in predicates if predicate is not None]
    predicate = _either(*dict.fromkeys(wanted)) if len(wanted) == len(scans) else None
    limit = scans[0].limit if len(scans) == 1 and scans[0].filter is None else None
    return ScanRequest(table, _columns(scans), predicate, limit)


def _columns(scans: Sequence[Scan]) -> tuple[str, ...] | None:
    """The union of the columns, in the order of their first mention; None is all of them."""
    if any(scan.columns is None for scan in scans):
        return None
    return tuple(dict.fromkeys(name for scan in scans for name in scan.columns or ()))
