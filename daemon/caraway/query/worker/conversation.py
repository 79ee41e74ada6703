"""One connection, one query: plan, have its tables resolved, run, stream, and prove that it stopped."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NoReturn, TypeVar

import pyarrow as pa

from caraway.model import Pinned, ScanRequest
from caraway.query.protocol import (
    Ask,
    Chunk,
    End,
    Failed,
    GiveCatalog,
    GiveSnapshots,
    NeedCatalog,
    Resolve,
    Schema,
    Work,
)
from caraway.query.worker.engine import Engine, Running, Session, is_still
from caraway.query.worker.failures import is_fatal, query_error
from caraway.query.worker.line import Line
from caraway.query.worker.planning import Planned, Statement
from caraway.query.worker.results import Coalescer, Encoder, encoder, schema_message
from caraway.query.worker.substitution import with_values

T = TypeVar("T")
PATIENCE = 0.01
"""Seconds that small batches wait to be joined with the next one."""
_STILL_POLL = 0.01


async def serve(engine: Engine, connection: socket.socket) -> None:
    """Answer the one query of a connection; close it when nothing of the query runs any more."""
    line = Line(connection)
    talk = asyncio.create_task(_Conversation(engine, line).run())
    fill = asyncio.create_task(line.fill(talk))
    await asyncio.wait([talk])
    fill.cancel()
    await asyncio.wait([fill])
    for task in (talk, fill):
        if not task.cancelled() and isinstance(error := task.exception(), ConnectionError):
            del error  # the daemon is gone, or closed early: nobody is left to tell
    connection.close()


class _Conversation:
    def __init__(self, engine: Engine, line: Line) -> None:
        self._engine = engine
        self._line = line

    async def run(self) -> None:
        ask = await self._line.next(Ask)
        session, running = self._engine.take(), Running()
        try:
            await self._answer(ask, session, running)
            await self._line.send(End(stopped=_has_stopped(running)))
            await self._line.flush()
        except (asyncio.CancelledError, ConnectionError):
            raise
        except BaseException as error:  # noqa: BLE001 - a request's border; the binding raises bare and panic exceptions
            if is_fatal(error):
                _die(error)
            failure = query_error(error)
            await self._line.send(Failed(failure.failure, failure.message))
            await self._line.flush()
        finally:
            await _stopped(running)
            self._engine.give_back(session)

    async def _answer(self, ask: Ask, session: Session, running: Running) -> None:
        if session.names.version < ask.catalog:
            await self._line.send(NeedCatalog())
            given = await self._line.next(GiveCatalog)
            self._engine.adopt(await _thread(session.load, given.catalog))
            session.names = self._engine.names
        match ask.work:
            case Work.TABLE:
                await self._send_schema(session.table_schema(ask.sql))
            case Work.PLAN:
                planned = await _thread(session.plan, Statement(ask.sql, ask.parameters))
                await self._send_schema(planned.frame.schema())
            case Work.ROWS:
                await self._rows(ask, session, running)

    async def _rows(self, ask: Ask, session: Session, running: Running) -> None:
        planned = await self._step(ask, session.begin, Statement(ask.sql, ask.parameters), running)
        await self._line.send(planned.facts)
        statement = await with_values(planned, session.names, partial(self._column, ask, session))
        if statement != planned.statement:
            planned = await _thread(session.begin, statement, running)
        await self._start(ask, session, planned, running)
        schema = running.started.schema()
        await self._send_schema(schema)
        form, joined = encoder(ask.format, schema, ask.compression), Coalescer()
        batch = await self._next_batch(running, form, joined)  # first, so that a failure until here is an early one
        await self._send_all(form.start())
        while batch is not None:
            if (ready := joined.add(batch)) is not None:
                await self._send_all(form.batch(ready))
            batch = await self._next_batch(running, form, joined)
        await self._send_rest(form, joined)
        await self._send_all(form.end())

    async def _start(self, ask: Ask, session: Session, planned: Planned, running: Running) -> None:
        """Have the tables of a planned query resolved, and start it over them."""
        if not planned.requests:
            return
        pins = await self._resolve(planned.requests)
        step = self._step if session.holds(planned, pins) else _in_thread
        again = await step(ask, session.bring_and_start, planned, pins, running)
        if again:
            await _thread(session.replace, again, await self._resolve(again), running)
            await _thread(session.start, planned, running)

    async def _column(self, ask: Ask, session: Session, statement: Statement) -> pa.ChunkedArray | None:
        """See substitution.Evaluate."""
        running = Running()
        try:
            planned = await _thread(session.begin_alone, statement, running)
            if planned is None:
                return None
            await self._start(ask, session, planned, running)
            batches = []
            while (batch := await _drawn(running)) is not None:
                batches.append(batch)
            return pa.Table.from_batches(batches, running.started.schema()).column(0)
        finally:
            await _stopped(running)

    async def _next_batch(self, running: Running, form: Encoder, joined: Coalescer) -> pa.RecordBatch | None:
        """What was held back to be joined with this batch goes out if it keeps one waiting."""
        coming = asyncio.ensure_future(_drawn(running))
        try:
            soon, _ = await asyncio.wait([coming], timeout=PATIENCE)
            if not soon:
                await self._send_rest(form, joined)
                await self._line.flush()
            return await coming
        finally:
            coming.cancel()

    async def _send_rest(self, form: Encoder, joined: Coalescer) -> None:
        if (rest := joined.flush()) is not None:
            await self._send_all(form.batch(rest))

    async def _step(self, ask: Ask, fn: Callable[..., T], *args: object) -> T:
        """In place if that was quick the last time, else in a thread."""
        pace, name, began = self._engine.pace, fn.__name__, time.monotonic()
        done = fn(*args) if pace.is_quick(name, ask.sql) else await _thread(fn, *args)
        pace.took(name, ask.sql, time.monotonic() - began)
        return done

    async def _resolve(self, scans: tuple[ScanRequest, ...]) -> tuple[Pinned, ...]:
        await self._line.send(Resolve(scans))
        given = await self._line.next(GiveSnapshots)
        return tuple(map(Pinned, given.snapshots, given.only))

    async def _send_schema(self, schema: pa.Schema) -> None:
        await self._line.send(Schema(schema_message(schema)))

    async def _send_all(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            await self._line.send(chunk)


async def _drawn(running: Running) -> pa.RecordBatch | None:
    """The next batch; None at the end."""
    if running.stream is None:
        raise RuntimeError("the query was not started")
    try:
        return (await anext(running.stream)).to_pyarrow()
    except StopAsyncIteration:
        running.exhausted = True
        return None


async def _in_thread(_: Ask, fn: Callable[..., T], *args: object) -> T:
    return await _thread(fn, *args)


async def _thread(fn: Callable[..., T], *args: object) -> T:
    """`fn(*args)` in a thread; a cancellation waits for its end, since a running thread is a running query."""
    work = asyncio.get_running_loop().run_in_executor(None, fn, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        work.exception()
        raise


def _die(error: BaseException) -> NoReturn:
    """End the process; its queries are run again. The words tell the daemon when it was for want of memory."""
    lacked = "memory allocation of a thread failed: " if "spawn" in str(error) else ""
    sys.stderr.write(f"{lacked}{error}\n")
    sys.stderr.flush()
    os._exit(1)


async def _stopped(running: Running) -> None:
    """Return when no operator runs any more. If that takes too long, the daemon kills this process."""
    while not _has_stopped(running):  # noqa: ASYNC110 - the engine gives no event for it
        await asyncio.sleep(_STILL_POLL)


def _has_stopped(running: Running) -> bool:
    """Whether no operator runs any more, none being asked for more."""
    running.stream = None
    if not is_still(running):
        return False
    running.frame = None  # to ask again is free
    return True
