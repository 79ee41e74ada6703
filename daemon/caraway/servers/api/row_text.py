"""A body as one text, without a copy of it."""

import pyarrow as pa

from caraway.errors import QueryError


def whole_text(body: bytes) -> pa.LargeStringArray:
    """The body as the only value of an array; QueryError INVALID where it is not UTF-8, and where."""
    ends = pa.array([0, len(body)], pa.int64()).buffers()[1]
    text = pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(body))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _not_utf8(body) from error
    return text


def _not_utf8(body: bytes) -> QueryError:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return QueryError(f"The body is not UTF-8: {error.reason} at byte {error.start}, in line {line}.")
    return QueryError("The body is not UTF-8.")
