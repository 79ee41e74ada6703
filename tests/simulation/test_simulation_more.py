"""The other half of the seeds, since a file of tests stays in one process."""

import pytest

from simulation.world import simulate


@pytest.mark.parametrize("block", range(20, 40))
def test_nothing_is_lost_or_told_wrong_whatever_breaks(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        simulate(seed)
