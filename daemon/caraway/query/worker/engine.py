"""DataFusion as the worker uses it: sessions with one memory pool, two plannings a query, a proof that one stopped."""

import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
from datafusion import DataFrame, RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.record_batch import RecordBatch

from caraway.errors import QueryError, QueryFailure
from caraway.model import Catalog, Pinned, ScanRequest
from caraway.query.settings import WorkerSettings
from caraway.query.worker import catalog as names_of
from caraway.query.worker.catalog import CATALOG, SCHEMA, Names, Namespace, qualified
from caraway.query.worker.pace import Pace
from caraway.query.worker.parameters import bind
from caraway.query.worker.planning import Planned, Statement, plan_of, sql_frame
from caraway.query.worker.scans import Reading, only_selects
from caraway.query.worker.tables import FEW_ROWS, Opened, Tables

_OPTIONS = {
    "datafusion.execution.parquet.pushdown_filters": "true",
    "datafusion.execution.parquet.reorder_filters": "true",
    # As joins, scalar subqueries are nodes: their scans can be read from the plan, and their end from its metrics.
    "datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery": "false",
}
_PLANNING = {
    # It moves `column['key']` down between a filter and its scan, where the filter would no longer be found.
    "datafusion.optimizer.enable_leaf_expression_pushdown": "false",
}
BATCH, SCAN_BATCH = 8192, 32768
MOST_SPILL = 100 * 1024**3
"""One query spills at most so many bytes, and at most half of what is free."""
FOOTERS = "8M"
"""Of Parquet footers, for each session: the engine's default of 50M times the sessions would be a leak."""
IDLE = 60.0
"""Seconds after which what no query used is let go."""
_STOPS_EARLY = re.compile(r"Limit|TopK|\b(limit|fetch|lim)=")


@dataclass(slots=True)
class Running:
    """What a query holds while it runs; `frame` and `stream` from the start of its execution.

    `stream` is the binding's own object, and stands nowhere else: the wrapper's coroutine would stay in the traceback
    of a cancellation, hold the stream, and so keep the query running.
    """

    frame: DataFrame | None = None
    stream: AsyncIterator[RecordBatch] | None = None
    exhausted: bool = False
    """Whether the stream gave all it had."""
    opened: list[Opened] = field(default_factory=list)

    @property
    def started(self) -> DataFrame:
        if self.frame is None:
            raise RuntimeError("the query was not started")
        return self.frame


class Session:
    """Two contexts over one catalog: to plan with empty tables, to run with real ones. One query at a time."""

    def __init__(self, runtime: RuntimeEnvBuilder, settings: WorkerSettings, tables: Tables) -> None:
        self._planning, self._planning_names = _context(runtime, settings, _PLANNING)
        self._running, self._running_names = _context(runtime, settings, {})
        self._tables = tables
        self._partitions = settings.partitions
        self._set: dict[str, int] = {}
        self.names = Names(version=-1)

    def load(self, catalog: Catalog) -> Names:
        """Take a catalog in; other sessions may adopt the result."""
        return names_of.load(catalog, self._planning, self._planning_names)

    def plan(self, statement: Statement) -> Planned:
        """See planning.plan_of."""
        return plan_of(statement, self._planning, self._planning_names, self.names)

    def begin(self, statement: Statement, running: Running) -> Planned:
        """Plan; a query that reads none of the tables is started at once."""
        planned = self.plan(statement)
        if not planned.tables:
            _execute(planned.frame, running)
        return planned

    def begin_alone(self, statement: Statement, running: Running) -> Planned | None:
        """`begin` for a part of a query; None if it can't be planned without the rest."""
        try:
            return self.begin(statement, running)
        except QueryError:
            raise
        except Exception:  # noqa: BLE001 - the binding raises bare Exception
            return None

    def bring(self, planned: Planned, pins: tuple[Pinned, ...], running: Running) -> tuple[ScanRequest, ...]:
        """Put real tables in place; what to ask again, of the source, since the local answer is empty."""
        self._running_names.reset(self.names)
        self._tune(planned, pins)
        for name, request, pinned in zip(planned.tables, planned.requests, pins, strict=True):
            self._place(name, request, pinned, running)
        return tuple(
            replace(request, from_source=True)
            for name, request in zip(planned.tables, planned.requests, strict=True)
            if self.names.infos[name].use_source_on_zero and self._is_empty(name, planned.readings)
        )

    def _tune(self, planned: Planned, pins: tuple[Pinned, ...]) -> None:
        """Large batches where nothing can make them larger still; one thread where there is little to share out.

        A batch costs a hop from the engine's threads to ours, so a scan of 1 M rows takes the worker 39 ms of CPU by
        32768 rows and 116 by 8192; but the engine does not account for the batches that joins and functions make.
        An exchange between partitions costs small queries a fifth of their CPU.
        """
        plain = len(planned.readings) == 1 and not planned.views and only_selects(planned.frame.logical_plan())
        few = sum(pinned.snapshot.rows for pinned in pins) <= FEW_ROWS
        self._option("datafusion.execution.batch_size", SCAN_BATCH if plain else BATCH)
        self._option("datafusion.execution.target_partitions", 1 if few else self._partitions)

    def _option(self, name: str, value: int) -> None:
        if self._set.get(name) != value:
            self._running.sql(f"SET {name} = {value}")
            self._set[name] = value

    def replace(self, again: tuple[ScanRequest, ...], pins: tuple[Pinned, ...], running: Running) -> None:
        """Put the source's answers in the place of empty local ones."""
        for request, pinned in zip(again, pins, strict=True):
            self._place(qualified(request.table), request, pinned, running)

    def _place(self, name: str, request: ScanRequest, pinned: Pinned, running: Running) -> None:
        opened = self._tables.open(request, pinned, self.names.schemas[name])
        running.opened.append(opened)
        self._running_names.real[name] = opened.table

    def _is_empty(self, name: str, reads: tuple[Reading, ...]) -> bool:
        """Whether one of the scans of a table gives no row; without known scans, whether it has none."""
        mine = [reading for reading in reads if reading.scan.table == name]
        if not mine:
            return not _any_row(self._running.table(name))
        for reading in mine:
            rows = self._running.table(reading.reference)
            if not _any_row(rows.filter(reading.filter) if reading.filter is not None else rows):
                return True
        return False

    def holds(self, planned: Planned, pins: tuple[Pinned, ...]) -> bool:
        """Whether all of the snapshots are open already, and none has to be read to know whether it will do."""
        return all(
            self._tables.is_open(request, pinned) and not self.names.infos[name].use_source_on_zero
            for name, request, pinned in zip(planned.tables, planned.requests, pins, strict=True)
        )

    def bring_and_start(self, planned: Planned, pins: tuple[Pinned, ...], running: Running) -> tuple[ScanRequest, ...]:
        """Start over the snapshots; if something must be asked again instead, only that comes back."""
        again = self.bring(planned, pins, running)
        if not again:
            self.start(planned, running)
        return again

    def start(self, planned: Planned, running: Running) -> None:
        """Start the query over the real tables that are in place."""
        statement = planned.statement
        for name in planned.views:
            sql = statement.views.get(name, self.names.views[name].sql)
            self._running_names.real[name] = self._running.sql(sql).into_view()
        _execute(sql_frame(self._running, *bind(statement.sql, statement.parameters)), running)

    def table_schema(self, name: str) -> pa.Schema:
        """The schema of a table or view; QueryError NOT_FOUND."""
        table = self.names.table(qualified(name.removeprefix(f"{CATALOG}.")))
        if table is None:
            raise QueryError(f"Table {name!r} not found", QueryFailure.NOT_FOUND)
        return table.schema

    def rest(self) -> None:
        """Let go of a query's tables."""
        self._running_names.reset(self.names)


def _execute(frame: DataFrame, running: Running) -> None:
    running.stream = frame.execute_stream().rbs
    running.frame = frame


def _any_row(rows: DataFrame) -> bool:
    return any(batch.num_rows for batch in rows.limit(1).collect())


def _context(
    runtime: RuntimeEnvBuilder, settings: WorkerSettings, options: Mapping[str, str]
) -> tuple[SessionContext, Namespace]:
    config = (
        SessionConfig({**_OPTIONS, **options, "datafusion.execution.spill_compression": settings.spill_compression})
        .with_create_default_catalog_and_schema(enabled=False)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(enabled=True)
        .with_target_partitions(settings.partitions)
    )
    context, space = SessionContext(config, runtime), Namespace()
    spill = min(shutil.disk_usage(settings.directory).free // 2, MOST_SPILL)
    # This forgets any other directory than TMPDIR (datafusion 55), which is the worker's own.
    context.sql(f"SET datafusion.runtime.max_temp_directory_size = '{spill // 1024}K'")
    context.sql(f"SET datafusion.runtime.metadata_cache_limit = '{FOOTERS}'")
    context.register_catalog_provider(CATALOG, space)
    return context, space


def is_still(running: Running) -> bool:
    """Whether no operator of a query runs any more, once its stream was dropped.

    Dropping a stream only asks its tasks to stop; a join that never yields goes on. Each operator's metrics hold when
    its stream started and, once dropped, when it ended (BaselineMetrics), which is the one sign that Python can see.
    """
    if running.frame is None:
        return True
    plan = running.frame.execution_plan()
    if running.exhausted and _draws_all(plan.display_indent()):
        return True
    return all(_ended(metrics) for _, metrics in plan.collect_metrics())


def _draws_all(plan: str) -> bool:
    """Whether each operator has one input at most and ends after it: the end of the first is then the end of all.

    Most queries are of that kind, and the metrics of a small one take as long to read as its rows.
    """
    depths = [len(line) - len(line.lstrip()) for line in plan.splitlines()]
    return depths == [2 * depth for depth in range(len(depths))] and _STOPS_EARLY.search(plan) is None


def _ended(metrics: object) -> bool:
    started, ended = (set(_partitions(metrics, name)) for name in ("start_timestamp", "end_timestamp"))
    return started <= ended


def _partitions(metrics: object, name: str) -> Iterator[int | None]:
    for metric in metrics.metrics():  # type: ignore[attr-defined]
        if metric.name == name and metric.value is not None:
            yield metric.partition


class Engine:
    """The sessions of a worker: as many as queries run at once, the last used first, since its caches are warm."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._runtime = RuntimeEnvBuilder().with_disk_manager_os().with_fair_spill_pool(settings.pool)
        self._tables = Tables(SessionContext(), settings.directory, settings.partitions)
        self._idle: list[tuple[float, Session]] = []
        self._names = Names(version=-1)
        self.pace = Pace()

    @property
    def names(self) -> Names:
        return self._names

    def take(self) -> Session:
        """A session for one query."""
        session = self._idle.pop()[1] if self._idle else Session(self._runtime, self._settings, self._tables)
        session.names = self._names
        return session

    def warm_up(self) -> None:
        """Pay once for what a first query would pay: threads, planner, renderers."""
        import caraway.query.worker.render  # noqa: F401

        session = self.take()
        session.plan(Statement("select 1")).frame.collect()
        self.give_back(session)

    def give_back(self, session: Session) -> None:
        session.rest()
        self._idle.append((time.monotonic(), session))

    def tidy(self, now: float) -> None:
        """Let go of tables and sessions that were idle for a while; one session stays warm."""
        since = now - IDLE
        self._tables.forget(since)
        self._idle = [entry for entry in self._idle[:-1] if entry[0] >= since] + self._idle[-1:]
        pa.default_memory_pool().release_unused()

    def adopt(self, names: Names) -> None:
        """Use a catalog that a session took in, unless a newer one came meanwhile."""
        if names.version > self._names.version:
            self._names = names
            self._tables.keep(info.name for info in names.infos.values())
