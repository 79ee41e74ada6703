"""One connection, one query: plan, have its tables resolved, run, stream, and prove that it stopped."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

import pyarrow as pa

from caraway.errors import QueryError, QueryFailure
from caraway.model import ScanRequest, Snapshot
from caraway.query.protocol import (
    Ask,
    Chunk,
    Decoder,
    End,
    Failed,
    GiveCatalog,
    GiveSnapshots,
    Message,
    NeedCatalog,
    Reply,
    Resolve,
    Schema,
    Work,
    encode,
)
from caraway.query.worker.engine import Engine, Running, Session, is_still
from caraway.query.worker.failures import query_error
from caraway.query.worker.results import Coalescer, encoder, schema_message

T = TypeVar("T")
_STILL_POLL = 0.01


class Inbox:
    """What the daemon sends; the end of it cancels the conversation."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    async def fill(self, talk: "asyncio.Task[None]") -> None:
        """Read until the daemon closes, then cancel `talk`. The daemon sends what it was asked for, so few wait."""
        decoder = Decoder()
        while data := await self._reader.read(2**16):
            for message in decoder.feed(data):
                self._messages.put_nowait(message)
        talk.cancel()

    async def next(self, kind: type[T]) -> T:
        message = await self._messages.get()
        if not isinstance(message, kind):
            raise QueryError(f"{type(message).__name__} came where {kind.__name__} was due", QueryFailure.INTERNAL)
        return message


async def serve(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the one query of a connection; close it when nothing of the query runs any more."""
    inbox = Inbox(reader)
    talk = asyncio.create_task(_Conversation(engine, inbox, writer).run())
    fill = asyncio.create_task(inbox.fill(talk))
    await asyncio.wait([talk])
    fill.cancel()
    await asyncio.wait([fill])
    for task in (talk, fill):
        if not task.cancelled() and isinstance(error := task.exception(), ConnectionError):
            del error  # the daemon is gone, or closed early: nobody is left to tell
    writer.close()


class _Conversation:
    def __init__(self, engine: Engine, inbox: Inbox, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._inbox = inbox
        self._writer = writer

    async def run(self) -> None:
        ask = await self._inbox.next(Ask)
        session, running = self._engine.take(), Running()
        try:
            await self._answer(ask, session, running)
            await self._send(End())
        except (asyncio.CancelledError, ConnectionError):
            raise
        except BaseException as error:  # noqa: BLE001 - a request's border; the binding raises bare and panic exceptions
            failure = query_error(error)
            await self._send(Failed(failure.failure, failure.message))
        finally:
            await _stopped(running)
            self._engine.give_back(session)

    async def _answer(self, ask: Ask, session: Session, running: Running) -> None:
        if session.names.version < ask.catalog:
            await self._send(NeedCatalog())
            given = await self._inbox.next(GiveCatalog)
            self._engine.adopt(await _thread(session.load, given.catalog))
            session.names = self._engine.names
        match ask.work:
            case Work.TABLE:
                await self._send_schema(session.table_schema(ask.sql))
            case Work.PLAN:
                planned = await _thread(session.plan, ask.sql, ask.parameters)
                await self._send_schema(planned.frame.schema())
            case Work.ROWS:
                await self._rows(ask, session, running)

    async def _rows(self, ask: Ask, session: Session, running: Running) -> None:
        planned = await _thread(session.begin, ask.sql, ask.parameters, running)
        if planned.requests:
            snapshots = await self._resolve(planned.requests)
            again = await _thread(session.bring, planned, snapshots, running)
            if again:
                await _thread(session.replace, again, await self._resolve(again), running)
            await _thread(session.start, ask.sql, ask.parameters, planned, running)
        schema = running.started.schema()
        await self._send_schema(schema)
        form, joined = encoder(ask.format, schema, ask.compression), Coalescer()
        batch = await _next_batch(running)  # before the first byte, so that a failure until here is an early one
        await self._send_all(form.start())
        while batch is not None:
            if (ready := joined.add(batch)) is not None:
                await self._send_all(form.batch(ready))
            batch = await _next_batch(running)
        if (rest := joined.flush()) is not None:
            await self._send_all(form.batch(rest))
        await self._send_all(form.end())

    async def _resolve(self, scans: tuple[ScanRequest, ...]) -> tuple[Snapshot, ...]:
        await self._send(Resolve(scans))
        return (await self._inbox.next(GiveSnapshots)).snapshots

    async def _send_schema(self, schema: pa.Schema) -> None:
        await self._send(Schema(schema_message(schema)))

    async def _send_all(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            await self._send(chunk)

    async def _send(self, message: Reply) -> None:
        frame, payload = encode(message)
        self._writer.write(frame)
        if payload:
            self._writer.write(payload)
        await self._writer.drain()


async def _thread(fn: Callable[..., T], *args: object) -> T:
    """`fn(*args)` in a thread; a cancellation waits for its end, since a running thread is a running query."""
    work = asyncio.get_running_loop().run_in_executor(None, fn, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        work.exception()
        raise


async def _next_batch(running: Running) -> pa.RecordBatch | None:
    if running.stream is None:
        raise RuntimeError("the query was not started")
    try:
        return (await anext(running.stream)).to_pyarrow()
    except StopAsyncIteration:
        return None


async def _stopped(running: Running) -> None:
    """Return when no operator runs any more. If that takes too long, the daemon kills this process."""
    running.stream = None
    while not is_still(running):  # noqa: ASYNC110 - the engine gives no event for it
        await asyncio.sleep(_STILL_POLL)
