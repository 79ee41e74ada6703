"""DoExchange: subscribers of a dataset, each a place in its log (reference/flight_wire.md 6).

    first message ──▶ dataset, wish ──▶ log? ──▶ feed.follow ──▶ pieces ──▶ FlightData
                                         │ None: heartbeats until there is one
                                         └ replaced, closed, or the server stops: UNAVAILABLE, come again

Nothing is queued for a subscriber but what is on the way to him; what he does not take waits in the log.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import trio

from caraway import feed
from caraway.core.stream_words import Wish, read_wish
from caraway.errors import SourceError
from caraway.flight.changes import ChangeEncoder
from caraway.flight.codec import FlightData, decode
from caraway.island import Outlet
from caraway.model import Arrival, Phase, TableSpec
from caraway.ports import Log
from caraway.servers.flight.commands import subscribed_table
from caraway.servers.flight.gate import Gate, Metadata
from caraway.servers.flight.merging import MergedLog, Merges
from caraway.servers.flight.packs import Packs, pieces_of
from caraway.servers.flight.status import Code, RefusalError
from caraway.servers.flight.stopping import Stopping
from caraway.servers.flight.tables import Tables
from caraway.servers.services import DatasetHandle

WAITING = Arrival(phase=Phase.HEARTBEAT)
"""What is told before there is a log."""


class Subscriptions:
    """The subscribers of a server."""

    def __init__(self, tables: Tables, gate: Gate, stopping: Stopping, *, clock: Callable[[], float]) -> None:
        """`clock` tells seconds since 1970 UTC."""
        self._tables = tables
        self._gate = gate
        self._stopping = stopping
        self._clock = clock
        self._packs = Packs()
        self._merges = Merges()
        self._followers: Counter[str] = Counter()
        self.sent = 0
        """Messages that held changes."""

    @property
    def open(self) -> int:
        """Subscribers now."""
        return self._followers.total()

    async def follow(self, outlet: Outlet[bytes], first: bytes | None, metadata: Metadata) -> None:
        """Put FlightData until the subscriber leaves; where it ends otherwise, RefusalError says why."""
        self._gate.admit(metadata)
        data = _read(first)
        handle = self._tables.followed(subscribed_table(data.descriptor))
        with self._counted(handle.config.name), self._stopping.waiting():
            try:
                await self._follow(outlet, handle, read_wish(data.app_metadata))
            except SourceError as error:
                raise RefusalError(Code.UNAVAILABLE, str(error), retryable=True) from error

    async def _follow(self, outlet: Outlet[bytes], handle: DatasetHandle, wish: Wish | None) -> None:
        speaks, wish = wish is not None, wish or Wish()
        log = await self._log(outlet, handle, wish.heartbeat, speaks=speaks)
        encoder = ChangeEncoder(log.spec.schema, log.spec.primary_key, words=speaks)
        # A stranger may mind a key that two commits have and one batch has twice; our own take the newest.
        source = MergedLog(log, self._merges) if speaks or not log.spec.primary_key else log
        async with feed.follow(source, wish.position, heartbeat=wish.heartbeat, clock=self._clock) as arrivals:
            async for arrival in arrivals:
                if handle.log.value is not log:
                    break
                shared = arrival.phase is Phase.LIVE and self._followers[handle.config.name] > 1
                for message in self._messages(encoder, arrival, log.spec, shared=shared):
                    await outlet.put(message)
        details = f"Dataset {handle.config.name} was reloaded or removed. Subscribe again."
        raise RefusalError(Code.UNAVAILABLE, details, retryable=True)

    async def _log(self, outlet: Outlet[bytes], handle: DatasetHandle, heartbeat: float, *, speaks: bool) -> Log:
        """The dataset's log, once it has one."""
        encoder = ChangeEncoder(pa.schema([]), (), words=speaks)
        while (log := handle.log.value) is None:
            for message in encoder.encode(WAITING):
                await outlet.put(message)
            with trio.move_on_after(heartbeat):
                await handle.log.wait_until(lambda log: log is not None)
        return log

    def _messages(self, encoder: ChangeEncoder, arrival: Arrival, spec: TableSpec, *, shared: bool) -> Iterator[bytes]:
        """An arrival on the wire, each piece made when it is its turn."""
        pieces = [piece for change in arrival.changes for piece in pieces_of(change)]
        self.sent += len(pieces)
        for piece in pieces[:-1]:
            yield from encoder.join(_beginning(arrival), [self._packs.pack(piece, spec, shared=shared)])
        yield from encoder.join(arrival, [self._packs.pack(piece, spec, shared=shared) for piece in pieces[-1:]])

    @contextmanager
    def _counted(self, dataset: str) -> Iterator[None]:
        self._followers[dataset] += 1
        try:
            yield
        finally:
            self._followers -= Counter([dataset])
            if not self._followers:
                self._packs.clear()
                self._merges.clear()

    def __repr__(self) -> str:
        return f"<Subscriptions {self.open} open, {self._packs!r}>"


def _beginning(arrival: Arrival) -> Arrival:
    """What is said with messages that others complete."""
    phase = Phase.SNAPSHOT if arrival.phase is Phase.SNAPSHOT_END else arrival.phase
    return replace(arrival, phase=phase, cursor=None, mark=None)


def _read(first: bytes | None) -> FlightData:
    if first is None:
        message = "The call ended, or was silent, before its first message, which says what to subscribe to."
        raise RefusalError(Code.INVALID_ARGUMENT, message)
    try:
        return decode(first)
    except SourceError as error:
        raise RefusalError(Code.INVALID_ARGUMENT, "The first message is not FlightData.") from error
