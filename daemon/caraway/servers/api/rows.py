"""Rows into and out of datasets that are written to: POST and DELETE /v1/datasets/{name}/rows.

A request is read whole before any of it is written, and answered once all of it is durable. Requests that come at the
same time share a commit.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa
import trio
from starlette.requests import Request

from caraway import blocking
from caraway.config.model import Access
from caraway.errors import QueryError, QueryFailure, StoreError, ViolationError
from caraway.kernels.rows import RowError
from caraway.model import Append, Delete, TableSpec, Written
from caraway.servers.api.bodies import Bodies
from caraway.servers.api.datasets import find
from caraway.servers.api.reply import JSON, Reply, ReplyError, header, json, message
from caraway.servers.api.row_arrow import arrow_rows
from caraway.servers.api.row_csv import csv_rows
from caraway.servers.api.row_json import json_rows, ndjson_rows
from caraway.servers.services import DatasetHandle

Read = Callable[[bytes, pa.Schema, Collection[str]], pa.RecordBatch]

MAX_CELLS = 16 * 1024**2
"""Rows times columns of a request: two characters may be a row, which takes more in memory."""

IN_PLACE_BYTES = 16 * 1024
"""A body of this size is read in less time than it takes to ask a thread."""

THREADS = 2
"""Bodies that are read at a time."""

RETRY = ((b"retry-after", b"1"),)

STATUS = {
    QueryFailure.INVALID: 400,
    QueryFailure.FORBIDDEN: 403,
    QueryFailure.RESOURCES: 413,
}
"""Of a QueryError; any other one is 503: it may be answered later."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a body becomes rows; one of `marks` stands in each of them."""

    read: Read
    marks: bytes = b""

    def most_rows(self, body: bytes) -> int:
        """More than a body can hold."""
        return max((body.count(mark) + 1 for mark in self.marks), default=0)


FORMATS = {
    "application/json": Format(json_rows, b"{"),
    "application/x-ndjson": Format(ndjson_rows, b"{"),
    "application/ndjson": Format(ndjson_rows, b"{"),
    "application/jsonl": Format(ndjson_rows, b"{"),
    "text/csv": Format(csv_rows, b"\r\n"),
    "application/vnd.apache.arrow.stream": Format(arrow_rows),
}


class RowRoutes:
    """Handlers over the daemon's datasets."""

    def __init__(self, datasets: Mapping[str, DatasetHandle], bodies: Bodies) -> None:
        self._datasets = datasets
        self._bodies = bodies
        self._threads = trio.CapacityLimiter(THREADS)

    async def insert(self, request: Request) -> Reply:
        handle, spec = self._target(request)
        rows = await self._rows(request, spec.schema, spec.primary_key)
        return _written(201, await _write(handle, [Append(rows)]))

    async def delete(self, request: Request) -> Reply:
        handle, spec = self._target(request)
        if not spec.primary_key:
            raise ReplyError(message(400, f"Dataset {spec.name} has no primary_key, by which rows could be deleted."))
        optional = pa.schema([field.with_nullable(True) for field in spec.schema])
        rows = await self._rows(request, optional, spec.primary_key)
        return _written(200, await _write(handle, [Delete(rows.select(list(spec.primary_key)))]))

    def _target(self, request: Request) -> tuple[DatasetHandle, TableSpec]:
        """The dataset that is written to, and its table."""
        handle = find(self._datasets, request.path_params["name"])
        name = handle.config.name
        if handle.config.access is not Access.READ_WRITE:
            words = f"Dataset {name} is read-only; a memory: dataset is written to with access: read_write."
            raise ReplyError(message(403, words))
        log = handle.log.value
        if log is None:
            raise ReplyError(_failure(503, f"Dataset {name} is not open yet. Try again."))
        return handle, log.spec

    async def _rows(self, request: Request, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
        """The rows of a body; ReplyError for what is none."""
        form = _format(request)
        async with self._bodies.read(request.receive) as body:
            if form.most_rows(body) * len(schema) > MAX_CELLS:
                raise ReplyError(message(413, "The body holds too many rows for one request; send fewer at once."))
            try:
                if len(body) <= IN_PLACE_BYTES:
                    return form.read(body, schema, required)
                return await blocking.call(form.read, body, schema, required, limiter=self._threads)
            except QueryError as error:
                raise ReplyError(_refusal(error)) from error


def _format(request: Request) -> Format:
    """By Content-Type; 415 with what there is."""
    written = (header(request.scope, b"content-type") or b"").decode("latin-1").lower()
    kind, *parameters = (part.strip() for part in written.split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")}
    if kind not in FORMATS or charsets - {"utf-8", "utf8", "us-ascii"}:
        raise ReplyError(
            message(415, f"Content-Type {written[:80]!r} is not taken; {', '.join(FORMATS)} are, in UTF-8.")
        )
    if (header(request.scope, b"content-encoding") or b"identity").lower() != b"identity":
        raise ReplyError(message(415, "A Content-Encoding is not taken; send the body as it is."))
    return FORMATS[kind]


async def _write(handle: DatasetHandle, changes: Sequence[Append | Delete]) -> Written:
    try:
        return await handle.write(changes)
    except ViolationError as error:
        raise ReplyError(message(409, str(error))) from error
    except StoreError as error:
        raise ReplyError(_failure(503 if error.transient else 500, str(error))) from error
    except QueryError as error:
        raise ReplyError(_refusal(error)) from error


def _refusal(error: QueryError) -> Reply:
    status = STATUS.get(error.failure, 503)
    if isinstance(error, RowError):
        return json(status, {"message": error.message, "row": error.row, "column": error.column})
    return _failure(status, error.message)


def _failure(status: int, words: str) -> Reply:
    return Reply(status, orjson.dumps({"message": words}), JSON, RETRY if status == 503 else ())


def _written(status: int, written: Written) -> Reply:
    end = written.end
    return json(status, {"rows": written.rows, "epoch": end.epoch, "end_offset": end.offset})
