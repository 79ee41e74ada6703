"""What a caching dataset remembers of failures."""

import pytest
import trio

from caraway.core.readiness import Serve
from caraway.dataset.caching.failures import DEAD, Failures
from caraway.dataset.report import Report
from caraway.errors import SourceError


def raised(message: str) -> SourceError:
    """With the traceback of a frame that had much."""
    much = bytes(1000)
    try:
        raise SourceError(message, remedy="Wait.", retry_after=3.0, code=str(len(much)))
    except SourceError as error:
        return error


@pytest.fixture
async def failures(autojump_clock):
    return Failures("t", Report("t", Serve.ON_LOAD, lambda: None), lambda event: None)


async def test_what_is_remembered_says_the_same_and_holds_nothing(failures):
    for number in range(DEAD):
        failures.failed(f"k{number}", raised("It is down."))
    for key in ("k0", "another"):
        error = failures.recall(key)
        assert (str(error), error.retry_after, error.code) == ("It is down. Wait.", 3.0, "1000")
        assert error.__traceback__ is None
        assert error.__context__ is None
    await trio.sleep(4)
    assert failures.recall("k0") is None
