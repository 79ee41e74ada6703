"""Which requests to an API a condition on `request_*` columns names.

A condition is read as alternatives, each of which admits a set of values for each of some columns: AND intersects,
OR over the same columns joins. The requests are all combinations; a column that no condition is about is left out of
the request.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from typing import TypeAlias

from caraway.core.predicate import And, Compare, In, IsNull, Literal, Not, Or, Predicate, columns_of, has_raw
from caraway.errors import QueryError
from caraway.model import Request

PATH, QUERY, BODY, HEADERS = "request_path", "request_query", "request_body", "request_headers"
REQUEST_COLUMNS = (PATH, QUERY, BODY, HEADERS)

MOST_REQUESTS = 20_000
"""Of one query, whatever the dataset allows."""

HELP = "Name their values with =, IN, OR on one column, or IN (SELECT ..)."

_Alternative: TypeAlias = Mapping[str, frozenset[str]]
_ANYTHING: tuple[_Alternative, ...] = ({},)
_NOTHING: tuple[_Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    """What one reading of the table asks for, and the columns that it says something of."""

    requests: frozenset[Request]
    columns: tuple[str, ...]

    def told(self, request: Request) -> tuple[str, ...]:
        """What rows of a request say in these columns."""
        return tuple(_row_value(request, column) for column in self.columns)


def requests_of(
    conditions: Sequence[Predicate | None], columns: Collection[str] = REQUEST_COLUMNS, *, limit: int | None = None
) -> tuple[Request, ...] | None:
    """The distinct requests that rows which meet any of the conditions come from, in a stable order, paths sorted.

    None where no condition says anything of `columns`, () where none can be met. QueryError INVALID for conditions
    that name no values, for more requests than `limit` (max_request_partitions) or MOST_REQUESTS, and where the rows
    that one condition asks for would also be seen by another one, which asks for less.
    """
    read = [_alternatives(condition, frozenset(columns)) for condition in dict.fromkeys(conditions)]
    if all(alternatives == _ANYTHING for alternatives in read):
        return None
    named = [_named(alternatives) for alternatives in read]
    found = frozenset[Request]().union(*(each.requests for each in named))
    _check_count(len(found), limit)
    _check_apart(named, found)
    return tuple(sorted(found, key=_order))


def _alternatives(predicate: Predicate | None, columns: frozenset[str]) -> tuple[_Alternative, ...]:
    match predicate:
        case None:
            return _ANYTHING
        case Compare(column, "=", value) if column in columns:
            return _values(column, (value,))
        case In(column, values) if column in columns:
            return _values(column, values)
        case IsNull(column) if column in columns:
            return _NOTHING  # rows say '' where a request says nothing
        case Not(IsNull(column)) if column in columns:
            return _ANYTHING
        case And(terms):
            return reduce(_both, (_alternatives(term, columns) for term in terms), _ANYTHING)
        case Or(terms):
            return _either([each for term in terms for each in _alternatives(term, columns)])
        case _ if columns_of(predicate) & columns or has_raw(predicate):
            unclear = ", ".join(sorted(columns_of(predicate) & columns)) or "the request"
            raise QueryError(f"A condition on {unclear} does not say which requests to send. {HELP}")
        case _:
            return _ANYTHING


def _values(column: str, literals: Sequence[Literal]) -> tuple[_Alternative, ...]:
    texts = {literal.value for literal in literals if literal.value is not None}  # nothing equals NULL
    told = frozenset(text for text in texts if isinstance(text, str))
    if len(told) < len(texts):
        raise QueryError(f"{column} is text: compare it with text in quotes.")
    if column == PATH and "" in told:
        raise QueryError(f"{PATH} can't be empty. Leave the condition out to ask for the address of the dataset.")
    return ({column: told},) if told else _NOTHING


def _both(ones: tuple[_Alternative, ...], others: tuple[_Alternative, ...]) -> tuple[_Alternative, ...]:
    _check_count(len(ones) * len(others), None)
    met = (
        {**one, **other, **{key: one[key] & other[key] for key in one.keys() & other}}
        for one, other in product(ones, others)
    )
    return tuple(alternative for alternative in met if all(alternative.values()))


def _either(alternatives: Sequence[_Alternative]) -> tuple[_Alternative, ...]:
    about = {tuple(sorted(alternative)) for alternative in alternatives}
    if len(about) > 1:
        told = ", ".join(sorted({column for columns in about for column in columns}))
        raise QueryError(
            f"The alternatives of an OR do not all say the same of {told}, so that a request would have to be guessed. "
            "Let each alternative name values of the same request columns, or use UNION ALL."
        )
    if not alternatives or len(about.pop()) != 1:
        return tuple(alternatives) if not alternatives or alternatives[0] else _ANYTHING
    [column] = alternatives[0]
    return ({column: frozenset[str]().union(*(alternative[column] for alternative in alternatives))},)


def _named(alternatives: tuple[_Alternative, ...]) -> _Named:
    _check_count(sum(prod(len(values) for values in each.values()) for each in alternatives), None)
    columns = tuple(alternatives[0]) if alternatives else ()
    return _Named(frozenset(request for each in alternatives for request in _combinations(each)), columns)


def _combinations(alternative: _Alternative) -> Iterator[Request]:
    paths, queries, headers = (alternative.get(column, ("",)) for column in (PATH, QUERY, HEADERS))
    bodies = alternative.get(BODY, (None,))
    return (Request(*values) for values in product(paths, queries, bodies, headers))


def _check_count(count: int, limit: int | None) -> None:
    most = min(limit or MOST_REQUESTS, MOST_REQUESTS)
    if count > most:
        bound = "max_request_partitions of the dataset" if most == limit else "the most that one query may send"
        raise QueryError(f"The conditions name {count} requests; {most} is {bound}. Ask for fewer values.")


def _check_apart(named: Sequence[_Named], found: frozenset[Request]) -> None:
    """All readings of a table in a query see the rows of all its requests, so each has to tell which are its own."""
    for each in named:
        others = found - each.requests
        own = {each.told(request) for request in each.requests} if others else set()
        for request in sorted(others, key=_order):
            if each.told(request) in own:
                raise QueryError(_overlap(each, request))


def _overlap(narrow: _Named, request: Request) -> str:
    silent = [column for column in REQUEST_COLUMNS if column not in narrow.columns and _row_value(request, column)]
    return (
        "The query reads the table more than once, and one reading would see rows that another one asks for: it says "
        f"nothing of {', '.join(silent) or BODY}. Let each reading say the same columns, or ask in two queries."
    )


def _row_value(request: Request, column: str) -> str:
    """What the rows of a request say in a column."""
    match column:
        case "request_path":
            return request.path
        case "request_query":
            return request.query
        case "request_headers":
            return request.headers
        case _:
            return request.body or ""


def _order(request: Request) -> tuple[str, str, bool, str, str]:
    return request.path, request.query, request.body is not None, request.body or "", request.headers
