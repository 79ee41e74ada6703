"""What a caching dataset remembers of failures."""

import pytest
import trio

from caraway.core.readiness import Serve
from caraway.dataset.caching.failures import DEAD, Failures
from caraway.dataset.report import Report
from caraway.errors import SourceError


def raised(message: str) -> SourceError:
    """With the traceback of where it came from."""
    with pytest.raises(SourceError) as caught:
        fail(message)
    return caught.value


def fail(message: str) -> None:
    raise SourceError(message, remedy="Wait.", retry_after=3.0, code="1000") from ValueError(message)


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
        assert error.__cause__ is None
    await trio.sleep(4)
    assert failures.recall("k0") is None
