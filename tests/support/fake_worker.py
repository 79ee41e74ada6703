"""A worker in memory that does what the SQL says: enough to test the actor on a virtual clock."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from caraway.core.casualties import Death
from caraway.errors import QueryFailure
from caraway.model import PlanFacts, ScanRequest
from caraway.query.protocol import (
    Ask,
    Chunk,
    Decoder,
    End,
    Failed,
    GiveSnapshots,
    NeedCatalog,
    Resolve,
    Schema,
    encode,
)


class Line:
    """The worker's end of one connection."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self.stream = stream
        self._decoder = Decoder()
        self._pending: list[object] = []

    async def send(self, *messages) -> None:
        for message in messages:
            await self.stream.send_all(b"".join(encode(message)))

    async def receive(self):
        """The next message; None at the end."""
        while not self._pending:
            data = await self.stream.receive_some(1000)
            if not data:
                return None
            self._pending.extend(self._decoder.feed(bytes(data)))
        return self._pending.pop(0)


class MemoryLine:
    """The daemon's end: `caraway.query.process.Line` over a stream in memory."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof

    async def receive_into(self, space: memoryview) -> int:
        data = await self._stream.receive_some(len(space))
        space[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


async def answer(line: Line, chunks: int = 1, pause: float = 0.0) -> None:
    await line.send(Schema(b"schema"))
    for number in range(chunks):
        await line.send(Chunk(1, 0, b"%d" % number))
        await trio.sleep(pause)
    await line.send(End())


class FakeWorker:
    """`log` collects what each life did; `boot` is how long a start takes, None never gets ready."""

    lives = 0

    def __init__(self, log: list[str], boot: float | None = 0.5) -> None:
        FakeWorker.lives += 1
        self._log = log
        self._boot = boot
        self._calls, self._called = trio.open_memory_channel[trio.StapledStream](100)
        self._death = Death.SHUTDOWN
        self._end = trio.Event()
        self.ready = trio.Event()
        self.dead = trio.Event()
        self.pid = FakeWorker.lives

    last_words = "what it said last"

    @property
    def death(self) -> Death:
        return self._death

    async def run(self) -> None:
        self._log.append(f"start at {trio.current_time():g}")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work)
                await self._end.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.dead.set()

    async def _work(self) -> None:
        if self._boot is None:
            self.kill(Death.CRASHED)
            return
        await trio.sleep(self._boot)
        self.ready.set()
        async with trio.open_nursery() as nursery:
            async for stream in self._called:
                nursery.start_soon(self._serve, Line(stream))

    async def connect(self) -> MemoryLine:
        await trio.lowlevel.checkpoint()
        if self._end.is_set():
            raise ConnectionRefusedError
        ours, theirs = trio.testing.memory_stream_pair()
        self._calls.send_nowait(theirs)
        return MemoryLine(ours)

    def kill(self, death: Death) -> None:
        if not self._end.is_set():
            self._log.append(f"{death.value} at {trio.current_time():g}")
            self._death = death
            self._end.set()

    async def _serve(self, line: Line) -> None:
        ask = await line.receive()
        try:
            await self._obey(ask, line)
            while await line.receive() is not None:
                pass
            await line.stream.aclose()
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(line.stream)

    async def _obey(self, ask: Ask, line: Line) -> None:
        command, _, argument = ask.sql.partition(" ")
        self._log.append(f"{ask.sql!r} at {trio.current_time():g}")
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "ok": lambda: answer(line),
            "slow": lambda: answer(line, chunks=3, pause=float(argument or 1)),
            "late": lambda: self._late(line, float(argument)),
            "stuck": trio.sleep_forever,
            "begun": lambda: self._begun(line),
            "over": lambda: self._over(line),
            "lingering": lambda: self._lingering(line),
            "fail": lambda: line.send(Failed(QueryFailure(argument), f"it failed: {argument}")),
            "catalog": lambda: self._catalog(line),
            "read": lambda: self._read(line, argument),
            "planned": lambda: self._planned(line, argument),
            "crash": lambda: self._die(Death.CRASHED),
            "eat": lambda: self._die(Death.MEMORY),
            "garbage": lambda: line.stream.send_all(b"\xff" * 20),
        }
        await acts[command]()

    async def _late(self, line: Line, seconds: float) -> None:
        with trio.move_on_after(seconds):
            assert await line.receive() is None  # hung up: a well-behaved query stops
            return
        await answer(line)

    async def _begun(self, line: Line) -> None:
        await line.send(Schema(b"schema"), Chunk(1, 0, b"first"))
        await trio.sleep_forever()

    async def _over(self, line: Line) -> None:
        """It says that nothing runs any more, and does not look whether the daemon hangs up."""
        await line.send(Schema(b"schema"), Chunk(1, 0, b"all"), End(stopped=True))
        await trio.sleep_forever()

    async def _lingering(self, line: Line) -> None:
        """The answer is complete, and something of the query runs on."""
        await line.send(Schema(b"schema"), Chunk(1, 0, b"all"), End())
        await trio.sleep_forever()

    async def _catalog(self, line: Line) -> None:
        await line.send(NeedCatalog())
        given = await line.receive()
        await line.send(Schema(b"schema"), Chunk(1, 0, repr(given.catalog.version).encode()), End())

    async def _read(self, line: Line, table: str) -> None:
        await line.send(Resolve((ScanRequest(table),)))
        given = await line.receive()
        if not isinstance(given, GiveSnapshots):
            return
        await answer(line, chunks=2, pause=1)

    async def _planned(self, line: Line, then: str) -> None:
        await line.send(PlanFacts(f"key of {then}", (then,), cacheable=True))
        await self._obey(Ask(then), line)

    async def _die(self, death: Death) -> None:
        self.kill(death)
        await trio.sleep_forever()
