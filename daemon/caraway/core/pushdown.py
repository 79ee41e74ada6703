"""From the filters of a plan to predicates that a store understands.

A plan's expressions come as a small tree of plain values. Whatever has no counterpart is `Opaque` and left out: the
engine applies every filter again, so a predicate may only ever be weaker than the filter that it came from.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from caraway.core.predicate import (
    And,
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
    columns_of,
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
    """An expression that only the engine can evaluate; `words` are those of its text, names of columns among them."""

    words: frozenset[str] = frozenset()


Expression: TypeAlias = Column | Literal | Binary | Negation | NullTest | Membership | Match | Opaque

_OPS: dict[str, CompareOp] = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED: dict[CompareOp, CompareOp] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def translate(expression: Expression) -> Predicate | None:
    """A predicate that holds wherever the expression does; None where there is none to be had."""
    match expression:
        case Binary("AND", left, right):
            return all_of(translate(left), translate(right))
        case Binary("OR", term, Literal(None | False)) | Binary("OR", Literal(None | False), term):
            return translate(term)
        case Binary("OR", left, right):
            terms = (translate(left), translate(right))
            return _either(*terms) if None not in terms else None
        case Membership(Column() as column, values):
            return _exact(Membership(column, tuple(value for value in values if not _is_null(value))))
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


def _is_null(value: Expression) -> bool:
    return isinstance(value, Literal) and value.value is None


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


def requests(
    tables: Sequence[str],
    scans: Sequence[Scan],
    keys: Mapping[str, Sequence[str]] | None = None,
    elsewhere: Collection[str] = (),
) -> tuple[ScanRequest, ...]:
    """One request a table, wide enough for each of its scans; a table without a scan is asked for whole.

    `keys` are the request columns of the tables that have some, `elsewhere` the words of all conditions in the plan
    that are of no scan alone (those of joins, for one).
    """
    return tuple(
        _with_keys(_request(table, mine), mine, (keys or {}).get(table, ()), elsewhere)
        for table in tables
        for mine in [[scan for scan in scans if scan.table == table]]
    )


def _request(table: str, scans: Sequence[Scan]) -> ScanRequest:
    if not scans:
        return ScanRequest(table)
    predicates = [translate(scan.filter) if scan.filter is not None else None for scan in scans]
    wanted = [predicate for predicate in predicates if predicate is not None]
    predicate = _either(*dict.fromkeys(wanted)) if len(wanted) == len(scans) else None
    limit = scans[0].limit if len(scans) == 1 and scans[0].filter is None else None
    return ScanRequest(table, _columns(scans), predicate, limit)


def _with_keys(
    request: ScanRequest, scans: Sequence[Scan], keys: Sequence[str], elsewhere: Collection[str]
) -> ScanRequest:
    """The request with the condition of each scan, and the keys whose values can't be told from it."""
    if not keys:
        return request
    each = [translate(scan.filter) if scan.filter is not None else None for scan in scans]
    unclear = {key for key in keys if key in elsewhere} if not scans else set[str]()
    for scan, condition in zip(scans, each, strict=True):
        asked = (mentions(scan.filter) if scan.filter is not None else frozenset()).union(elsewhere)
        unclear |= asked.intersection(keys) - told(condition)
    return replace(
        request,
        each=tuple(_telling(condition, frozenset(keys)) for condition in each),
        unclear=tuple(key for key in keys if key in unclear),
    )


def told(condition: Predicate | None) -> frozenset[str]:
    """The columns that can have none but certain known values where the condition holds."""
    match condition:
        case Compare(column, "=", _) | In(column, _):
            return frozenset({column})
        case And(terms):
            return frozenset[str]().union(*map(told, terms))
        case Or(terms):
            return told(terms[0]).intersection(*map(told, terms))
        case _:
            return frozenset()


def mentions(expression: Expression) -> frozenset[str]:
    """The columns that a condition is about, or more; whether one is NULL says nothing of its values."""
    match expression:
        case Column(name):
            return frozenset({name})
        case Opaque(words):
            return words
        case Binary(_, left, right):
            return mentions(left) | mentions(right)
        case Negation(term):
            return mentions(term)
        case NullTest(Column()):
            return frozenset()
        case NullTest(term):
            return mentions(term)
        case Membership(term, values):
            return mentions(term).union(*map(mentions, values))
        case Match(term, pattern):
            return mentions(term) | mentions(pattern)
        case Literal():
            return frozenset()
        case _:
            assert_never(expression)


def _telling(condition: Predicate | None, keys: frozenset[str]) -> Predicate | None:
    """The condition without those conjuncts that only narrow down keys whose values others tell."""
    known = told(condition)
    terms = condition.terms if isinstance(condition, And) else (condition,)
    return all_of(*(term for term in terms if not columns_of(term) & keys & known - told(term)))


def _columns(scans: Sequence[Scan]) -> tuple[str, ...] | None:
    """The union of the columns, in the order of their first mention; None is all of them."""
    if any(scan.columns is None for scan in scans):
        return None
    return tuple(dict.fromkeys(name for scan in scans for name in scan.columns or ()))
