"""Row conditions as values: what a plan, a refresh or a retention asks of a table, independent of any dialect."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal as OneOf
from typing import TypeAlias, assert_never

CompareOp: TypeAlias = OneOf["=", "!=", "<", "<=", ">", ">="]

NOW = "now"
"""The type of a literal that stands for its value in nanoseconds after the moment of evaluation; see `bind_now`."""
TODAY = "today"
"""As NOW, for the day (in UTC) that the moment falls on."""
_MILLI = 1_000_000
_DAY = 86_400_000 * _MILLI


@dataclass(frozen=True, slots=True)
class Literal:
    """An Arrow scalar without Arrow: `type` is Arrow's name of the type (`int64`, `timestamp[us, tz=UTC]`, `utf8` ...).

    Dates, times, timestamps and durations carry their storage integer, in the unit that the type names.
    """

    value: bool | int | float | str | bytes | Decimal | None
    type: str


@dataclass(frozen=True, slots=True)
class Compare:
    column: str
    op: CompareOp
    value: Literal


@dataclass(frozen=True, slots=True)
class In:
    column: str
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str


@dataclass(frozen=True, slots=True)
class Like:
    """SQL LIKE (`%`, `_`, no escape character)."""

    column: str
    pattern: str
    case_insensitive: bool = False


@dataclass(frozen=True, slots=True)
class RawSql:
    """A condition that only a SQL engine understands, as text with quoted identifiers; local evaluation refuses it."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    term: "Predicate"


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple["Predicate", ...]


Predicate: TypeAlias = Compare | In | IsNull | Like | RawSql | Not | And | Or


def all_of(*terms: Predicate | None) -> Predicate | None:
    """The conjunction of the terms that are there; None where there is none."""
    flat = tuple(inner for term in terms if term is not None for inner in _conjuncts(term))
    return flat[0] if len(flat) == 1 else And(flat) if flat else None


def any_of(*terms: Predicate) -> Predicate:
    """The disjunction of one or more terms."""
    return terms[0] if len(terms) == 1 else Or(terms)


def columns_of(predicate: Predicate | None) -> frozenset[str]:
    """The columns a predicate reads; those inside RawSql are not known."""
    return frozenset(_columns(predicate)) if predicate is not None else frozenset()


def has_raw(predicate: Predicate | None) -> bool:
    """Whether only a SQL engine can evaluate it."""
    return bool(raw_terms(predicate))


def raw_terms(predicate: Predicate | None) -> tuple[str, ...]:
    """The conditions in it that only a SQL engine can evaluate."""
    match predicate:
        case RawSql(text):
            return (text,)
        case Not(term):
            return raw_terms(term)
        case And(terms) | Or(terms):
            return tuple(text for term in terms for text in raw_terms(term))
        case _:
            return ()


def bind_now(predicate: Predicate, now: int) -> Predicate:
    """The predicate with ordinary literals for those of NOW and TODAY; `now` is nanoseconds since 1970 UTC.

    Milliseconds are exact in columns of nearly every unit, so that a store can compare without widening the column.
    """
    match predicate:
        case Compare(column, op, value):
            return Compare(column, op, _at(value, now))
        case In(column, values):
            return In(column, tuple(_at(value, now) for value in values))
        case Not(term):
            return Not(bind_now(term, now))
        case And(terms):
            return And(tuple(bind_now(term, now) for term in terms))
        case Or(terms):
            return Or(tuple(bind_now(term, now) for term in terms))
        case IsNull() | Like() | RawSql():
            return predicate
        case _:
            assert_never(predicate)


def relative_columns(predicate: Predicate | None) -> frozenset[str]:
    """The columns that are compared with a NOW or TODAY; where there are any, time alone changes what is true."""
    match predicate:
        case Compare(column, _, Literal(type="now" | "today")):
            return frozenset({column})
        case In(column, values) if any(value.type in (NOW, TODAY) for value in values):
            return frozenset({column})
        case Not(term):
            return relative_columns(term)
        case And(terms) | Or(terms):
            return frozenset[str]().union(*map(relative_columns, terms))
        case _:
            return frozenset()


def _at(literal: Literal, now: int) -> Literal:
    match literal:
        case Literal(int(offset), "now"):
            return Literal((now + offset) // _MILLI, "timestamp[ms, tz=UTC]")
        case Literal(int(offset), "today"):
            return Literal((now + offset) // _DAY, "date32[day]")
        case _:
            return literal


def _conjuncts(predicate: Predicate) -> Iterator[Predicate]:
    if isinstance(predicate, And):
        for term in predicate.terms:
            yield from _conjuncts(term)
    else:
        yield predicate


def _columns(predicate: Predicate) -> Iterator[str]:
    match predicate:
        case Compare(column=column) | In(column=column) | IsNull(column=column) | Like(column=column):
            yield column
        case Not(term):
            yield from _columns(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from _columns(term)
        case RawSql():
            pass
