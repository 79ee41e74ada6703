"""What all datasets of a daemon share."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import random

import trio

from caraway.dataset.spool import Spool
from caraway.ports import Emit


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Shared:
    """`permits` bounds the refreshes that run at once, `spool` keeps answers that were read at a source.

    `draw` gives numbers in [0, 1), and `wall` the time (aware UTC).
    """

    emit: Emit
    permits: trio.CapacityLimiter
    spool: Spool
    draw: Callable[[], float] = random
    wall: Callable[[], datetime] = utc_now


def load_permits(parallelism: int | None) -> trio.CapacityLimiter:
    """As many refreshes at once as `runtime.dataset_load_parallelism` says, first come first served.

    Without it twice the cores, from 2 to 8: refreshes wait for their source most of the time.
    """
    return trio.CapacityLimiter(parallelism or max(2, min(8, 2 * (os.cpu_count() or 1))))
