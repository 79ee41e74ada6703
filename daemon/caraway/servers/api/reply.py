"""Answers as values, the errors that carry one, and what handlers read of a request."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from caraway.servers.http1.exchange import Receive, Scope, Send

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
CSV = "text/csv"

PRINCIPAL = "caraway.principal"
"""The key of the scope under which the border leaves the Principal for handlers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; itself an ASGI application, as Starlette wants a handler's result to be."""

    status: int
    body: bytes
    content_type: str | None = TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        typed = ((b"content-type", self.content_type.encode()),) if self.content_type else ()
        await send({"type": "http.response.start", "status": self.status, "headers": (*typed, *self.headers)})
        await send({"type": "http.response.body", "body": self.body})


class ReplyError(Exception):
    """Ends a handler with this answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def text(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """A plain text answer, which SQL endpoints use for errors."""
    return Reply(status, message.encode("utf-8", "replace"), TEXT, headers)


def json(status: int, value: object) -> Reply:
    return Reply(status, orjson.dumps(value), JSON)


def message(status: int, words: str) -> Reply:
    """`{"message": words}`, the form of the dataset endpoints."""
    return json(status, {"message": words})


def rows(wanted: str, columns: Sequence[str], values: Iterable[dict[str, object]]) -> Reply:
    """A list of objects in the format that `?format=` names; CSV shows `columns` alone."""
    if wanted == "json":
        return json(200, list(values))
    if wanted != "csv":
        raise ReplyError(text(400, f"The format {wanted[:40]!r} is not known; json and csv are."))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in values)
    return Reply(200, out.getvalue().encode("utf-8", "replace"), CSV)


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def flag(name: str, value: str | None) -> bool:
    """A query parameter that is true or false; absent is false, and 400 where it is neither."""
    match (value or "false").lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
        case _:
            raise ReplyError(text(400, f"The parameter {name} is true or false."))
