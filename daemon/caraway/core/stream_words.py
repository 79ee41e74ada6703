"""What two caraways say to each other beside the rows of a stream: JSON in `app_metadata`, under one name of ours.

A subscriber's `Wish` is in its first message, the server's `Word` in each of its own. What is not ours is nothing:
other clients and servers have their own uses for the field.
"""

import json
from dataclasses import dataclass
from typing import Final

from caraway.model import Mark, Phase, Position

HEARTBEAT_SECONDS = 1.0
SHORTEST, LONGEST = 0.05, 60.0
"""What a heartbeat interval may be; others are brought to the nearer one."""
_SHARE = 0.25
"""Of the acceptable lag: a copy that fell behind is current again below half of it."""
_PATIENCE = 5
_LEAST_PATIENCE = 5.0
_OURS: Final = "caraway"
_LONGEST_WORD = 4096
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Wish:
    """Where to resume, and after how many seconds without another message a heartbeat is wanted."""

    position: Position | None = None
    heartbeat: float = HEARTBEAT_SECONDS


@dataclass(frozen=True, slots=True)
class Word:
    """What a message belongs to. `position` is the place behind it, where a subscriber may resume.

    Live changes without a position are the beginning of what the next message with one completes.
    """

    phase: Phase
    position: Position | None = None
    mark: Mark | None = None


def heartbeat_within(window: float | None, usual: float) -> float:
    """The interval to ask for: the usual one, or what lets several heartbeats fit into the acceptable lag."""
    return usual if window is None else max(SHORTEST, min(usual, window * _SHARE))


def patience(heartbeat: float) -> float:
    """Seconds of silence after which a peer that promised heartbeats is gone."""
    return max(_PATIENCE * heartbeat, _LEAST_PATIENCE)


def write_wish(wish: Wish) -> bytes:
    """The `app_metadata` of a subscriber's first message."""
    place = {} if wish.position is None else {"epoch": wish.position.epoch, "offset": wish.position.offset}
    return _write({**place, "heartbeat": wish.heartbeat})


def read_wish(app_metadata: bytes) -> Wish | None:
    """What a subscriber asks for; None from one that does not speak our words."""
    said = _read(app_metadata)
    if said is None:
        return None
    seconds = _number(said.get("heartbeat"))
    heartbeat = HEARTBEAT_SECONDS if seconds is None else min(max(seconds, SHORTEST), LONGEST)
    return Wish(_position(said.get("epoch"), said.get("offset")), heartbeat)


def write_word(word: Word) -> bytes:
    """The `app_metadata` of a server's message; a mark of another epoch than the position's stays unsaid."""
    said: dict[str, object] = {"phase": word.phase.value}
    if word.position is not None:
        said |= {"epoch": word.position.epoch, "offset": word.position.offset}
    if word.mark is not None and said.setdefault("epoch", word.mark.end.epoch) == word.mark.end.epoch:
        said |= {"at": word.mark.at, "end": word.mark.end.offset}
    return _write(said)


def read_word(app_metadata: bytes) -> Word | None:
    """What a server says with a message; None where it says nothing in our words."""
    said = _read(app_metadata)
    phase = _PHASES.get(str(said.get("phase"))) if said is not None else None
    if said is None or phase is None:
        return None
    epoch, at = said.get("epoch"), _number(said.get("at"))
    position = _position(epoch, said.get("offset")) if phase is not Phase.SNAPSHOT else None
    end = _position(epoch, said.get("end"))
    return Word(phase, position, Mark(at, end) if end is not None and at is not None else None)


_PHASES = {phase.value: phase for phase in Phase}


def _write(said: dict[str, object]) -> bytes:
    return json.dumps({_OURS: said}, separators=(",", ":")).encode()


def _read(app_metadata: bytes) -> dict[str, object] | None:
    if len(app_metadata) > _LONGEST_WORD:
        return None
    try:
        said = json.loads(app_metadata)[_OURS]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _position(epoch: object, offset: object) -> Position | None:
    if not isinstance(epoch, str) or not isinstance(offset, int) or isinstance(offset, bool):
        return None
    return Position(epoch, offset) if 0 <= offset <= _LARGEST else None


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= _LARGEST else None
