"""Positions as text: what a subscriber stores beside its rows and sends when it comes again."""

import json

from caraway.model import Cursor, Position


def encode(position: Position) -> Cursor:
    """`{"epoch": .., "offset": ..}`, the form that `app_metadata` has on the wire as well."""
    return Cursor(json.dumps({"epoch": position.epoch, "offset": position.offset}, separators=(",", ":")))


def decode(cursor: Cursor | None) -> Position | None:
    """The position in a cursor; None for what is none, so that an unreadable one means a complete copy."""
    try:
        document = json.loads(cursor or "")
        epoch, offset = document["epoch"], document["offset"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    is_one = isinstance(epoch, str) and isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0
    return Position(epoch, offset) if is_one else None
