"""One caraway of the simulation: a dataset actor, its machine's disk and clock, and the door that followers come by."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from random import Random

import pyarrow as pa
import trio

from caraway import feed
from caraway.config.model import Dataset
from caraway.connectors.spice.source import HEARTBEAT_SECONDS
from caraway.core import position
from caraway.core.stream_words import Wish, heartbeat_within, patience, read_wish, write_wish
from caraway.dataset.actor import DatasetActor
from caraway.dataset.settings import stream_conflict
from caraway.dataset.shared import Shared
from caraway.dataset.spool import Spool
from caraway.errors import SourceError
from caraway.events import Event
from caraway.flight.changes import ChangeDecoder, ChangeEncoder
from caraway.flight.codec import decode, encode
from caraway.model import Arrival, Cursor, FlightMessage, TableSpec
from caraway.ports import Accelerator, Connect, Source
from simulation.clock import Clock
from simulation.disk import Disk, Mount, PowerCut
from simulation.disk_store import open_disk_store
from simulation.network import BrokenConnectionError, Connection, Host, Link
from simulation.oracle import Books, Judge
from simulation.rows import SCHEMA


class Process:
    """A machine and what runs on it: started anew after each crash, until the run ends."""

    def __init__(self, config: Dataset, books: Books, spool: Spool, note: Callable[..., None], rng: Random) -> None:
        self.name = books.name
        self.host = Host(self.name)
        self.disk = Disk(rng)
        self.clock = Clock()
        self.books = books
        self.upstream: Link | None = None
        self.source: Connect | None = None
        """What it reads that has no upstream."""
        self.judge: Judge | None = None
        self.actor: DatasetActor | None = None
        self.work: Callable[[DatasetActor], Awaitable[None]] | None = None
        """Runs beside the actor."""
        self.crash_after: int | None = None
        """How many operations on the disk are left to it; None: any number."""
        self.crash_again = False
        """Whether the power goes soon after the next crash as well."""
        self.down_for = 1.0
        self.silently = False
        self.lose_power = False
        self.wipe = False
        self._config = config
        self._note = note
        self._rng = rng
        self._shared = Shared(self._emit, trio.CapacityLimiter(1), spool, rng.random, self.clock.wall)
        self._mount = Mount(self.disk, self._step, rng)
        self._life = trio.CancelScope()

    # --- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._live()
            self.actor = None
            await trio.sleep(self.down_for)
            if self.wipe:
                self._note(self.name, "has a new disk")
                self.disk.wipe()
                self.books.wiped()
                self.wipe = False

    def crash(self) -> None:
        """End it here and now."""
        if self._mount.dead.is_set():
            return
        power, silently = "without power" if self.lose_power else "", "silently" if self.silently else ""
        self._note(self.name, "crashes", power, silently)
        self._mount.dead.set()
        if self.judge is not None:
            self.judge.silenced()
        if self.lose_power:
            self.disk.crash()
        self.host.die(silently=self.silently)
        self._life.cancel()
        self.crash_after = self._rng.randrange(8) if self.crash_again else None
        self.lose_power, self.crash_again = self.lose_power or self.crash_again, False

    async def _live(self) -> None:
        self._mount, self._life = Mount(self.disk, self._step, self._rng), trio.CancelScope()
        try:
            with self._life:
                await self._serve(DatasetActor(self._config, self._connect, self._open_store, self._shared))
        except* PowerCut:
            pass

    async def _serve(self, actor: DatasetActor) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, actor)
            await nursery.start(actor.run)
            if self._mount.dead.is_set():
                return
            self.actor = actor
            self.host.listen(lambda connection: nursery.start_soon(self._tell, connection, actor))
            self._note(self.name, "serves")
            if self.work is not None:
                nursery.start_soon(self.work, actor)

    def _step(self) -> None:
        if self.crash_after is None or self._mount.dead.is_set():
            return
        self.crash_after -= 1
        if self.crash_after < 0:
            self.crash()

    async def _watch(self, actor: DatasetActor) -> None:
        while True:
            status = actor.status.value
            self._note(self.name, status.state.value, status.problem and status.problem.message)
            if self.judge is not None and not self._mount.dead.is_set():
                self.judge.says(status)
            await actor.status.wait_change()

    def _emit(self, event: Event) -> None:
        self._note(self.name, event)

    # --- its ends ----------------------------------------------------------------------------------------------------

    async def _open_store(self, schema: pa.Schema | None) -> Accelerator | None:
        keys = self._config.acceleration
        spec = TableSpec("t", SCHEMA, keys.primary_key, stream_conflict(self._config))
        store = await open_disk_store(self._mount, spec, self._rng, self.books, create=schema is not None)
        if store is not None:
            self.books.recovered(store.snapshot.value, store.pairs())
            if self.judge is not None:
                self.judge.restarted()
        return store

    async def _connect(self) -> Source:
        if self.upstream is None:
            return await self.source()
        await self.upstream.reach()
        heartbeat = heartbeat_within(self._config.acceleration.acceptable_lag, HEARTBEAT_SECONDS)
        return WireSource(self.upstream, self.judge, heartbeat)

    async def _tell(self, connection: Connection, actor: DatasetActor) -> None:
        """What a server does with a subscriber."""
        log, wish = actor.log.value, read_wish(decode(connection.request).app_metadata)
        if log is None:
            connection.end(SourceError("The table is not ready.", code="Unavailable"))
            return
        encoder = ChangeEncoder(log.spec.schema, log.spec.primary_key)
        heartbeat, clock = wish.heartbeat, self.clock.seconds
        try:
            async with feed.follow(log, wish.position, heartbeat=heartbeat, clock=clock) as arrivals:
                async for arrival in arrivals:
                    for message in encoder.encode(arrival):
                        await connection.send(message)
        except SourceError as error:
            connection.end(error)
        except BrokenConnectionError:
            pass


class WireSource:
    """`ports.StreamSource` over the network: the real decoder on what the real encoder sent."""

    def __init__(self, link: Link, judge: Judge, heartbeat: float) -> None:
        self._link = link
        self._judge = judge
        self._heartbeat = heartbeat

    async def schema(self) -> pa.Schema:
        await self._link.reach()
        return SCHEMA

    async def version(self) -> str | None:
        return None

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[Arrival]]:
        wish = write_wish(Wish(position.decode(cursor), self._heartbeat))
        request = encode(FlightMessage(b"", b""), app_metadata=wish, descriptor=b"t")
        async with (
            self._link.connect(request) as connection,
            aclosing(self._arrivals(connection)) as arrivals,
        ):
            yield arrivals

    async def _arrivals(self, connection: Connection) -> AsyncGenerator[Arrival, None]:
        decoder, quickest = ChangeDecoder(), math.inf
        while True:
            with trio.move_on_after(patience(self._heartbeat) if decoder.spoken else math.inf) as waiting:
                message = await connection.receive()
            if waiting.cancelled_caught:
                raise SourceError("The upstream has gone silent.", code="Unavailable")
            arrival = decoder.decode(decode(message))
            if arrival is None:
                continue
            if arrival.mark is not None:
                quickest = min(quickest, trio.current_time() - connection.sent_at)
                self._judge.told(arrival.mark.end, connection.sent_at + quickest)
            yield arrival
