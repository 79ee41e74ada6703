"""Readings of several scans become one a dataset: never better, younger or fewer than what was read."""

import pytest

from caraway.model import CacheReading, Generation, ReadingStatus
from caraway.query.readings import merged

HIT, STALE, MISS, SIE = ReadingStatus
G1, G2 = Generation("e", (1, 5, 9), 10.0), Generation("e", (2, 6, 9), 20.0)


def reading(status=HIT, age=1.0, entries=1, shares=None, generation=None, dataset="t"):
    return CacheReading(dataset, status, age, entries, shares, generation)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([], []),
        ([reading()], [reading()]),
        ([reading(), reading(dataset="u")], [reading(), reading(dataset="u")]),
        ([reading(HIT, 9), reading(STALE, 1)], [reading(STALE, 9, 2)]),
        ([reading(MISS, 0), reading(STALE, 5)], [reading(MISS, 5, 2)]),
        ([reading(SIE, 7), reading(MISS, 0), reading(HIT, 8, 3)], [reading(SIE, 8, 5)]),
        ([reading(dataset="u"), reading(), reading(dataset="u")], [reading(entries=2, dataset="u"), reading()]),
        ([reading(shares=(4, 1)), reading(shares=(1, 2))], [reading(entries=2, shares=(1, 2, 4))]),
        ([reading(shares=(4,)), reading(shares=None)], [reading(entries=2)]),
        ([reading(shares=()), reading(shares=())], [reading(entries=2, shares=())]),
        ([reading(generation=G1), reading(generation=None)], [reading(entries=2)]),
        ([reading(generation=G1), reading(generation=G2)], [reading(entries=2, generation=G1)]),
        (
            [reading(shares=(0,), generation=G1), reading(shares=(0, 1), generation=G2)],
            [reading(entries=2, shares=(0, 1), generation=Generation("e", (1, 6, 9), 20.0))],
        ),
        (
            [reading(shares=(0,), generation=G1), reading(shares=(1,), generation=Generation("f", (2, 6, 9)))],
            [reading(entries=2, shares=(0, 1), generation=G1)],
        ),
    ],
)
def test_one_reading_a_dataset(readings, expected):
    assert merged(readings) == tuple(expected)


def test_a_change_while_a_query_reads_is_newer_than_its_first_reading():
    (both,) = merged([reading(shares=(0,), generation=G1), reading(shares=(1,), generation=G2)])
    assert both.generation.changed_at == G2.changed_at
