"""Cron patterns: when they fire, and which ones never do."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.cron import check_cron, local_zone, next_fire
from support.fuzz import fuzz

BERLIN = ZoneInfo("Europe/Berlin")
SATURDAY = datetime(2026, 11, 21, 10, 30, 15, 500, tzinfo=UTC)

FIRES = [
    ("* * * * *", "2026-11-21 10:31:00"),
    ("*/10 * * * * *", "2026-11-21 10:30:20"),
    ("0 12 * * *", "2026-11-21 12:00:00"),
    ("0 9 * * *", "2026-11-22 09:00:00"),
    ("30 10 * * *", "2026-11-22 10:30:00"),
    ("15 30 10 * * *", "2026-11-22 10:30:15"),
    ("16 30 10 * * *", "2026-11-21 10:30:16"),
    ("0 0 * * 0", "2026-11-22 00:00:00"),
    ("0 0 * * 7", "2026-11-22 00:00:00"),
    ("0 0 * * sun", "2026-11-22 00:00:00"),
    ("0 0 * * 1", "2026-11-23 00:00:00"),
    ("0 0 * * MON-FRI", "2026-11-23 00:00:00"),
    ("0 0 * * 1-5", "2026-11-23 00:00:00"),
    ("0 0 * * 5-7", "2026-11-22 00:00:00"),
    ("0 0 * * fri-sun", "2026-11-22 00:00:00"),
    ("0 0 * * 2,4", "2026-11-24 00:00:00"),
    ("0 0 * * 1-5/2", "2026-11-23 00:00:00"),
    ("0 0 * * 3/2", "2026-11-25 00:00:00"),
    ("0 0 * * */2", "2026-11-22 00:00:00"),
    ("0 0 ? * 1", "2026-11-23 00:00:00"),
    ("0 0 1 * *", "2026-12-01 00:00:00"),
    ("0 0 L * *", "2026-11-30 00:00:00"),
    ("0 0 1 jan *", "2027-01-01 00:00:00"),
    ("0 0 29 2 *", "2028-02-29 00:00:00"),
    ("0 0 30 * 0", "2026-11-22 00:00:00"),  # both day fields: either suffices
    ("0 0 22 * 1", "2026-11-22 00:00:00"),
    ("0 0 */30 * 1", "2026-11-23 00:00:00"),
]
REFUSED = [
    ("", "has 0 fields"),
    ("* * * *", "has 4 fields"),
    ("* * * * * * *", "has 7 fields"),
    ("60 * * * *", "higher than the maximum"),
    ("* 24 * * *", "higher than the maximum"),
    ("* * 0 * *", "lower than the minimum"),
    ("* * * 13 *", "higher than the maximum"),
    ("* * * * 8", "not a day of the week"),
    ("* * * * 5-1", "not a range"),
    ("* * * * */0", "not a range"),
    ("* * * * mond", "not a day of the week"),
    ("* * * * 5L", "not a day of the week"),
    ("*/0 * * * *", "not a cron pattern"),
    ("a * * * *", "not a cron pattern"),
    ("@daily", "has 1 fields"),
    ("0 0 30 2 *", "never fires"),
    ("0 0 31 4,6,9,11 *", "never fires"),
    ("* * * * 2#1", "not a cron field"),
]


@pytest.mark.parametrize(("pattern", "expected"), FIRES)
def test_the_next_time_is_the_first_that_the_pattern_names(pattern: str, expected: str) -> None:
    assert next_fire(pattern, SATURDAY, UTC) == datetime.fromisoformat(f"{expected}+00:00")


@pytest.mark.parametrize(("pattern", "complaint"), REFUSED)
def test_a_bad_pattern_is_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_cron(pattern)


def test_the_zone_decides_what_noon_is() -> None:
    assert next_fire("0 12 * * *", SATURDAY, BERLIN) == datetime(2026, 11, 21, 11, tzinfo=UTC)


def test_a_time_that_the_clock_skips_does_not_stop_the_pattern() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    first = next_fire("30 2 * * *", before, BERLIN)
    assert next_fire("30 2 * * *", first, BERLIN) - first <= timedelta(days=2)


def test_the_local_zone_is_a_zone() -> None:
    assert datetime.now(local_zone()).utcoffset() is not None


FIELD = st.sampled_from(["*", "*/7", "1-5", "3", "2,4", "5/5"])
CHANGES = st.sampled_from([datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])


@fuzz(60)
@given(st.lists(FIELD, min_size=5, max_size=6), CHANGES, st.integers(0, 48 * 3600))
def test_time_always_moves_on(fields: list[str], start: datetime, seconds: int) -> None:
    after = start + timedelta(seconds=seconds)
    pattern = " ".join(fields)
    for _ in range(3):
        then = next_fire(pattern, after, BERLIN).astimezone(UTC)
        assert then > after
        after = then


@fuzz(60)
@given(st.text(alphabet="0123456789*/,-?L abcjnsu", max_size=30))
def test_any_text_fires_or_is_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert check_cron(text) == text
