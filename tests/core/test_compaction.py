"""Tidying a log: tables of decisions, then random logs whose invariants must hold."""

import math
import random

import pytest

from caraway.core.compaction import Policy, Size, is_worn, parts_to_rewrite, runs_to_merge, tail_is_due

POLICY = Policy(
    tail_rows=100,
    tail_bytes=1000,
    tail_commits=10,
    tail_age=60.0,
    part_rows=1000,
    part_bytes=100_000,
    hidden_share=0.25,
)


def sizes(*rows: int) -> list[Size]:
    return [Size(count, count * 10) for count in rows]


@pytest.mark.parametrize(
    ("tail", "commits", "age", "due"),
    [
        (Size(0, 0), 0, 1e9, False),
        (Size(0, 200), 9, 59.9, False),
        (Size(0, 200), 9, 60.0, True),
        (Size(0, 200), 10, 0.0, True),
        (Size(99, 999), 9, 0.0, False),
        (Size(100, 200), 9, 0.0, True),
        (Size(1, 1000), 9, 0.0, True),
    ],
)
def test_a_tail_is_due_at_any_bound(tail, commits, age, due):
    assert tail_is_due(tail, POLICY, commits=commits, age=age) is due


@pytest.mark.parametrize(
    ("parts", "window"),
    [
        ([], None),
        (sizes(1000, 1000, 1000, 1000, 1000), None),
        (sizes(100, 100, 100), None),
        (sizes(100, 100, 100, 100), slice(0, 4)),
        (sizes(1000, 100, 100, 100, 100), slice(1, 5)),
        (sizes(*[100] * 30), slice(0, 10)),
        (sizes(600, 90, 90, 10), None),
        (sizes(600, 90, 10, 100, 100, 10, 10), slice(1, 7)),
        ([*sizes(1000), Size(1000, 10_000, hidden=250), *sizes(1000)], slice(1, 2)),
        ([Size(1000, 10_000, hidden=249)], None),
        ([Size(10, 100, hidden=10)], slice(0, 1)),
        ([Size(10, 30_000)] * 5, None),
        ([Size(10, 25_000)] * 5, slice(0, 4)),
    ],
)
def test_parts_to_rewrite(parts, window):
    assert parts_to_rewrite(parts, POLICY) == window


@pytest.mark.parametrize("seed", range(20))
def test_a_growing_log_stays_short_and_rewrites_little(seed):
    rng = random.Random(seed)
    parts: list[Size] = []
    written = total = 0
    for _ in range(400):
        rows = rng.randint(1, 100)
        parts += sizes(rows)
        total += rows
        while window := parts_to_rewrite(parts, POLICY):
            live = sum(part.live for part in parts[window])
            assert live <= POLICY.part_rows
            parts[window] = sizes(live)
            written += live
    assert sum(part.rows for part in parts) == total
    assert written <= total * math.log2(POLICY.part_rows)
    assert len(parts) <= 3 * total / POLICY.part_rows + POLICY.fan_in * math.log2(POLICY.part_rows)


@pytest.mark.parametrize(
    ("runs", "cap", "count"),
    [([], 100, 0), ([5], 100, 0), ([5, 5], 100, 2), ([50, 5], 100, 0), ([8, 4, 2, 1], 100, 4), ([60, 50], 100, 0)],
)
def test_runs_to_merge(runs, cap, count):
    assert runs_to_merge(runs, cap) == count


@pytest.mark.parametrize("seed", range(20))
def test_runs_stay_few(seed):
    rng = random.Random(seed)
    runs: list[int] = []
    for _ in range(2000):
        runs.append(rng.randint(1, 10))
        if count := runs_to_merge(runs, 1000):
            runs[-count:] = [sum(runs[-count:])]
        assert max(runs) <= 1000
    assert len(runs) <= 3 * sum(runs) / 1000 + math.log2(1000)


@pytest.mark.parametrize(
    ("log", "worn"),
    [
        (Size(0, 0), False),
        (Size(1000, 100_000), False),
        (Size(1000, 100_000, 500), False),
        (Size(1000, 100_000, 501), True),
        (Size(1000, 1990, 501), False),  # less than a tail may have
        (Size(1000, 2000, 1000), True),
        (Size(10, 1000, 10), False),
    ],
)
def test_when_a_log_is_worn(log, worn):
    assert is_worn(log, POLICY) is worn
