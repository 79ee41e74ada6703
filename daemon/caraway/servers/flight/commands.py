"""What a descriptor or a ticket asks for: SQL as it stands, a path, or a message in a protobuf Any."""

import json
import re

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from caraway.flight.flight_pb2 import CommandStatementIngest, FlightDescriptor
from caraway.servers.flight.status import Code, RefusalError

TYPE_PREFIX = "type.googleapis.com/"
INGEST = TYPE_PREFIX + "arrow.flight.protocol.sql.CommandStatementIngest"
TRACED_TICKET = TYPE_PREFIX + "spiceai.flight.TracedTicket"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


def sql_of(command: bytes) -> str:
    """The SQL of a command; RefusalError for a message that is not understood, or text that is not UTF-8."""
    message = _message_in(command)
    if message is not None:
        raise RefusalError(Code.UNIMPLEMENTED, f"Unknown command type: {message.type_url}")
    return text_of(command)


def text_of(command: bytes) -> str:
    """The command as text; RefusalError if it is none."""
    try:
        return command.decode()
    except UnicodeDecodeError as error:
        raise RefusalError(Code.INVALID_ARGUMENT, "The command is neither SQL in UTF-8 nor a known message.") from error


def subscribed_table(descriptor: bytes) -> str:
    """The table that the descriptor of a subscription names; RefusalError for another kind of descriptor."""
    parsed = _descriptor(descriptor)
    if parsed.type != FlightDescriptor.PATH:
        raise RefusalError(Code.INVALID_ARGUMENT, "Subscribing takes a descriptor of type PATH that names a dataset.")
    return ".".join(parsed.path)


def written_table(descriptor: bytes) -> str:
    """The table that the descriptor of a DoPut names, in its path or in a CommandStatementIngest; RefusalError."""
    parsed = _descriptor(descriptor)
    if parsed.path or not parsed.cmd:
        return ".".join(parsed.path)
    message = _message_in(parsed.cmd)
    if message is None or message.type_url != INGEST:
        what = message.type_url if message is not None else "a command"
        raise RefusalError(
            Code.UNIMPLEMENTED, f"DoPut with {what} is not implemented; it takes a path, or a CommandStatementIngest."
        )
    try:
        ingest = CommandStatementIngest.FromString(message.value)
    except DecodeError as error:
        raise RefusalError(Code.INVALID_ARGUMENT, "The CommandStatementIngest can't be read.") from error
    return ".".join(part for part in (ingest.catalog, ingest.schema, ingest.table) if part)


def wrap_ticket(command: bytes, trace_id: str) -> bytes:
    """The ticket for a command, marked with the trace that it belongs to."""
    traced = AnyMessage(type_url=TRACED_TICKET, value=trace_id.encode() + command)
    return bytes(traced.SerializeToString())


def unwrap_ticket(ticket: bytes) -> bytes:
    """The command of a ticket, wrapped or not."""
    message = _message_in(ticket)
    return bytes(message.value[32:]) if message is not None and message.type_url == TRACED_TICKET else ticket


def trace_metadata(trace_id: str) -> bytes:
    """FlightInfo.app_metadata of a traced answer."""
    return json.dumps({"trace_id": trace_id}).encode()


def is_trace_id(text: str) -> bool:
    return _TRACE_ID.fullmatch(text) is not None


def _descriptor(wire: bytes) -> FlightDescriptor:
    if not wire:
        message = "The first message has no descriptor. It takes one of type PATH that names a dataset."
        raise RefusalError(Code.INVALID_ARGUMENT, message)
    try:
        return FlightDescriptor.FromString(wire)
    except DecodeError as error:
        raise RefusalError(Code.INVALID_ARGUMENT, "The descriptor of the first message can't be read.") from error


def _message_in(command: bytes) -> AnyMessage | None:
    """The Any that the bytes are. Some SQL is an Any by accident of its first letters, but not of this type URL."""
    try:
        message = AnyMessage.FromString(command)
    except DecodeError:
        return None
    return message if message.type_url.startswith(TYPE_PREFIX) else None
