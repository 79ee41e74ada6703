"""Accept headers: the first known type wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.accept import negotiate
from caraway.model import ResultFormat


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", ResultFormat.JSON),
        ("*/*", ResultFormat.JSON),
        ("application/json", ResultFormat.JSON),
        ("text/csv", ResultFormat.CSV),
        ("TEXT/CSV; charset=utf-8", ResultFormat.CSV),
        ("text/plain", ResultFormat.TEXT),
        ("text/html, text/csv", ResultFormat.CSV),
        ("text/csv;q=0.1, application/json", ResultFormat.CSV),
        ("text/csv;q=0, text/plain", ResultFormat.TEXT),
        ("text/csv; q=0.000", ResultFormat.JSON),
        ("application/vnd.spiceai.sql.v1+json", ResultFormat.ENVELOPE),
        ("application/vnd.spiceai.nsql.v1+json", ResultFormat.ENVELOPE),
        ("application/vnd.apache.arrow.stream", ResultFormat.ARROW_STREAM),
        ("image/png", ResultFormat.JSON),
    ],
)
def test_negotiation(accept: str, expected: ResultFormat) -> None:
    assert negotiate(accept) is expected


@given(st.text("text/csv*,;=q0.1 ", max_size=40))
def test_any_header_chooses_a_format(accept: str) -> None:
    assert negotiate(accept) in ResultFormat
