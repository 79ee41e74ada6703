import random

import pytest

from caraway.core.restart import Intensity, restart

THREE = Intensity(restarts=3, within=60.0, first=1.0, ceiling=3.0)


@pytest.mark.parametrize(
    ("crashes", "now", "after"),
    [
        ((), 0.0, 1.0),
        ((0.0,), 5.0, 2.0),
        ((0.0, 5.0), 10.0, 3.0),  # 4 s, capped
        ((0.0, 5.0, 10.0), 20.0, None),
        ((0.0, 5.0, 10.0), 60.0, 3.0),  # the first one is a minute ago
        ((0.0, 5.0, 10.0), 500.0, 1.0),
    ],
)
def test_backoff_and_budget(crashes, now, after):
    decision = restart(crashes, now, THREE)
    assert (decision and decision.after) == after


def test_the_history_holds_recent_crashes_only():
    assert restart((0.0, 50.0), 70.0, THREE).crashes == (50.0, 70.0)


def test_zero_restarts_gives_up_at_once():
    assert restart((), 0.0, Intensity(restarts=0)) is None


def test_never_more_restarts_than_the_budget_in_any_window():
    draw = random.Random(7)
    for _ in range(200):
        crashes, now, kept = (), 0.0, []
        for _ in range(50):
            now += draw.expovariate(1 / 15)
            decision = restart(crashes, now, THREE)
            if decision is None:
                break
            kept.append(now)
            assert THREE.first <= decision.after <= THREE.ceiling
            assert sum(now - at < THREE.within for at in kept) <= THREE.restarts
            crashes = decision.crashes
            now += decision.after
