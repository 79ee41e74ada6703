"""Seeds of the simulation (world.py). `scripts/chaos simulate` runs any number of them, and replays one that fails."""

import pytest

from simulation.world import readable, simulate


@pytest.mark.parametrize("block", range(20))
def test_nothing_is_lost_or_told_wrong_whatever_breaks(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        simulate(seed)


def test_a_seed_gives_the_same_run_again() -> None:
    traces: list[list[tuple]] = [[], []]
    for trace in traces:
        simulate(7, trace)
    first, second = (list(readable(trace)) for trace in traces)
    assert len(first) > 30
    assert first == second
