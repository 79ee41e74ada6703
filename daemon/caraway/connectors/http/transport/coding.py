"""Content codings undone piece by piece, so that a small body which decodes to a huge one is never held."""

import zlib
from collections.abc import Iterator, Sequence

from caraway.model import HttpHeaders

ACCEPTED = "gzip, deflate"
PIECE = 256 * 1024
"""Bytes; no more is decoded at a time."""
_HEAD = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class CodingError(Exception):
    """The body is not what its Content-Encoding says."""


class Inflater:
    """gzip, several members too, and deflate with or without zlib's frame, which servers do not agree on."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._bits = 16 + zlib.MAX_WBITS if self._gzip else zlib.MAX_WBITS
        self._inner = zlib.decompressobj(self._bits)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the data decodes to, in pieces. CodingError."""
        while data:
            if self._inner.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return  # padding, which some servers send
                self._inner = zlib.decompressobj(self._bits)
            yield from self._inflate(data)
            data = self._inner.unused_data

    def finish(self) -> None:
        """CodingError where the end is missing."""
        if self._begun and not self._inner.eof:
            raise CodingError("it ends too early")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while data:
            try:
                piece = self._inner.decompress(data, PIECE)
            except zlib.error as error:
                if self._gzip or self._begun:
                    raise CodingError(str(error)) from error
                self._inner, self._begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            self._begun = True
            if piece:
                yield piece
            data = self._inner.unconsumed_tail


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
