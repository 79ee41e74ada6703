"""When the answers of a caching dataset changed, in parts, so that a new answer to one request spares other results."""

from collections import OrderedDict

from caraway.model import Generation

SHARES = 256
ALL = SHARES
"""The last part, which any change of what is stored makes rise; the others rise with their share of the requests."""
GHOSTS = 16 * 1024
"""Requests of which it is remembered what they brought though it is not stored."""

NOTHING = b"nothing"
"""The digest of no rows."""
UNKNOWN = b"unknown"
"""The digest of rows that nobody looked at; equal to none."""


class Shares:
    """The table clock of one opened store; `epoch` belongs to it alone.

    A share rises where a request brought other rows than the last time, or its rows were removed on purpose. A request
    that is new makes no share rise: no result was computed from it. What was evicted is remembered by its digest, so
    that it counts as the same if it comes back the same; when there are too many of these the oldest count as changed.
    """

    def __init__(self, epoch: str, now: float, *, ghosts: int = GHOSTS) -> None:
        self._parts = [0] * (SHARES + 1)
        self._generation = Generation(epoch, tuple(self._parts), now)
        self._ghosts: OrderedDict[str, bytes] = OrderedDict()
        self._limit = ghosts

    @property
    def generation(self) -> Generation:
        return self._generation

    def stored(self, key: str, digest: bytes, before: bytes | None, now: float) -> None:
        """A request brought rows that are stored now, instead of those of digest `before` if there were any."""
        known = self._ghosts.pop(key, before)
        parts = [share_of(key)] if _differs(known, digest) else []
        self._rise(*parts, *([ALL] if before is None or _differs(before, digest) else []), now=now)

    def brought(self, key: str, digest: bytes, before: bytes | None, now: float) -> None:
        """A request brought rows that are not stored, or none; `before` as in `stored`."""
        if _differs(self._ghosts.get(key, before), digest):
            self._rise(share_of(key), now=now)
        self._remember(key, digest, now)

    def evicted(self, key: str, digest: bytes, now: float) -> None:
        """What was stored of a request is not any more, though it may be right still."""
        self._remember(key, digest, now)
        self._rise(ALL, now=now)

    def removed(self, key: str, now: float) -> None:
        """What was stored of a request was removed on purpose."""
        self._ghosts.pop(key, None)
        self._rise(share_of(key), ALL, now=now)

    def _remember(self, key: str, digest: bytes, now: float) -> None:
        self._ghosts[key] = digest
        self._ghosts.move_to_end(key)
        while len(self._ghosts) > self._limit:
            dropped, _ = self._ghosts.popitem(last=False)
            self._rise(share_of(dropped), now=now)

    def _rise(self, *parts: int, now: float) -> None:
        if not parts:
            return
        for part in parts:
            self._parts[part] += 1
        self._generation = Generation(self._generation.epoch, tuple(self._parts), now)


def share_of(key: str) -> int:
    """Which part tells of an entry."""
    return int(key[:2], 16)


def _differs(before: bytes | None, after: bytes) -> bool:
    """Whether rows came instead of others; None: there were none that a result could be of."""
    return before is not None and (before != after or after == UNKNOWN)
