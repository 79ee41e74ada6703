"""A query with values in the place of those subqueries that name requests, views and nested ones included."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TypeAlias

import pyarrow as pa

from caraway.core.predicate import Literal
from caraway.core.sqltext import literal
from caraway.query.worker.catalog import Names
from caraway.query.worker.expressions import literal_of
from caraway.query.worker.planning import Planned, Statement
from caraway.query.worker.subqueries import find_subquery

Evaluate: TypeAlias = Callable[[Statement], Awaitable[pa.ChunkedArray | None]]
"""The one column of a query; None if it can't be planned alone, since it reads columns of the query around it."""


async def with_values(planned: Planned, names: Names, evaluate: Evaluate) -> Statement:
    """The statement to run; the same one if its tables have no request columns, or no subquery names values of them."""
    columns = {column for name in planned.tables for column in names.infos[name].request_columns}
    if not columns:
        return planned.statement
    views: dict[str, str] = {}
    for name in planned.views:
        views[name] = await _told(Statement(names.views[name].sql, (), dict(views)), columns, evaluate)
    told = replace(planned.statement, views=views)
    told = replace(told, sql=await _told(told, columns, evaluate))
    changed = told.sql != planned.statement.sql or any(names.views[name].sql != sql for name, sql in views.items())
    return told if changed else planned.statement


async def _told(statement: Statement, columns: Collection[str], evaluate: Evaluate) -> str:
    """The text with values for its subqueries, the innermost first; those stay that can't stand alone."""
    sql, skipped = statement.sql, set[str]()
    while (subquery := find_subquery(sql, columns, skipped)) is not None:
        column = await evaluate(replace(statement, sql=subquery.sql))
        values = _literals(column) if column is not None else None
        if values is None:
            skipped.add(subquery.sql)
        else:
            sql = subquery.replaced(sql, values)
    return sql


def _literals(column: pa.ChunkedArray) -> list[str] | None:
    """The distinct values in SQL, NULL among them if there is one; None for types that SQL has no literals for."""
    texts = dict.fromkeys(_spelled(literal_of(value)) for value in column)
    return None if None in texts else sorted(filter(None, texts))


def _spelled(value: object) -> str | None:
    return literal(value) if isinstance(value, Literal) else None
