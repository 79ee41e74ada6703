"""The conversation between the query actor and a worker, as values and bytes; no socket in sight.

One connection carries one query:

    daemon   Ask ──────────────▶ worker
         ◀── NeedCatalog, Give ─▶         only where the worker has another version
         ◀── Resolve, Give ─────▶         none to two times; pins are held until the end
         ◀── Schema, Chunk ..., End       or Failed at any point

Closing the connection cancels; the worker closes its side once nothing of the query runs any more, unless its End said
so already. A frame is two little-endian u32 lengths, a header in JSON, a payload of raw bytes.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, get_args

from caraway.core.predicate import Literal, Predicate
from caraway.errors import QueryFailure
from caraway.model import (
    Catalog,
    IpcTail,
    Parameters,
    PlanFacts,
    Principal,
    ResultFormat,
    ScanRequest,
    Snapshot,
    SnapshotData,
    TableInfo,
    ViewInfo,
)
from caraway.query import wire

MAX_HEADER = 64 * 1024**2
MAX_PAYLOAD = 2**31 - 1
CHUNK_BYTES = 2 * 1024**2
"""A chunk is cut about here; only a single row may be larger. gRPC clients take no more than 4 MiB by default."""
SMALL_FRAMES = 2**15
AT_ONCE = 2**23
"""Memory for a frame is taken on its word up to here, and beyond as it arrives."""
_LENGTHS = struct.Struct("<II")


class Work(Enum):
    """What an Ask wants: rows, or the schema of a query or of the table that `sql` names."""

    ROWS = "rows"
    PLAN = "plan"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Ask:
    sql: str
    work: Work = Work.ROWS
    parameters: Parameters = ()
    format: ResultFormat = ResultFormat.JSON
    catalog: int = 0
    compression: str = "none"


@dataclass(frozen=True, slots=True)
class GiveCatalog:
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class GiveSnapshots:
    """Pinned snapshots, in the order of the scans that were asked for, and what each may show (`Pinned.only`)."""

    snapshots: tuple[Snapshot, ...]
    only: tuple[Predicate | None, ...]


@dataclass(frozen=True, slots=True)
class NeedCatalog:
    pass


@dataclass(frozen=True, slots=True)
class Resolve:
    scans: tuple[ScanRequest, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """Followed by the flatbuffer of an Arrow schema message as payload."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`rows` that this piece of the answer completes; an IPC message's flatbuffer ends at `split`, its body follows."""

    rows: int
    split: int = 0
    payload: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete; with `stopped` nothing of the query runs any more."""

    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    failure: QueryFailure
    message: str


Request: TypeAlias = Ask | GiveCatalog | GiveSnapshots
Reply: TypeAlias = NeedCatalog | PlanFacts | Resolve | Schema | Chunk | End | Failed
Message: TypeAlias = Request | Reply

_CLASSES = {
    kind.__name__: kind
    for kind in (
        *get_args(Predicate),
        *get_args(SnapshotData),
        *(Literal, IpcTail, Snapshot, ScanRequest, Principal, Catalog, TableInfo, ViewInfo, ResultFormat, QueryFailure),
        *(Work, Ask, GiveCatalog, GiveSnapshots, NeedCatalog, PlanFacts, Resolve, End, Failed),
    )
}


class ProtocolError(Exception):
    """The other side sent what this protocol does not know: a bug, or another version."""


def encode(message: Message) -> tuple[bytes, bytes | memoryview]:
    """Frame and header, then the payload, apart so that a large one is not copied."""
    payload: bytes | memoryview = b""
    match message:
        case Chunk(rows, split, payload):
            header = b"%d %d" % (rows, split)
        case Schema(payload):
            header = b"s"
        case _:
            header = wire.dumps(message)
    return _LENGTHS.pack(len(header), len(payload)) + header, payload


class Decoder:
    """Bytes in, messages out; holds at most one incomplete frame.

    The reader fills `space()` and tells `filled` how far. A frame that is larger than the buffer for small ones gets
    one of its own size: its payload is a view of that, never copied.
    """

    def __init__(self) -> None:
        self._small = memoryview(bytearray(SMALL_FRAMES))
        self._buffer = self._small
        self._held = 0

    def space(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._buffer[self._held :]

    def filled(self, count: int) -> list[Message]:
        """The messages that `count` more bytes complete; ProtocolError for bytes that are none."""
        self._held += count
        messages: list[Message] = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def feed(self, data: bytes) -> list[Message]:
        """`filled`, for bytes that are elsewhere."""
        messages: list[Message] = []
        left = memoryview(data)
        while left:
            space = self.space()[: len(left)]
            space[:] = left[: len(space)]
            left = left[len(space) :]
            messages += self.filled(len(space))
        return messages

    def _take(self) -> Message | None:
        if self._held < _LENGTHS.size:
            return None
        header, payload = _LENGTHS.unpack_from(self._buffer)
        if header > MAX_HEADER or payload > MAX_PAYLOAD:
            raise ProtocolError(f"a frame of {header} + {payload} bytes")
        body = _LENGTHS.size + header
        end = body + payload
        if end > len(self._buffer) and (self._buffer is self._small or self._held == len(self._buffer)):
            self._grow(min(end, max(AT_ONCE, 2 * self._held)))
        if self._held < end:
            return None
        head, rest = bytes(self._buffer[_LENGTHS.size : body]), self._buffer[body:end]
        if self._buffer is not self._small:
            self._buffer, self._held = self._small, 0
            return _message(head, rest.toreadonly())
        message = _message(head, bytes(rest))
        self._held -= end
        self._small[: self._held] = self._small[end : end + self._held]
        return message

    def _grow(self, size: int) -> None:
        buffer = memoryview(bytearray(size))
        buffer[: self._held] = self._buffer[: self._held]
        self._buffer = buffer


def _message(header: bytes, payload: bytes | memoryview) -> Message:
    if header[:1].isdigit():
        rows, split = header.split()
        return Chunk(int(rows), int(split), payload)
    if header == b"s":
        return Schema(bytes(payload))
    try:
        message: Message = wire.loads(header, _CLASSES)
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"an unreadable header: {error}") from error
    if not isinstance(message, Message):
        raise ProtocolError(f"{type(message).__name__} is no message")
    return message
