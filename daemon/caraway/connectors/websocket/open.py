"""From a dataset's `from`, `columns` and `params` to a source."""

import re
import ssl
from pathlib import Path

import pyarrow as pa
import trio

from caraway import blocking
from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.config.sqltypes import schema_of
from caraway.connectors.websocket.address import CURSOR, Address, parse_address
from caraway.connectors.websocket.connection import MAX_MESSAGE_SIZE, PING_INTERVAL, Peer
from caraway.connectors.websocket.sequence import Sequence
from caraway.connectors.websocket.source import WebSocketSource
from caraway.core.http_fields import TOKEN
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import Secret
from caraway.ports import Emit

_OURS = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})
LEAST_PING = 0.1
MOST_PING = 3600.0


async def open_websocket_source(
    dataset: Dataset, params: ConnectorParams, emit: Emit, *, directory: Path = Path()
) -> WebSocketSource:
    """The source behind a `ws:` or `wss:` dataset; nothing is connected yet. ConfigError for what it can't use."""
    if not dataset.columns:
        needed = "a WebSocket tells no schema: declare the columns, each with a name and a type"
        raise ConfigError(ConfigProblem(needed, f"datasets[{dataset.name}].columns"))
    schema = schema_of(dataset.columns)
    sequence = _sequence(params, schema)
    address = _address(dataset)
    message = params.secret("ws_first_message") if params.has("ws_first_message") else None
    _check_cursor(dataset, params, address, message, sequence)
    peer = Peer(
        address,
        _subprotocols(params),
        _headers(params),
        message,
        _ping_interval(params),
        _max_message_size(params),
        await _tls(params, address, directory),
    )
    return WebSocketSource(peer, schema, sequence=sequence, dataset=dataset.name, emit=emit)


def _address(dataset: Dataset) -> Address:
    try:
        return parse_address(dataset.from_.text)
    except ValueError as error:
        raise ConfigError(ConfigProblem(str(error), f"datasets[{dataset.name}].from")) from error


def _sequence(params: ConnectorParams, schema: pa.Schema) -> Sequence | None:
    column = params.text("ws_sequence_field")
    if column is None:
        return None
    if column not in schema.names:
        raise params.wrong("ws_sequence_field", f"there is no column {column!r}; declared: {', '.join(schema.names)}")
    if not pa.types.is_integer(schema.field(column).type):
        kind = schema.field(column).type
        raise params.wrong("ws_sequence_field", f"the column {column!r} is {kind}; a sequence is whole numbers")
    return Sequence(column, params.integer("ws_sequence_start", 0))


def _check_cursor(
    dataset: Dataset, params: ConnectorParams, address: Address, message: Secret | None, sequence: Sequence | None
) -> None:
    if sequence is not None:
        return
    needed = f"{CURSOR} stands for the last sequence, which needs ws_sequence_field"
    if CURSOR in address.resource:
        raise ConfigError(ConfigProblem(needed, f"datasets[{dataset.name}].from"))
    if message is not None and CURSOR in message.reveal():
        raise params.wrong("ws_first_message", needed)


def _subprotocols(params: ConnectorParams) -> tuple[str, ...]:
    names = [name.strip() for name in params.text("ws_subprotocol", "").split(",")]
    for name in filter(None, names):
        if not re.fullmatch(TOKEN, name):
            raise params.wrong("ws_subprotocol", f"{name!r} is not the name of a subprotocol")
    return tuple(filter(None, names))


def _headers(params: ConnectorParams) -> tuple[tuple[str, Secret], ...]:
    """One `Name: value` a line; what is wrong is told without the values."""
    written = params.secret("ws_headers") if params.has("ws_headers") else None
    lines = written.reveal().splitlines() if written is not None else []
    return tuple(_header(params, line) for line in lines if line.strip())


def _header(params: ConnectorParams, line: str) -> tuple[str, Secret]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon or not re.fullmatch(TOKEN, name):
        raise params.wrong("ws_headers", "each line is a header, `Name: value`")
    if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
        raise params.wrong("ws_headers", f"{name} is set by the handshake itself")
    if not value.isascii() or not value.isprintable():
        raise params.wrong("ws_headers", f"the value of {name} has characters that a header can't have")
    return name, Secret(value)


def _ping_interval(params: ConnectorParams) -> float:
    seconds = params.duration("ws_ping_interval", PING_INTERVAL)
    if seconds and not LEAST_PING <= seconds <= MOST_PING:
        raise params.wrong("ws_ping_interval", "allowed: 100ms to 1h, or 0 for no pings")
    return seconds


def _max_message_size(params: ConnectorParams) -> int:
    size = params.size("ws_max_message_size", MAX_MESSAGE_SIZE)
    if size < 1:
        raise params.wrong("ws_max_message_size", "this must be greater than zero")
    return size


async def _tls(params: ConnectorParams, address: Address, directory: Path) -> ssl.SSLContext | None:
    """Trust in the system's CAs, or in one alone; reading them takes tens of milliseconds."""
    path = params.text("ws_tls_ca_certificate_file")
    if not address.secure:
        if path is not None:
            raise params.wrong("ws_tls_ca_certificate_file", "this needs wss:// in `from`; ws:// is not encrypted")
        return None
    file = str(directory / path) if path else None
    try:
        return await blocking.call(_context, file, limiter=trio.CapacityLimiter(1))
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate in PEM format"
        raise params.wrong("ws_tls_ca_certificate_file", f"{path} can't be used: {why}") from error


def _context(file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)
