"""JSON objects as pyarrow reads them: one a line."""

import re
from functools import cache

import pyarrow as pa

from caraway.connectors.formats.base import BLOCK_BYTES

_AROUND = 64
_NULL_LINE = re.compile(rb"\n[ \t\r]*null")
_DEPTH = 16
"""Objects within objects of an array, at most: regular expressions do not count. They take 54 MB/s, where a loop over
the braces takes 10."""
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[")
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


class Objects:
    """A stream of JSON text as objects, each on a line of its own, whether they come so or in one array.

    A line `null` is an error: pyarrow's reader crashes the process on a block that begins with one (26.0.1).
    """

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._end = b"\n"
        self._array: _Array | None = None
        self._begun = False

    def read(self, size: int) -> bytes:
        if not self._begun:
            return self._first(size)
        return self._checked(self._stream.read(size)) if self._array is None else self._array.read(size)

    def _first(self, size: int) -> bytes:
        self._begun = True
        data: bytes = self._stream.read(size)
        if (found := _ARRAY.match(data)) is None:
            return self._checked(data)
        self._array = _Array(self._stream, data[found.end() :])
        return self._array.read(size)

    def _checked(self, data: bytes) -> bytes:
        if _NULL_LINE.search(self._end + data[:_AROUND]) or _NULL_LINE.search(data):
            raise pa.ArrowInvalid("JSON parse error: a line is null, not an object")
        self._end = (self._end + data)[-_AROUND:]
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class _Array:
    """The elements of an array whose bracket was read; of the text only what makes no whole object yet is held."""

    def __init__(self, stream: pa.NativeFile, begin: bytes) -> None:
        self._stream = stream
        self._text = begin
        self._lines = b""
        self._closed = False

    def read(self, size: int) -> bytes:
        """Lines, but for their last bytes where they are more than `size`."""
        while not self._lines and not self._closed:
            self._lines = self._taken()
            if not self._lines and not self._closed:
                self._text += self._more(size)
        self._check_end(size)
        data, self._lines = self._lines[:size], self._lines[size:]
        return data

    def _taken(self) -> bytes:
        """The whole elements of the text."""
        lines, done = [], 0
        while (found := _element().match(self._text, done)) is not None:
            lines.append(found[1].translate(_LINE_ENDS))
            done = found.end()
            self._closed = found[2] == b"]"
        self._text = self._text[done:]
        begin = self._text.lstrip()[:1]
        if not self._closed and begin == b"]" and not lines:
            self._closed, self._text = True, self._text.lstrip()[1:]
        elif not self._closed and (begin not in {b"", b"{"} or len(self._text) > BLOCK_BYTES):
            raise pa.ArrowInvalid("JSON parse error: an element of the array is no object, or a very large one")
        return b"\n".join([*lines, b""])

    def _more(self, size: int) -> bytes:
        more: bytes = self._stream.read(size)
        if not more:
            raise pa.ArrowInvalid("JSON parse error: the array ends within an element, or is not closed")
        return more

    def _check_end(self, size: int) -> None:
        """Nothing but space may follow the array."""
        while self._closed and not self._text.strip():
            self._text = self._stream.read(size)
            if not self._text:
                return
        if self._closed:
            raise pa.ArrowInvalid("JSON parse error: something follows the array")


@cache
def _element() -> re.Pattern[bytes]:
    """An object, and the comma or the bracket behind it."""
    space, whole = rb"[ \t\r\n]*+", _object(_DEPTH)
    return re.compile(space + rb"(" + whole + rb")" + space + rb"([,\]])", re.DOTALL)


def _object(depth: int) -> bytes:
    inner = rb"|" + _object(depth - 1) if depth else b""
    return rb'\{(?:[^"{}]++|"(?:[^"\\]++|\\.)*+"' + inner + rb")*+\}"
