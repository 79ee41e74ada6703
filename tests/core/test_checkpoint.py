from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.checkpoint import Checkpoint, decode, encode

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC)
YEAR = timedelta(days=365)
moments = st.timedeltas(-30 * YEAR, 30 * YEAR).map(lambda distance: AT + distance)


@given(moments, moments, st.none() | st.text(), st.none() | st.text())
def test_there_and_back(refreshed_at, proven_at, refresh_sql, version):
    checkpoint = Checkpoint(refreshed_at, proven_at, refresh_sql, version)
    assert decode(encode(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    "cursor",
    [None, "", "{", "null", "[]", "7", "{}", '{"refreshed_at": 3}', '{"refreshed_at": "soon"}', "[" * 100_000,
     '{"refreshed_at": "2026-03-01T00:00:00+00:00", "version": 3}', '{"epoch": "e", "offset": 12}'],
)  # fmt: skip
def test_what_is_no_checkpoint_is_none(cursor):
    assert decode(cursor) is None


@given(st.text())
def test_any_text_decodes_to_something_or_none(text):
    decode(text)


def test_a_checkpoint_of_an_older_version_is_read():
    assert decode('{"refreshed_at": "2026-03-01T12:30:15.250000+00:00"}') == Checkpoint(AT, AT)


def test_zones_become_utc():
    there = AT.astimezone(timezone(timedelta(hours=5)))
    assert decode(encode(Checkpoint(there, there))) == Checkpoint(AT, AT)
