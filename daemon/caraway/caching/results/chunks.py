"""The pieces of an answer, and how they are made smaller (`encoding: zstd`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from caraway.model import FlightMessage

Chunk: TypeAlias = bytes | FlightMessage
Chunks: TypeAlias = tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """Chunks compressed as one; `lengths` are those of their pieces, two for each message."""

    data: bytes
    lengths: tuple[int, ...]
    messages: bool

    @property
    def unpacked_size(self) -> int:
        return sum(self.lengths)


def owned(chunk: Chunk) -> Chunk:
    """A chunk that holds no more memory than its bytes take: what comes from a worker may be a view of a buffer."""
    if isinstance(chunk, FlightMessage):
        return FlightMessage(bytes(chunk.header), bytes(chunk.body))
    return bytes(chunk)


def weight(chunk: Chunk) -> int:
    """The bytes of a chunk on its own."""
    return len(chunk.header) + len(chunk.body) if isinstance(chunk, FlightMessage) else len(chunk)


def joined(chunks: Iterable[Chunk]) -> Chunks:
    """As `ports.Answered` has them: messages as they came, text in one piece."""
    whole = tuple(chunks)
    texts = [chunk for chunk in whole if isinstance(chunk, bytes)]
    return (b"".join(texts),) if len(texts) > 1 else whole


def pack(chunks: Chunks) -> Packed | None:
    """The chunks compressed; None where that gains nothing."""
    pieces = list(_pieces(chunks))
    data = pa.Codec("zstd").compress(b"".join(pieces), asbytes=True)
    packed = Packed(data, tuple(map(len, pieces)), isinstance(next(iter(chunks), b""), FlightMessage))
    return packed if len(data) < packed.unpacked_size else None


def unpack(packed: Packed) -> Chunks:
    """What was packed."""
    data = pa.Codec("zstd").decompress(packed.data, packed.unpacked_size, asbytes=True)
    pieces = _cut(data, packed.lengths)
    if packed.messages:
        return tuple(FlightMessage(bytes(header), next(pieces)) for header in pieces)
    return tuple(bytes(piece) for piece in pieces)


def _pieces(chunks: Iterable[Chunk]) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        if isinstance(chunk, FlightMessage):
            yield chunk.header
            yield chunk.body
        else:
            yield chunk


def _cut(data: bytes, lengths: tuple[int, ...]) -> Iterator[memoryview]:
    start, view = 0, memoryview(data)
    for length in lengths:
        yield view[start : start + length]
        start += length
