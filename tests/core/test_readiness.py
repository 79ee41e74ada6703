import itertools

import pytest

from caraway.core.readiness import Facts, Serve, is_ready, pod_ready, state_of
from caraway.model import State


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts(), State.INITIALIZING),
        (Facts(resolved=True), State.INITIALIZING),
        (Facts(running=True), State.REFRESHING),
        (Facts(loaded=True), State.READY),
        (Facts(loaded=True, running=True), State.REFRESHING),
        (Facts(loaded=True, failing=True), State.ERROR),
        (Facts(loaded=True, failing=True, running=True), State.ERROR),  # no flapping while it is tried again
        (Facts(failing=True), State.ERROR),
    ],
)
def test_state(facts, state):
    assert state_of(facts) is state


@pytest.mark.parametrize(
    ("serve", "facts", "ready"),
    [
        (Serve.ON_LOAD, Facts(resolved=True, running=True), False),
        (Serve.ON_LOAD, Facts(loaded=True), True),
        (Serve.ON_LOAD, Facts(loaded=True, failing=True), True),
        (Serve.ON_SCHEMA_RESOLVED, Facts(), False),
        (Serve.ON_SCHEMA_RESOLVED, Facts(resolved=True), True),
        (Serve.ON_REGISTRATION, Facts(), True),
    ],
)
def test_ready(serve, facts, ready):
    assert is_ready(False, facts, serve) is ready


def test_ready_is_sticky():
    for serve, flags in itertools.product(Serve, itertools.product([False, True], repeat=4)):
        assert is_ready(True, Facts(*flags), serve)


@pytest.mark.parametrize(
    ("components", "on_load", "stopping", "ready"),
    [
        ([], True, False, True),
        ([], True, True, False),
        ([(State.READY, True), (State.REFRESHING, False)], True, False, False),
        ([(State.READY, True), (State.ERROR, True)], True, False, True),
        ([(State.ERROR, False), (State.INITIALIZING, False)], False, False, True),
        ([(State.SHUTTING_DOWN, True)], False, False, False),
        ([(State.READY, True)], False, True, False),
    ],
)
def test_pod(components, on_load, stopping, ready):
    assert pod_ready(components, on_load=on_load, stopping=stopping) is ready
