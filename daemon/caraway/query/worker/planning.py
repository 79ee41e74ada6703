"""A query planned over empty tables: what it tells of itself, and what it wants of the real ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
from datafusion import DataFrame, SessionContext, SQLOptions
from datafusion.plan import LogicalPlan

from caraway.core.pushdown import requests
from caraway.model import Parameters, PlanFacts, ScanRequest
from caraway.query.worker.catalog import Names, Namespace
from caraway.query.worker.expressions import words_of
from caraway.query.worker.facts import facts_of
from caraway.query.worker.parameters import bind
from caraway.query.worker.scans import (
    Reading,
    conditions_elsewhere,
    forbid_writes,
    readings,
    scans_any,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A query; `views`, by qualified name and each after those that it reads, stand for those of the catalog."""

    sql: str
    parameters: Parameters = ()
    views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """`frame` would run over empty tables; `tables` are those that must be resolved, each by one of the `requests`."""

    statement: Statement
    frame: DataFrame
    facts: PlanFacts
    tables: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    requests: tuple[ScanRequest, ...] = ()


def plan_of(statement: Statement, context: SessionContext, space: Namespace, names: Names) -> Planned:
    """QueryError FORBIDDEN for what writes; DataFusion's own errors for what it can't plan."""
    space.reset(names)
    for name, sql in statement.views.items():
        space.real[name] = context.sql(sql).into_view()
    text, values = bind(statement.sql, statement.parameters)
    frame = sql_frame(context, text, values)
    plan = frame.logical_plan()
    forbid_writes(plan)
    tables, views = names.reached(frozenset(space.looked_up))
    if not scans_any(plan, (*tables, *views)):
        tables, views = (), ()
    facts = facts_of(plan.display_indent_schema(), text, values, reads=tables, names=names)
    if not tables:
        return Planned(statement, frame, facts)
    reads, wanted = _wanted(frame.optimized_logical_plan(), tables, names, changed=bool(statement.views))
    named = tuple(replace(request, table=names.infos[request.table].name) for request in wanted)
    return Planned(statement, frame, facts, tuple(request.table for request in wanted), views, reads, named)


def sql_frame(context: SessionContext, text: str, values: dict[str, pa.Scalar]) -> DataFrame:
    """The query, which may read and do nothing else."""
    options = SQLOptions().with_allow_ddl(allow=False).with_allow_dml(allow=False).with_allow_statements(allow=False)
    return context.sql_with_options(text, options, values)


def _wanted(
    plan: LogicalPlan, tables: tuple[str, ...], names: Names, *, changed: bool
) -> tuple[tuple[Reading, ...], tuple[ScanRequest, ...]]:
    """The scans of an optimised plan, if they can be told, and a request for each table.

    A table with request columns that the optimiser left out is not asked for: that would send a request. Nor is one
    that only a view of the catalog reads, where another one stands for that.
    """
    reads = readings(plan, names.schemas)
    keys = {name: columns for name in tables if (columns := names.infos[name].request_columns)}
    if not keys and not changed:
        return reads or (), requests(tables, [reading.scan for reading in reads or ()])
    if reads is None:
        return (), requests(tables, (), keys, words_of(plan.display_indent()))
    scanned = {reading.scan.table for reading in reads}
    tables = tuple(name for name in tables if name in scanned or not (changed or name in keys))
    return reads, requests(tables, [reading.scan for reading in reads], keys, conditions_elsewhere(plan))
