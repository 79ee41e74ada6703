"""Durations: one number and one unit, or several such parts in a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.duration import LONGEST, parse_duration

GOOD = [
    ("7", 7.0), ("0", 0.0), ("0s", 0.0), ("1.5", 1.5), ("10s", 10.0), ("1m", 60.0), ("24h", 86400.0), ("1d", 86400.0),
    ("7d", 604800.0), ("1w", 604800.0), ("250ms", 0.25), ("250Ms", 250e-6), ("5ns", 5e-9), ("1.5h", 5400.0),
    (".5s", 0.5), ("5.s", 5.0), ("2e3ms", 2.0), ("2E+3ms", 2.0), ("1e-3s", 1e-3), ("1h30m", 5400.0),
    ("2h15m30s", 8130.0), ("1m500ms", 60.5), ("1000d", 86.4e6),
]  # fmt: skip
BAD = [
    "", " ", "s", "-1s", "-5", "+1s", "1 s", "1d 10h", "1x", "1S", "1H", "1M", "1MS", "10sec", "1y", "1mo", "1h30",
    "30 1h", "1..5s", "1e", "e3s", "inf", "infs", "nan", "1,5s", "1_000s", "0x10s", "\u0661s", "1s ", " 1s", "1e400",
    "1e99s", "1001000w", "none",
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), GOOD)
def test_a_duration_is_its_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12, abs=0)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|negative|thousand years"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_bounded_number_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["w", "d", "h", "m", "s", "ms"])), min_size=1))
def test_a_compound_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    whole = "".join(f"{number}{unit}" for number, unit in parts)
    total = sum(parse_duration(f"{number}{unit}") for number, unit in parts)
    if total <= LONGEST:
        assert parse_duration(whole) == pytest.approx(total)
