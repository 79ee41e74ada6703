"""The conversation between the query actor and a worker, as values and bytes; no socket in sight.

One connection carries one query:

    daemon   Ask ──────────────▶ worker
         ◀── NeedCatalog, Give ─▶         only where the worker has another version
         ◀── Resolve, Give ─────▶         none to two times; pins are held until the end
         ◀── Schema, Chunk ..., End       or Failed at any point

Closing the connection cancels; the worker closes its side once nothing of the query runs any more. A frame is two
little-endian u32 lengths, a header in JSON, a payload of raw bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, get_args

from caraway.core.predicate import Literal, Predicate
from caraway.errors import QueryFailure
from caraway.model import (
    Catalog,
    IpcTail,
    Parameters,
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
    """Pinned snapshots, in the order of the scans that were asked for."""

    snapshots: tuple[Snapshot, ...]


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
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class End:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    failure: QueryFailure
    message: str


Request: TypeAlias = Ask | GiveCatalog | GiveSnapshots
Reply: TypeAlias = NeedCatalog | Resolve | Schema | Chunk | End | Failed
Message: TypeAlias = Request | Reply

_CLASSES = {
    kind.__name__: kind
    for kind in (
        *get_args(Predicate),
        *get_args(SnapshotData),
        *(Literal, IpcTail, Snapshot, ScanRequest, Catalog, TableInfo, ViewInfo, ResultFormat, QueryFailure),
        *(Work, Ask, GiveCatalog, GiveSnapshots, NeedCatalog, Resolve, End, Failed),
    )
}


class ProtocolError(Exception):
    """The other side sent what this protocol does not know: a bug, or another version."""


def encode(message: Message) -> tuple[bytes, bytes]:
    """Frame and header, then the payload, apart so that a large one is not copied."""
    match message:
        case Chunk(rows, split, payload):
            header = b"%d %d" % (rows, split)
        case Schema(payload):
            header = b"s"
        case _:
            header, payload = wire.dumps(message), b""
    return _LENGTHS.pack(len(header), len(payload)) + header, payload


class Decoder:
    """Bytes in, messages out; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _LENGTHS.size

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes; ProtocolError for bytes that are none."""
        self._pieces.append(data)
        self._held += len(data)
        while self._held >= self._wanted:
            buffer = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            message, rest = self._take(buffer)
            self._pieces, self._held = [rest], len(rest)
            if message is None:
                continue
            self._wanted = _LENGTHS.size
            yield message

    def _take(self, buffer: bytes) -> tuple[Message | None, bytes]:
        header, payload = _LENGTHS.unpack_from(buffer)
        if header > MAX_HEADER or payload > MAX_PAYLOAD:
            raise ProtocolError(f"a frame of {header} + {payload} bytes")
        start = _LENGTHS.size
        self._wanted = start + header + payload
        if len(buffer) < self._wanted:
            return None, buffer
        body = start + header
        return _message(buffer[start:body], buffer[body : self._wanted]), buffer[self._wanted :]


def _message(header: bytes, payload: bytes) -> Message:
    if header[:1].isdigit():
        rows, split = header.split()
        return Chunk(int(rows), int(split), payload)
    if header == b"s":
        return Schema(payload)
    try:
        message: Message = wire.loads(header, _CLASSES)
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"an unreadable header: {error}") from error
    if not isinstance(message, Message):
        raise ProtocolError(f"{type(message).__name__} is no message")
    return message
