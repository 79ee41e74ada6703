import math
import random
from dataclasses import dataclass, field

import pytest

from caraway.core.refresh import (
    Due,
    Failed,
    Fetch,
    Policy,
    Requested,
    Run,
    Running,
    Succeeded,
    Waiting,
    deadline,
    pause,
    step,
)
from caraway.model import RefreshOverrides

FOREVER = Policy()
A, B = RefreshOverrides(refresh_sql="a"), RefreshOverrides(refresh_sql="b")
NEVER = math.inf


def failed(*, transient=True, due=NEVER, chance=0.5, retry_after=None):
    return Failed(due, transient, chance, retry_after)


@pytest.mark.parametrize(
    ("state", "event", "then", "action"),
    [
        # Waiting
        (Waiting(10), Due(), Running(10, 0, Run()), Fetch(Run())),
        (Waiting(5, 3, Run(A, 4)), Due(), Running(10, 3, Run(A, 4)), Fetch(Run(A, 4))),
        (Waiting(99), Requested(10), Waiting(10), None),
        (Waiting(99, 2, Run(A, 3)), Requested(12, B), Waiting(12, 2, Run(B)), None),  # during a backoff
        (Waiting(11), Requested(15, A), Waiting(11, 0, Run(A)), None),  # joins what is due sooner
        (Waiting(15, 0, Run(A)), Requested(20, B), Waiting(15, 0, Run(B)), None),
        # Running, requests
        (Running(9, 1, Run()), Requested(10, A), Running(9, 1, Run(), Requested(10, A)), None),
        (
            Running(9, 0, Run(), Requested(9, A)),
            Requested(10, B),
            Running(9, 0, Run(), Requested(10, B)),
            None,
        ),
        # Running, success
        (Running(9, 7, Run(A, 8)), Succeeded(70), Waiting(70), None),
        (Running(9, 7, Run(), Requested(9, B)), Succeeded(70), Waiting(10, 0, Run(B)), None),
        (Running(9, 0, Run(), Requested(30, B)), Succeeded(70), Waiting(30, 0, Run(B)), None),  # its jitter
        # Running, failure
        (Running(9, 0, Run(A)), failed(), Waiting(11, 1, Run(A, 2)), None),
        (Running(9, 4, Run(A, 5)), failed(), Waiting(18, 5, Run(A, 6)), None),
        (Running(9, 0, Run()), failed(retry_after=40), Waiting(50, 1, Run(None, 2)), None),
        (Running(9, 0, Run(A)), failed(transient=False), Waiting(NEVER, 1), None),
        (Running(9, 0, Run(A)), failed(transient=False, due=70), Waiting(70, 1), None),
        (Running(9, 2, Run(), Requested(9, B)), failed(), Waiting(10, 3, Run(B)), None),
        (Running(9, 2, Run(), Requested(9, B)), failed(transient=False), Waiting(10, 3, Run(B)), None),
    ],
)
def test_transitions_at_ten(state, event, then, action):
    assert step(state, event, 10.0, FOREVER) == (then, action)


@pytest.mark.parametrize(
    ("state", "event"),
    [(Waiting(11), Due()), (Waiting(5), Succeeded(1)), (Waiting(5), failed()), (Running(9, 0, Run()), Due())],
)
def test_what_the_picture_does_not_have_is_a_bug(state, event):
    with pytest.raises(RuntimeError, match="does not happen"):
        step(state, event, 10.0, FOREVER)


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_retries_are_counted_per_run(retries, attempts):
    state, seen = Waiting(0.0), []
    for _ in range(10):
        state, _ = step(state, Due(), state.until, Policy(retries))
        seen.append(state.run.attempt)
        state, _ = step(state, failed(due=1e6 * (len(seen) + 1)), state.started, Policy(retries))
    assert seen[:attempts] == list(range(1, attempts + 1))
    assert seen[attempts] == 1  # the schedule's next one starts over
    assert state.failures == 10


def test_deadlines():
    assert deadline(Waiting(7.0)) == 7.0
    assert deadline(Running(1.0, 0, Run())) == NEVER


def test_the_pause_is_the_one_that_step_takes():
    for transient in (True, False):
        for retries in (None, 0, 1, 2):
            for attempt in (1, 2, 3):
                event, run, policy = failed(transient=transient, due=1e9), Run(None, attempt), Policy(retries)
                state, _ = step(Running(0, 0, run), event, 1.0, policy)
                wait = pause(run, event, policy)
                assert state.until == (1e9 if wait is None else 1.0 + wait)


@dataclass
class Walk:
    """Feeds a machine random events and keeps what must hold."""

    draw: random.Random
    policy: Policy
    now: float = 0.0
    state: Waiting | Running = field(default_factory=lambda: Waiting(0.0))
    asked: list[float] = field(default_factory=list)
    runs: list[tuple[float, float]] = field(default_factory=list)
    newest: RefreshOverrides | None = None

    def feed(self, event):
        before = self.state
        self.state, action = step(before, event, self.now, self.policy)
        assert (action is not None) == (isinstance(before, Waiting) and isinstance(self.state, Running))
        if isinstance(event, Requested):
            self.asked.append(self.now)
            self.newest = event.overrides
        elif action is not None:
            if self.asked and self.state.run.attempt == 1:
                assert action.run.overrides == self.newest
            self.asked = []
        elif isinstance(event, Succeeded | Failed):
            self.runs.append((before.started, self.now))
            assert not self.asked or self.state.run.overrides == self.newest

    def wander(self):
        match self.state:
            case Waiting(until):
                wait = self.draw.choice([0.0, 0.5, until - self.now])
                if self.now + wait >= until or math.isinf(until):
                    self.now = max(self.now, until) if not math.isinf(until) else self.now
                    self.feed(self.request() if math.isinf(until) else Due())
                else:
                    self.now += wait
                    self.feed(self.request())
            case Running():
                self.now += self.draw.expovariate(1 / 5)
                self.feed(self.draw.choice([self.request, self.request, self.success, self.failure])())

    def request(self):
        return Requested(self.now + self.draw.choice([0.0, 3.0]), RefreshOverrides(str(self.draw.random())))

    def success(self):
        return Succeeded(self.draw.choice([NEVER, self.now + 60]))

    def failure(self):
        transient = self.draw.random() < 0.7
        return Failed(self.draw.choice([NEVER, self.now + 60]), transient, self.draw.random())


@pytest.mark.parametrize("seed", range(20))
def test_random_walks_never_overlap_runs_nor_lose_a_request(seed):
    draw = random.Random(seed)
    walk = Walk(draw, Policy(draw.choice([None, 0, 2])))
    for _ in range(2000):
        walk.wander()
    while walk.asked:  # every request gets a run that starts after it
        walk.now = max(walk.now + 0.001, min(deadline(walk.state), walk.now + 1e6))
        walk.feed(Due() if isinstance(walk.state, Waiting) else Succeeded(NEVER))
    assert all(end <= start for (_, end), (start, _) in zip(walk.runs, walk.runs[1:], strict=False))
    assert len(walk.runs) > 100
