"""Verdicts over the queries of a dead worker, and the pace of restarts."""

import pytest

from caraway.core.casualties import MAX_ATTEMPTS, Casualty, Death, Verdict, restart_delay, verdict


@pytest.mark.parametrize(
    ("streamed", "alone", "attempt", "death", "expected"),
    [
        (False, False, 1, Death.KILLED, Verdict.RERUN),
        (False, True, 1, Death.KILLED, Verdict.RERUN),
        (True, False, 1, Death.KILLED, Verdict.LOST),
        (False, False, MAX_ATTEMPTS, Death.KILLED, Verdict.LOST),
        (False, False, 1, Death.CRASHED, Verdict.RERUN_ALONE),
        (False, False, 1, Death.MEMORY, Verdict.RERUN_ALONE),
        (False, True, 2, Death.CRASHED, Verdict.GUILTY),
        (False, True, 2, Death.MEMORY, Verdict.GUILTY),
        (True, True, 2, Death.MEMORY, Verdict.LOST),
        (False, False, MAX_ATTEMPTS, Death.CRASHED, Verdict.LOST),
        (False, False, 1, Death.SHUTDOWN, Verdict.LOST),
    ],
)
def test_verdict(streamed, alone, attempt, death, expected):
    assert verdict(Casualty(streamed, alone, attempt), death) is expected


def test_restarts_slow_down_to_a_bound():
    assert [restart_delay(n) for n in range(10)] == [0, 0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
