"""When a log of part files is tidied: which tail becomes a part, which parts and which sorted runs are merged.

Decisions come from what is stored alone, so that a crash between two of them needs no repair.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of a log; sizes are rows and bytes on disk, ages seconds."""

    tail_rows: int = 524_288
    tail_bytes: int = 64 * 1024**2
    tail_commits: int = 4096
    tail_age: float = 600.0
    part_rows: int = 1_048_576
    part_bytes: int = 128 * 1024**2
    fan_in: int = 4
    hidden_share: float = 0.25
    """The share of hidden rows from which a part is rewritten without them."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a file holds; `hidden` of its `rows` are no longer visible."""

    rows: int
    bytes: int
    hidden: int = 0

    @property
    def live(self) -> int:
        return self.rows - self.hidden


def tail_is_due(tail: Size, policy: Policy, *, commits: int, age: float) -> bool:
    """Whether a tail has reached one of its bounds; an empty one never has.

    Readers take a tail commit by commit, so there is a bound on those, too.
    """
    due = is_full(tail, policy) or commits >= policy.tail_commits or age >= policy.tail_age
    return tail.bytes > 0 and due


def is_full(tail: Size, policy: Policy) -> bool:
    """Whether a tail, or one commit, has so many rows or bytes that it had better be a part.

    The bounds are such that parts need no merging soon. For 64k rows of 40 bytes the tail costs 4 ms of CPU and a part
    11; when each commit of 64k rows was a part at once, they were merged twice over, and took six fsyncs each.
    """
    return tail.rows >= policy.tail_rows or tail.bytes >= policy.tail_bytes


def is_worn(log: Size, policy: Policy) -> bool:
    """Whether so much of a log is hidden that tidying it can't wait until the next maintenance, a minute or more.

    More than is live, and more than a tail may have: rows that are replaced all the time then take three times the room
    of the live ones at most, and that of two tails.
    """
    dead = log.bytes * log.hidden // max(log.rows, 1)
    return log.hidden > log.live and dead > policy.tail_bytes


def parts_to_rewrite(parts: Sequence[Size], policy: Policy) -> slice | None:
    """The next adjacent parts to replace by one, in log order; None when all is tidy.

    A merge at least doubles the part that every one of its rows lies in, so a row is written O(log part_rows) times.
    """
    return next((window for start in range(len(parts)) if (window := _window(parts, start, policy))), None)


def _window(parts: Sequence[Size], start: int, policy: Policy) -> slice | None:
    rows = size = largest = 0
    end = start
    for part in parts[start:]:
        if end > start and (rows + part.live > policy.part_rows or size + part.bytes > policy.part_bytes):
            break
        rows, size, largest, end = rows + part.live, size + part.bytes, max(largest, part.live), end + 1
    if end - start >= policy.fan_in and 2 * largest <= rows:
        return slice(start, end)
    return slice(start, start + 1) if _is_worn(parts[start], policy) else None


def _is_worn(part: Size, policy: Policy) -> bool:
    return part.hidden > 0 and part.hidden >= policy.hidden_share * part.rows


def runs_to_merge(sizes: Sequence[int], cap: int) -> int:
    """How many of the newest sorted runs to merge into one of at most `cap` entries; 0 or at least 2.

    Run sizes then fall by half at least from old to new, so there are O(log cap) of them besides the full ones.
    """
    total, count = sizes[-1] if sizes else 0, 1
    while count < len(sizes) and sizes[-count - 1] <= 2 * total and total + sizes[-count - 1] <= cap:
        total, count = total + sizes[-count - 1], count + 1
    return count if count > 1 else 0
