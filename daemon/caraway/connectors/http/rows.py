"""Rows out of one answer of an API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa

from caraway.connectors.http.bodies import Rows
from caraway.connectors.http.decompose import CONTENT, EXCHANGE, FETCHED_AT, HEADERS, STATUS, Layout
from caraway.core.http_fields import by_name
from caraway.model import HttpHeaders, Request

MOST_ROWS = 16_384
"""Of one batch."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What all rows of an answer say."""

    request: Request
    status: int
    headers: HttpHeaders
    at: datetime

    def value(self, name: str) -> object:
        match name:
            case "request_path":
                return self.request.path
            case "request_query":
                return self.request.query
            case "request_body":
                return self.request.body or ""
            case "request_headers":
                return self.request.headers
            case _ if name == STATUS:
                return self.status
            case _ if name == HEADERS:
                return list(by_name(self.headers).items())
            case _:
                assert name == FETCHED_AT
                return (self.at - _EPOCH) // timedelta(microseconds=1) * 1000


def make_batches(rows: Rows, exchange: Exchange, layout: Layout, columns: Sequence[str]) -> list[pa.RecordBatch]:
    """The rows with these columns of the layout, one column or more; BodyError."""
    if not rows.values:
        return []
    schema = pa.schema([layout.schema.field(name) for name in columns])
    arrays = [_column(field, rows, exchange, layout) for field in schema]
    whole = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return [whole.slice(start, MOST_ROWS) for start in range(0, whole.num_rows, MOST_ROWS)]


def _column(field: pa.Field, rows: Rows, exchange: Exchange, layout: Layout) -> pa.Array:
    if field.name == CONTENT:
        return pa.array(rows.contents(), pa.binary()).cast(pa.utf8())
    if field.name in EXCHANGE.names:
        return pa.repeat(pa.scalar(exchange.value(field.name), field.type), len(rows.values))
    return layout.column(field, rows)
