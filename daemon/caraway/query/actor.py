"""The query actor: admits queries, keeps workers alive, and sees to it that no query outlives its caller."""

import math
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace

import trio

from caraway.config.model import QueryLimits
from caraway.core.admission import Limits
from caraway.core.casualties import Casualty, Death, Verdict, restart_delay, verdict
from caraway.errors import QueryError, QueryFailure
from caraway.events import QueryFinished, WorkerDied, WorkerStarted, WorkerStopped
from caraway.latest import Latest
from caraway.model import FlightMessage, Query, ResultFormat
from caraway.ports import Emit, Planned, Tables
from caraway.query.answer import Answer, Conversation, Listener, WorkerDiedError, in_time, lost
from caraway.query.machine import usable_memory
from caraway.query.places import Elsewhere, Places
from caraway.query.process import Worker, WorkerProcess, private_directory, wipe_left_over
from caraway.query.protocol import ProtocolError, Schema, Work
from caraway.query.settings import worker_settings

WAITING_PER_RUNNING = 256
SMALL_MEMORY = 1024**3
"""With less than this to share, a worker starts with the first query instead of with the daemon."""
SETTLED = 10.0
"""A worker that lived so many seconds was sound: its end does not slow the next start down."""
PAUSED = 64
"""Queries at a time that wait for a source without a place to run in; each costs the worker a session."""
PLANNINGS = 16
"""Schema-only questions at a time; they pass by the queue of queries, being short."""


class QueryActor:
    """A QueryEngine over worker processes; `run` must be running. Failures are QueryError."""

    def __init__(
        self,
        tables: Tables,
        limits: QueryLimits,
        emit: Emit,
        *,
        cores: int | None = None,
        start: Callable[[], Worker] | None = None,
    ) -> None:
        """`start` makes a worker that is not yet running; without it, child processes are used."""
        self._tables = tables
        self._limits = limits
        self._emit = emit
        self._cores = cores or len(os.sched_getaffinity(0))
        self._start = start or self._process
        running = limits.max_concurrent_queries
        bound = 4 * self._cores if running is None else running or None
        self._places = Places(Limits(bound, WAITING_PER_RUNNING * (bound or self._cores), PAUSED))
        self._workers: Latest[tuple[Worker, ...]] = Latest(())
        self._wanted = trio.Event()
        self._stopping = False
        self._plannings = trio.CapacityLimiter(PLANNINGS)

    def __repr__(self) -> str:
        pids = [worker.pid for worker in self._workers.value]
        return f"<QueryActor workers={pids} {self._places!r}>"

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep `runtime.query.workers` workers alive until cancelled; started at once, ready a moment later."""
        wipe_left_over(self._limits.temp_directory)
        if (self._limits.memory_limit or usable_memory()) >= SMALL_MEMORY:
            self._wanted.set()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._places.run)
                for _ in range(self._limits.workers):
                    nursery.start_soon(self._keep_worker)
        finally:
            self._stopping = True
            self._workers.publish(())

    async def _keep_worker(self) -> None:
        failures = 0
        while True:
            await self._wanted.wait()
            await trio.sleep(restart_delay(failures))
            worker, began = self._start(), trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                await self._serve_with(worker)
            lived = trio.current_time() - began >= SETTLED
            failures = 0 if worker.death is Death.KILLED else 1 if lived else failures + 1

    async def _serve_with(self, worker: Worker) -> None:
        """Offer a worker for queries while it lives."""
        began = trio.current_time()
        await _first_of(worker.ready, worker.dead)
        try:
            if worker.ready.is_set():
                self._emit(WorkerStarted(worker.pid, trio.current_time() - began))
                self._workers.publish((*self._workers.value, worker))
                await worker.dead.wait()
        finally:
            self._workers.publish(tuple(other for other in self._workers.value if other is not worker))
            reason = worker.death.value if worker.dead.is_set() else Death.SHUTDOWN.value
            self._emit(WorkerStopped(worker.pid, reason))
            if worker.dead.is_set() and worker.death in {Death.CRASHED, Death.MEMORY}:
                self._emit(WorkerDied(reason, worker.pid, worker.last_words))

    def _process(self) -> Worker:
        directory = private_directory(self._limits.temp_directory)
        return WorkerProcess(worker_settings(self._limits, directory, usable=usable_memory(), cores=self._cores))

    # --- queries -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def execute(self, query: Query, planned: Planned | None = None) -> AsyncIterator[Answer]:
        """See ports.PlanningEngine. A query that `planned` ends is the caller's to tell of: no QueryFinished."""
        deadline, listener = self._deadline(query), Listener(planned)
        with self._accounted(query, listener) as answers:
            async with AsyncExitStack() as stack:
                answer = await self._begin(query, deadline, stack, listener)
                answers.append(answer)
                yield answer

    async def plan(self, query: Query) -> FlightMessage:
        """See ports.QueryEngine."""
        return await self._schema(query, Work.PLAN)

    async def table_schema(self, name: str) -> FlightMessage:
        """See ports.QueryEngine."""
        return await self._schema(Query(name, format=ResultFormat.IPC), Work.TABLE)

    async def _begin(self, query: Query, deadline: float, stack: AsyncExitStack, listener: Listener) -> Answer:
        """The first answer of as many attempts as the deaths of workers make necessary."""
        casualty = Casualty(streamed=False, alone=False, attempt=1)
        while True:
            async with AsyncExitStack() as held:
                place = self._places.taken(query.principal.id, alone=casualty.alone)
                elsewhere = await in_time(deadline, held.enter_async_context, place)
                worker = await self._worker(deadline)
                try:
                    conversation = await held.enter_async_context(self._conversation(worker, listener, elsewhere))
                    answer = Answer(conversation, query, deadline)
                    await in_time(deadline, conversation.ask, query, Work.ROWS)
                    await in_time(deadline, answer.begin)
                except WorkerDiedError as error:
                    casualty = await self._judge(casualty, worker, error)
                else:
                    stack.push_async_exit(held.pop_all())
                    return answer

    async def _schema(self, query: Query, work: Work) -> FlightMessage:
        deadline = self._deadline(query)
        casualty = Casualty(streamed=False, alone=False, attempt=1)
        async with self._plannings:
            while True:
                worker = await self._worker(deadline)
                try:
                    async with self._conversation(worker, Listener(), nullcontext) as conversation:
                        await in_time(deadline, conversation.ask, query, work)
                        schema = await in_time(deadline, conversation.next)
                except WorkerDiedError as error:
                    casualty = await self._judge(casualty, worker, error)
                    continue
                if not isinstance(schema, Schema):
                    raise ProtocolError("a schema was asked for")
                return FlightMessage(schema.payload, b"")

    async def _judge(self, casualty: Casualty, worker: Worker, error: WorkerDiedError) -> Casualty:
        """How to run again a query whose worker died, or the QueryError that ends it."""
        await worker.dead.wait()
        match verdict(casualty, Death.SHUTDOWN if self._stopping else worker.death):
            case Verdict.RERUN:
                return replace(casualty, attempt=casualty.attempt + 1)
            case Verdict.RERUN_ALONE:
                return replace(casualty, alone=True, attempt=casualty.attempt + 1)
            case Verdict.GUILTY:
                raise _guilty(worker.death) from error
            case Verdict.LOST:
                raise (_stopped() if self._stopping else lost()) from error

    # --- what a query waits for --------------------------------------------------------------------------------------

    async def _worker(self, deadline: float) -> Worker:
        """A live worker, chosen in turn."""
        self._wanted.set()
        while not self._stopping:
            if workers := self._workers.value:
                self._workers.publish((*workers[1:], workers[0]))
                return workers[0]
            await in_time(deadline, self._workers.wait_until, lambda workers: bool(workers) or self._stopping)
        raise _stopped()

    @asynccontextmanager
    async def _conversation(
        self, worker: Worker, listener: Listener, elsewhere: Elsewhere
    ) -> AsyncIterator[Conversation]:
        try:
            line = await worker.connect()
        except OSError as error:
            raise WorkerDiedError from error
        conversation = Conversation(worker, self._tables, line, listener=listener, elsewhere=elsewhere)
        try:
            yield conversation
        finally:
            await conversation.close()

    def _deadline(self, query: Query) -> float:
        timeout = query.timeout if query.timeout is not None else self._limits.timeout
        return trio.current_time() + timeout if timeout is not None else math.inf

    @contextmanager
    def _accounted(self, query: Query, listener: Listener) -> Iterator[list[Answer]]:
        """Emit QueryFinished however the query ends, unless its plan's listener ended it; left early is cancelled."""
        began, answers = trio.current_time(), list[Answer]()
        failure: QueryError | None = QueryError("the caller left", QueryFailure.CANCELLED)
        try:
            yield answers
            failure = answers[0].failure or (None if answers[0].complete else failure)
        except QueryError as error:
            failure = error
            raise
        finally:
            if not listener.ended:
                self._emit(_finished(query, answers, trio.current_time() - began, failure))


def _finished(query: Query, answers: Sequence[Answer], seconds: float, failure: QueryError | None) -> QueryFinished:
    return QueryFinished(
        sql=query.sql,
        protocol=query.protocol,
        principal=query.principal.id,
        rows=answers[0].rows if answers else 0,
        seconds=seconds,
        failure=failure.failure.value if failure else "",
        error=failure.message if failure else "",
    )


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def _guilty(death: Death) -> QueryError:
    if death is Death.MEMORY:
        return QueryError(
            "The query worker ran out of memory with this query alone. "
            "Raise runtime.query.memory_limit, or ask for less.",
            QueryFailure.RESOURCES,
        )
    return QueryError("The query engine crashed on this query, twice.", QueryFailure.INTERNAL)


def _stopped() -> QueryError:
    return QueryError("The daemon is stopping.", QueryFailure.UNAVAILABLE)
