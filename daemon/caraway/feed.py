"""From a dataset's log to the stream that a follower gets: a copy where one is needed, then news and heartbeats.

    position known, epoch the same, offset retained ──▶ Live
    else ──▶ Truncate, the epoch from 0 on (Snapshot), its end ──▶ Live
    Live ──a new epoch, an offset that is gone──▶ Truncate ...

A follower is a place in the log: it reads at its own pace and costs nothing while it stands still.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from caraway.model import Arrival, Position
from caraway.ports import Log


def follow(
    log: Log, position: Position | None, *, heartbeat: float, clock: Callable[[], float]
) -> AbstractAsyncContextManager[AsyncIterator[Arrival]]:
    """What a follower at `position` is to be told, without end; a heartbeat after so many seconds without another word.

    `clock` tells seconds since 1970 UTC, for the marks. Where the log is closed SourceError LogClosed says to begin
    anew. Before the dataset was loaded there are heartbeats without a mark.
    """
    raise NotImplementedError
