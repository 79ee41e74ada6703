"""Rows as the messages of a WebSocket bring them: live, without a copy of what was before."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass

import pyarrow as pa
import trio

from caraway import blocking
from caraway.connectors.websocket.connection import Peer, connected
from caraway.connectors.websocket.frames import Decoded, Decoder, Message
from caraway.connectors.websocket.inbox import Inbox
from caraway.connectors.websocket.sequence import Sequence
from caraway.errors import SourceError
from caraway.events import MessagesRefused, RowsRepeated
from caraway.model import Append, Arrival, Cursor, Phase, ReadRequest
from caraway.ports import Emit

SPACING = 0.01
"""Least seconds between two arrivals: a burst of small messages becomes few of them, a lone one waits for nobody."""
IN_PLACE = 64 * 1024
"""Bytes up to which messages are decoded at once, which takes a millisecond; more go to a thread."""
QUIET = 60.0
"""Least seconds between two words about what was left out."""


class WebSocketSource:
    """The port `StreamSource` over a WebSocket. Without a sequence there is no cursor to resume from."""

    def __init__(self, peer: Peer, schema: pa.Schema, *, sequence: Sequence | None, dataset: str, emit: Emit) -> None:
        self._peer = peer
        self._schema = schema
        self._sequence = sequence
        self._decoder = Decoder(schema, sequence.column if sequence is not None else None)
        self._limiter = trio.CapacityLimiter(1)
        self._notices = Notices(dataset, self._decoder, emit)
        self._dataset = dataset

    async def schema(self) -> pa.Schema:
        return self._schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:  # noqa: ARG002
        raise SourceError(
            f"{self._dataset}: a WebSocket tells what happens and holds no rows to read.",
            remedy="Give the dataset an acceleration with refresh_mode append.",
            transient=False,
        )

    async def version(self) -> str | None:
        return None

    async def aclose(self) -> None:
        pass

    def follow(self, cursor: Cursor | None) -> AbstractAsyncContextManager[AsyncIterator[Arrival]]:
        """What comes after the handshake; an arrival without rows says that it is done. All arrivals are live."""
        return self._follow(cursor)

    @asynccontextmanager
    async def _follow(self, cursor: Cursor | None) -> AsyncIterator[AsyncIterator[Arrival]]:
        stored = self._sequence.decode(cursor) if self._sequence is not None else None
        told = self._sequence.text(stored) if self._sequence is not None else ""
        async with connected(self._peer, told) as inbox, aclosing(self._arrivals(inbox, stored)) as arrivals:
            yield arrivals

    async def _arrivals(self, inbox: Inbox, stored: int | None) -> AsyncGenerator[Arrival, None]:
        greatest = stored
        yield Arrival((), Phase.LIVE, self._cursor(greatest))
        while messages := await inbox.take():
            since = trio.current_time()
            decoded = await self._decoded(messages)
            self._notices.refused(decoded.refused)
            batches = [self._fresh(rows, stored) for rows in decoded.batches]
            for rows in batches:
                greatest = self._sequence.greatest(rows, greatest) if self._sequence is not None else None
            changes = tuple(Append(rows) for rows in batches if rows.num_rows)
            if changes or decoded.refused:
                yield Arrival(changes, Phase.LIVE, self._cursor(greatest), skipped=len(decoded.refused))
            await trio.sleep_until(since + SPACING)

    async def _decoded(self, messages: list[Message]) -> Decoded:
        if sum(map(len, messages)) <= IN_PLACE:
            return self._decoder.decode(messages)
        return await blocking.call(self._decoder.decode, messages, limiter=self._limiter)

    def _fresh(self, rows: pa.RecordBatch, stored: int | None) -> pa.RecordBatch:
        if self._sequence is None or stored is None:
            return rows
        fresh = self._sequence.fresh(rows, stored)
        self._notices.repeated(rows.num_rows - fresh.num_rows, stored)
        return fresh

    def _cursor(self, greatest: int | None) -> Cursor | None:
        return self._sequence.encode(greatest) if self._sequence is not None and greatest is not None else None

    def __repr__(self) -> str:
        return f"WebSocketSource({self._dataset!r} at {self._peer.address})"


class Notices:
    """Tells of what was left out, seldom, so that nothing vanishes in silence and nobody is flooded."""

    def __init__(self, dataset: str, decoder: Decoder, emit: Emit) -> None:
        self._dataset = dataset
        self._decoder = decoder
        self._emit = emit
        self._refused, self._repeated = Seldom(), Seldom()

    def refused(self, messages: tuple[Message, ...]) -> None:
        """Messages that hold no rows."""
        count = self._refused.due(len(messages), trio.current_time())
        if count:
            self._emit(MessagesRefused(self._dataset, count, self._decoder.complaint(messages[0])))

    def repeated(self, rows: int, stored: int) -> None:
        """Rows of which `stored` says that they are here."""
        count = self._repeated.due(rows, trio.current_time())
        if count:
            self._emit(RowsRepeated(self._dataset, count, stored))


@dataclass(slots=True)
class Seldom:
    """Counts, and gives the count at most once in QUIET seconds."""

    count: int = 0
    quiet_until: float = float("-inf")

    def due(self, more: int, now: float) -> int:
        """What was counted since it was told last, if there is more and it is time; else 0."""
        self.count += more
        if not more or now < self.quiet_until:
            return 0
        told, self.count, self.quiet_until = self.count, 0, now + QUIET
        return told
