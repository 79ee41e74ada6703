"""Query results as the bytes of an HTTP answer, batch by batch, without Python work per row.

The formats follow reference/http_api.md 1.2. `scripts/benchmarks/http_server.py` measures the rows a second.
"""

from collections.abc import Callable
from typing import Protocol

import orjson
import pyarrow as pa

from caraway.errors import QueryError, QueryFailure
from caraway.model import ResultFormat
from caraway.query.worker.render_csv import header, lines
from caraway.query.worker.render_json import objects
from caraway.query.worker.render_schema import schema_json
from caraway.query.worker.render_table import table
from caraway.query.worker.render_values import raw_bytes

TABLE_BYTES = 32 * 1024**2
"""Arrow memory that a text table may hold: it is aligned, so all of it is needed before its first line."""

SLICE_BYTES = 32 * 1024**2
"""A greater batch is rendered in halves, so that no string array comes near the 2 GiB of its offsets."""


class Renderer(Protocol):
    """Bytes of one answer: `start`, then `batch` for each batch in order, then `end`; concatenated they are the body.

    What can't be rendered raises QueryError with the failure INTERNAL (too big a table: RESOURCES).
    """

    def start(self) -> bytes: ...

    def batch(self, batch: pa.RecordBatch) -> bytes: ...

    def end(self) -> bytes: ...


def renderer(format: ResultFormat, schema: pa.Schema) -> Renderer:  # noqa: A002 - the field of Query has this name
    """The renderer of a format; `schema` is that of every batch."""
    return _RENDERERS[format](schema)


class JsonRenderer:
    """An array of objects, `[{"a":1},{"a":2}]`; members that are NULL are left out."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names
        self._first = True

    def start(self) -> bytes:
        return b"["

    def batch(self, batch: pa.RecordBatch) -> bytes:
        text = b"".join(
            raw_bytes(objects(self._names, part.columns, part.num_rows, lead=",")) for part in _portions(batch)
        )
        if self._first and text:
            self._first = False
            return text[1:]
        return text

    def end(self) -> bytes:
        return b"]"


class EnvelopeRenderer:
    """`{"schema":{..},"data":[..],"row_count":n}`; the count comes last, so that an answer of any size streams."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows = JsonRenderer(schema)
        self._count = 0
        self._begun = False

    def start(self) -> bytes:
        return b""

    def batch(self, batch: pa.RecordBatch) -> bytes:
        self._count += batch.num_rows
        return self._opening(schema_json(self._schema)) + self._rows.batch(batch)

    def end(self) -> bytes:
        return self._opening({}) + b'],"row_count":%d}' % self._count

    def _opening(self, schema: object) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return b'{"schema":' + orjson.dumps(schema) + b',"data":['


class CsvRenderer:
    """A header line and a line for each row; an answer without batches is empty."""

    def __init__(self, schema: pa.Schema) -> None:
        self._header = header(schema.names).encode()

    def start(self) -> bytes:
        return b""

    def batch(self, batch: pa.RecordBatch) -> bytes:
        head, self._header = self._header, b""
        return head + b"".join(raw_bytes(lines(part.columns, part.num_rows)) for part in _portions(batch))

    def end(self) -> bytes:
        return b""


class TextRenderer:
    """The box table, which comes as a whole at the end."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0

    def start(self) -> bytes:
        return b""

    def batch(self, batch: pa.RecordBatch) -> bytes:
        self._bytes += batch.nbytes
        if self._bytes > TABLE_BYTES:
            limit = TABLE_BYTES // 1024**2
            raise QueryError(
                f"The result is over {limit} MiB, too much for a text table. Add a LIMIT, or accept application/json "
                "or text/csv, which stream.",
                QueryFailure.RESOURCES,
            )
        self._batches.append(batch)
        return b""

    def end(self) -> bytes:
        # Not as a pa.Table: batches may differ from the planned schema in what can be null.
        columns = [self._column(i, field.type) for i, field in enumerate(self._schema)]
        return table(self._schema.names, columns).encode()

    def _column(self, i: int, kind: pa.DataType) -> pa.Array:
        pieces = [batch.column(i) for batch in self._batches]
        return pa.concat_arrays(pieces) if pieces else pa.array([], kind)


class ArrowStreamRenderer:
    """An Arrow IPC stream."""

    def __init__(self, schema: pa.Schema) -> None:
        self._sink = _Drain()
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def start(self) -> bytes:
        return self._sink.drain()

    def batch(self, batch: pa.RecordBatch) -> bytes:
        self._writer.write_batch(batch)
        return self._sink.drain()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.drain()


class _Drain:
    """A file to write to, emptied by `drain`."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def drain(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _portions(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    rows = batch.num_rows
    if not rows:
        return []
    if batch.nbytes <= SLICE_BYTES or rows == 1:
        return [batch]
    return _portions(batch.slice(0, rows // 2)) + _portions(batch.slice(rows // 2))


_RENDERERS: dict[ResultFormat, Callable[[pa.Schema], Renderer]] = {
    ResultFormat.JSON: JsonRenderer,
    ResultFormat.ENVELOPE: EnvelopeRenderer,
    ResultFormat.CSV: CsvRenderer,
    ResultFormat.TEXT: TextRenderer,
    ResultFormat.ARROW_STREAM: ArrowStreamRenderer,
}
