"""Sizes: decimal and binary units in any case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.size import LARGEST, parse_size

GOOD = [
    ("0", 0), ("4096", 4096), ("1B", 1), ("4MB", 4_000_000), ("4mb", 4_000_000), ("128MiB", 128 * 1024**2),
    ("128mib", 128 * 1024**2), ("1 GB", 10**9), ("1.5GiB", 3 * 1024**3 // 2), ("1K", 1000), ("1Ki", 1024),
    ("2TiB", 2 * 1024**4), ("1EB", 10**18), ("0.5KiB", 512),
]  # fmt: skip
BAD = [
    "", "MB", "-1", "-1MB", "1XB", "1iB", "1i", "1e3", "1  GB", "1GB ", "ten", "0x10", "8EiB", "99999EB", "1.MB",
    "1Mbit", "\u0661", "inf",
]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), GOOD)
def test_a_size_is_its_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size|64 bits"):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_bounded_number_or_a_value_error(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert 0 <= size <= LARGEST
