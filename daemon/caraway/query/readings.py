"""What a query read of datasets in caching mode, scan by scan, as one reading a dataset."""

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from caraway.model import CacheReading, Generation, ReadingStatus

_RANK = {status: rank for rank, status in enumerate(ReadingStatus)}


def merged(readings: Iterable[CacheReading]) -> tuple[CacheReading, ...]:
    """One reading a dataset, in the order of their first mention; they come in the order in which they were made."""
    by_dataset: dict[str, list[CacheReading]] = {}
    for reading in readings:
        by_dataset.setdefault(reading.dataset, []).append(reading)
    return tuple(reduce(_both, several) for several in by_dataset.values())


def _both(earlier: CacheReading, later: CacheReading) -> CacheReading:
    return replace(
        earlier,
        status=max(earlier.status, later.status, key=_RANK.__getitem__),
        age=max(earlier.age, later.age),
        entries=earlier.entries + later.entries,
        shares=_union(earlier.shares, later.shares),
        generation=_generation(earlier, later),
    )


def _union(first: tuple[int, ...] | None, second: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if first is None or second is None else tuple(sorted({*first, *second}))


def _generation(earlier: CacheReading, later: CacheReading) -> Generation | None:
    """Of each share the generation at which it was read first, so that a change between the readings is noticed."""
    first, second = earlier.generation, later.generation
    if first is None or second is None:
        return None
    if first.epoch != second.epoch or len(first.parts) != len(second.parts) or earlier.shares is None:
        return first
    read = set(earlier.shares)
    parts = tuple(
        old if share in read else new for share, (old, new) in enumerate(zip(first.parts, second.parts, strict=True))
    )
    return Generation(first.epoch, parts, max(first.changed_at, second.changed_at))
