"""What a refresh leaves beside its rows, in their transaction, so that a restart decides from what is stored."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from caraway.model import Cursor

_CONTENTS = "contents"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`refreshed_at` is when the rows were complete, `proven_at` when reading them began (aware UTC).

    `version` is the source's token for what was read; None where it has none or where the rows are not all of it.
    `position` is where to resume a stream. `deleted_to` is the offset after the newest delete of this epoch: deletes
    are not kept over a restart, so whoever follows the log from before it needs a complete copy. `contents` is a digest
    of all rows that are stored, where they are those of one refresh and nothing came or went since.
    """

    refreshed_at: datetime
    proven_at: datetime
    refresh_sql: str | None = None
    version: str | None = None
    position: Cursor | None = None
    deleted_to: int = 0
    contents: str | None = None


def encode(checkpoint: Checkpoint) -> Cursor:
    """The cursor that says it."""
    document: dict[str, object] = {
        "refreshed_at": checkpoint.refreshed_at.isoformat(),
        "proven_at": checkpoint.proven_at.isoformat(),
        "refresh_sql": checkpoint.refresh_sql,
        "version": checkpoint.version,
        "position": checkpoint.position,
        "deleted_to": checkpoint.deleted_to,
    }
    if checkpoint.contents is not None:
        document[_CONTENTS] = checkpoint.contents
    return Cursor(json.dumps(document, separators=(",", ":")))


def decode(cursor: Cursor | None) -> Checkpoint | None:
    """The checkpoint in a cursor; None for what is none, so that an unreadable one means a new refresh."""
    try:
        document = json.loads(cursor or "")
        refreshed_at = _moment(document["refreshed_at"])
        proven_at = _moment(document.get("proven_at", document["refreshed_at"]))
        position = _text(document, "position")
        return Checkpoint(
            refreshed_at,
            proven_at,
            _text(document, "refresh_sql"),
            _text(document, "version"),
            Cursor(position) if position is not None else None,
            int(document.get("deleted_to", 0)),
            _text(document, _CONTENTS),
        )
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None


def with_deleted_to(cursor: Cursor | None, offset: int) -> Cursor | None:
    """The cursor with another `deleted_to`; one that is no JSON object can't say it and stays as it is."""
    try:
        document = json.loads(cursor) if cursor is not None else {}
    except (ValueError, RecursionError):
        return cursor
    if not isinstance(document, dict) or document.get("deleted_to", 0) == offset:
        return cursor
    return Cursor(json.dumps({**document, "deleted_to": offset}, separators=(",", ":")))


def without_contents(cursor: Cursor | None) -> Cursor | None:
    """The cursor without `contents`, for rows that come or go."""
    if cursor is None or f'"{_CONTENTS}"' not in cursor:
        return cursor
    try:
        document = json.loads(cursor)
    except (ValueError, RecursionError):
        return cursor
    if not isinstance(document, dict) or _CONTENTS not in document:
        return cursor
    del document[_CONTENTS]
    return Cursor(json.dumps(document, separators=(",", ":")))


def deleted_to(cursor: Cursor | None) -> int | None:
    """The `deleted_to` of a cursor, which need not be a checkpoint; None where it can't be told."""
    try:
        document = json.loads(cursor) if cursor is not None else {}
    except (ValueError, RecursionError):
        return None
    offset = document.get("deleted_to", 0) if isinstance(document, dict) else None
    return offset if isinstance(offset, int) else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _text(document: dict[str, object], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}")
    return value
