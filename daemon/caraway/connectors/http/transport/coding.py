"""Content codings undone piece by piece, so that a small body which decodes to a huge one is never held."""

import zlib
from collections.abc import Iterator, Sequence

from caraway.model import HttpHeaders

ACCEPTED = "gzip, deflate"
PIECE = 256 * 1024
"""Bytes; no more is decoded at a time."""
_RAW, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, 16 + zlib.MAX_WBITS
_HEAD = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class CodingError(Exception):
    """The body is not what its Content-Encoding says."""


class Inflater:
    """gzip, several members too, and deflate with or without zlib's frame, on which servers do not agree."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._head = b""
        self._inner = zlib.decompressobj(_GZIP) if self._gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the data decodes to, in pieces. CodingError."""
        if self._inner is None:
            self._head = data = self._head + data
            if len(data) < 2:
                return
            self._inner = zlib.decompressobj(_ZLIB if _has_frame(data) else _RAW)
        yield from self._inflate(self._inner, data)

    def finish(self) -> None:
        """CodingError where the end is missing."""
        if self._head and (self._inner is None or not self._inner.eof):
            raise CodingError("it ends too early")

    def _inflate(self, inner: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
        while data:
            if inner.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return  # padding, which some servers send
                inner = self._inner = zlib.decompressobj(_GZIP)
            self._head = self._head or data[:1]
            yield from _pieces(inner, data)
            data = inner.unused_data


def _pieces(inner: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What is not given out for its size may be held as input or within, where only another call finds it."""
    while True:
        try:
            piece = inner.decompress(data, PIECE)
        except zlib.error as error:
            raise CodingError(str(error)) from error
        if piece:
            yield piece
        data = inner.unconsumed_tail
        if inner.eof or (not data and len(piece) < PIECE):
            return


def _has_frame(data: bytes) -> bool:
    """Whether it begins as RFC 1950 2.2 says."""
    return data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2]) % 31 == 0


class Decoder:
    """All codings of a body, the outermost last in its header."""

    def __init__(self, codings: Sequence[str]) -> None:
        self._inflaters = [Inflater(coding) for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        return _through(self._inflaters, data)

    def finish(self) -> None:
        for inflater in self._inflaters:
            inflater.finish()


def _through(inflaters: Sequence[Inflater], data: bytes) -> Iterator[bytes]:
    if not inflaters:
        yield data
        return
    for piece in inflaters[0].feed(data):
        yield from _through(inflaters[1:], piece)


def decoder_of(headers: HttpHeaders) -> Decoder:
    """For a body with these headers. CodingError for a coding that was not asked for."""
    told = ",".join(value for name, value in headers if name == "content-encoding").lower()
    codings = [coding.strip().removeprefix("x-") for coding in told.split(",")]
    codings = [coding for coding in codings if coding and coding != "identity"]
    strange = [coding for coding in codings if coding not in ("gzip", "deflate")]
    if strange:
        raise CodingError(f"its coding is {strange[0]}, which was not asked for")
    return Decoder(codings)


def decoded(headers: HttpHeaders) -> HttpHeaders:
    """The headers of the body without its codings and framing: where it had a coding, its length is another one."""
    if not any(name == "content-encoding" for name, _ in headers):
        return headers
    return tuple(line for line in headers if line[0] not in _HEAD)
