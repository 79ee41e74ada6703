"""One DoPut call (reference/flight_wire.md 5).

    schema ──▶ batches, as many as are there ──▶ DatasetHandle.write ──▶ durable ──▶ acknowledgements
                ▲                                                          │
                └────────────────── what came meanwhile ◀──────────────────┘

One write of a call runs at a time, so that its rows stay in order; what arrives while it runs makes the next one.
"""

import json
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import trio

from caraway.errors import QueryError, QueryFailure, SourceError, StoreError, ViolationError
from caraway.flight.codec import BatchDecoder, FlightData, HeaderKind, decode, header_kind
from caraway.flight.flight_pb2 import PutResult
from caraway.island import Inlet, Outlet
from caraway.kernels.sizes import body_bytes
from caraway.model import Append, Position, TableSpec, Written
from caraway.servers.flight.schemas import MAX_BATCH_BYTES, first_difference, fitted
from caraway.servers.flight.status import Code, RefusalError, refusal_of
from caraway.servers.flight.stopping import Stopping
from caraway.servers.services import DatasetHandle

GROUP_BYTES = 4 * 1024**2
GROUP_MESSAGES = 128
"""What is read before it is written, so that no call keeps the others waiting."""
KEEPALIVE = b"spice-keepalive"
STOPPING_GRACE = 1.0
"""For how long a call may be silent once the server stops."""
CROWDED_SECONDS, CROWDED_PAUSE = 30.0, 0.05
LONGEST_METADATA = 4096
ACCEPTED = PutResult().SerializeToString()


@dataclass(slots=True)
class Totals:
    """What was made durable of each dataset."""

    rows: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, dataset: str, changes: Sequence[Append]) -> None:
        self.rows[dataset] += sum(change.rows.num_rows for change in changes)
        self.bytes[dataset] += sum(change.rows.nbytes for change in changes)


class Client:
    """The other side of a call: what it sends, and what it is told. `idle` bounds each wait for it, in seconds."""

    def __init__(self, messages: Inlet[bytes], replies: Outlet[bytes], stopping: Stopping, idle: float) -> None:
        self._messages = messages
        self._replies = replies
        self._stopping = stopping
        self._idle = idle
        self.next_nowait = messages.take_nowait

    async def next(self) -> bytes | None:
        """The next message; None where the client has ended the stream."""
        with self._stopping.waiting(STOPPING_GRACE), trio.move_on_after(self._idle):
            return await anext(self._messages, None)
        raise RefusalError(Code.DEADLINE_EXCEEDED, f"Nothing came for {self._idle:.0f} seconds.")

    async def tell(self, reply: bytes) -> None:
        """Send one PutResult."""
        with trio.move_on_after(self._idle):
            await self._replies.put(reply)
            return
        raise RefusalError(Code.DEADLINE_EXCEEDED, f"No answer was taken for {self._idle:.0f} seconds.")


@dataclass(frozen=True, slots=True)
class _Group:
    """Batches to write together, and how many acknowledgements were asked for with them."""

    batches: tuple[pa.RecordBatch, ...]
    acks: int


class Put:
    """A call that brings rows to one dataset."""

    def __init__(self, client: Client, handle: DatasetHandle, totals: Totals) -> None:
        self._client = client
        self._handle = handle
        self._totals = totals
        self._decoder = BatchDecoder()
        self._spec = _spec_of(handle)
        self._accepted = False
        self._end: Position | None = None
        self._rows = 0

    def open(self, first: FlightData) -> None:
        """Take the schema in the first message; RefusalError where rows of it do not fit."""
        if _kind(first) != HeaderKind.SCHEMA:
            raise _invalid("The first message has no schema, by which the rows that follow are read.")
        self._decode(first)
        try:
            difference = first_difference(self._decoder.schema, self._spec.schema)
        except UnicodeDecodeError as error:  # Arrow looks at names when they are asked for
            raise _invalid("Schema validation error: a name is not UTF-8.") from error
        if difference is not None:
            raise _invalid(f"Schema validation error: {difference} (dataset {self._handle.config.name}).")

    async def run(self) -> None:
        """Write until the client is done, then tell it where its rows end."""
        while (group := await self._gather()) is not None:
            if group.batches:
                await self._accept()
                await self._write([Append(rows) for rows in group.batches if rows.num_rows])
            for _ in range(group.acks):
                await self._client.tell(self._written())
        await self._client.tell(self._written())

    async def _gather(self) -> _Group | None:
        """What is there, once there is something; None at the end of the stream."""
        message = await self._client.next()
        if message is None:
            return None
        batches: list[pa.RecordBatch] = []
        acks = size = count = 0
        while message is not None:
            data = read_message(message)
            wants = wants_ack(data.app_metadata)
            rows = self._batch(data, silent=wants or data.app_metadata == KEEPALIVE)
            if rows is not None:
                batches.append(rows)
                size += rows.nbytes
            acks, count = acks + wants, count + 1
            full = size >= GROUP_BYTES or count >= GROUP_MESSAGES
            message = None if full else self._client.next_nowait()
        return _Group(tuple(batches), acks)

    def _batch(self, data: FlightData, *, silent: bool) -> pa.RecordBatch | None:
        """The batch that a message completes; `silent`: it may come without rows."""
        match _kind(data):
            case HeaderKind.RECORD_BATCH:
                return self._conformed(data)
            case HeaderKind.DICTIONARY:
                return self._decode(data)
            case HeaderKind.NONE if silent:
                return None
            case _:
                raise _invalid("A message amid the rows holds none: after the schema come record batches alone.")

    def _conformed(self, data: FlightData) -> pa.RecordBatch:
        rows = self._decode(data)
        try:
            return fitted(rows, self._spec)
        except (pa.ArrowException, StoreError) as error:
            raise _invalid(f"A record batch for dataset {self._spec.name} is unusable: {error}") from error

    def _decode(self, data: FlightData) -> pa.RecordBatch | None:
        try:
            if body_bytes(bytes(data.header), data.body) > MAX_BATCH_BYTES:
                raise _invalid(f"A message holds more than {MAX_BATCH_BYTES // 1024**2} MiB once decompressed.")
            return self._decoder.decode(data)
        except (SourceError, struct.error) as error:
            raise _invalid(f"A message can't be read ({error.__cause__ or error}).") from error

    async def _accept(self) -> None:
        if not self._accepted:
            self._accepted = True
            await self._client.tell(ACCEPTED)

    async def _write(self, changes: Sequence[Append]) -> None:
        if not changes:
            return
        try:
            written = await self._patiently(changes)
        except ViolationError as error:
            raise _invalid(self._with_kept(str(error))) from error
        except StoreError as error:
            code = Code.RESOURCE_EXHAUSTED if error.transient else Code.INTERNAL
            raise RefusalError(code, self._with_kept(str(error))) from error
        except QueryError as error:
            raise refusal_of(QueryError(self._with_kept(error.message), error.failure)) from error
        self._end = written.end
        self._rows += sum(change.rows.num_rows for change in changes)
        self._totals.add(self._handle.config.name, changes)

    async def _patiently(self, changes: Sequence[Append]) -> Written:
        """Write; where others' rows fill the queue, wait for room: whoever is turned away only sends it all again."""
        deadline = trio.current_time() + CROWDED_SECONDS
        while True:
            try:
                return await self._handle.write(changes)
            except QueryError as error:
                if error.failure is not QueryFailure.OVERLOADED or trio.current_time() >= deadline:
                    raise
            await trio.sleep(CROWDED_PAUSE)

    def _with_kept(self, message: str) -> str:
        return f"{message} {self._rows} rows that this call brought before are kept." if self._rows else message

    def _written(self) -> bytes:
        """The PutResult that says what is durable."""
        end = {} if self._end is None else {"epoch": self._end.epoch, "offset": self._end.offset}
        said = json.dumps({"caraway": {**end, "rows": self._rows}}, separators=(",", ":")).encode()
        return bytes(PutResult(app_metadata=said).SerializeToString())


def read_message(wire: bytes) -> FlightData:
    """FlightData, or RefusalError."""
    try:
        return decode(wire)
    except SourceError as error:
        raise _invalid(f"A message is not FlightData ({error.__cause__}).") from error


def wants_ack(app_metadata: bytes) -> bool:
    """Whether a message asks to be told when all up to it is durable."""
    if not app_metadata or len(app_metadata) > LONGEST_METADATA:
        return False
    try:
        return json.loads(app_metadata)["caraway"]["ack"] is True
    except (ValueError, TypeError, LookupError, RecursionError):
        return False


def _spec_of(handle: DatasetHandle) -> TableSpec:
    log = handle.log.value
    if log is None:
        message = f"Dataset {handle.config.name} takes no writes yet; its status tells why. Try again."
        raise QueryError(message, QueryFailure.NOT_READY)
    return log.spec


def _kind(data: FlightData) -> int:
    try:
        return header_kind(data.header)
    except SourceError as error:
        raise _invalid(f"A message can't be read ({error.__cause__}).") from error


def _invalid(message: str) -> RefusalError:
    return RefusalError(Code.INVALID_ARGUMENT, message)
