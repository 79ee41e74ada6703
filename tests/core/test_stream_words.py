"""What caraways say beside rows: JSON under one name, and nothing that is not ours."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.stream_words import (
    HEARTBEAT_SECONDS,
    LONGEST,
    SHORTEST,
    Wish,
    Word,
    heartbeat_within,
    patience,
    read_wish,
    read_word,
    write_wish,
    write_word,
)
from caraway.model import Mark, Phase, Position

HERE = Position("e1", 41)
END = Mark(1_763_800_000.25, Position("e1", 50))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(), {"heartbeat": 1.0}),
        (Wish(heartbeat=0.5), {"heartbeat": 0.5}),
        (Wish(HERE, 2.0), {"epoch": "e1", "offset": 41, "heartbeat": 2.0}),
    ],
)
def test_a_wish(wish, said):
    written = write_wish(wish)
    assert json.loads(written) == {"caraway": said}
    assert read_wish(written) == wish


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (Word(Phase.SNAPSHOT), {"phase": "snapshot"}),
        (Word(Phase.SNAPSHOT, None, END), {"phase": "snapshot", "epoch": "e1", "at": END.at, "end": 50}),
        (Word(Phase.SNAPSHOT_END, HERE), {"phase": "snapshot_end", "epoch": "e1", "offset": 41}),
        (Word(Phase.LIVE, HERE, END), {"phase": "live", "epoch": "e1", "offset": 41, "at": END.at, "end": 50}),
        (Word(Phase.HEARTBEAT), {"phase": "heartbeat"}),
    ],
)
def test_a_word(word, said):
    written = write_word(word)
    assert json.loads(written) == {"caraway": said}
    assert read_word(written) == word


def test_a_mark_of_another_epoch_stays_unsaid():
    word = Word(Phase.LIVE, HERE, Mark(1.0, Position("e2", 3)))
    assert read_word(write_word(word)) == Word(Phase.LIVE, HERE)


def test_a_place_within_a_copy_is_none_to_resume_from():
    said = b'{"caraway":{"phase":"snapshot","epoch":"e1","offset":41,"at":1,"end":50}}'
    assert read_word(said) == Word(Phase.SNAPSHOT, None, Mark(1.0, Position("e1", 50)))


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"spice-keepalive",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"caraway"',
        b"{}",
        b'{"caraway":null}',
        b'{"caraway":[1]}',
        b'{"trace_id":"00"}',
        b"[" * 3000,
        b'{"caraway":{"phase":"live","more":"' + b"x" * 5000 + b'"}}',
    ],
)
def test_what_is_not_ours_is_nothing(foreign):
    assert read_wish(foreign) is None
    assert read_word(foreign) is None


@pytest.mark.parametrize("phase", [None, "later", 7, ["live"], {"live": 1}, True])
def test_a_word_without_a_phase_that_we_know_is_none(phase):
    assert read_word(json.dumps({"caraway": {"phase": phase}}).encode()) is None


@pytest.mark.parametrize("offset", [None, -1, 1.5, True, "3", 2**63, [3]])
def test_an_offset_that_is_none_is_no_position(offset):
    said = {"caraway": {"phase": "live", "epoch": "e1", "offset": offset, "end": offset, "at": 1}}
    assert read_word(json.dumps(said).encode()) == Word(Phase.LIVE)
    assert read_wish(json.dumps(said).encode()) == Wish()


@pytest.mark.parametrize("at", ["NaN", "Infinity", '"now"', "true", "null", "1e999", "9" * 400])
def test_a_clock_that_is_none_is_no_mark(at):
    said = f'{{"caraway":{{"phase":"heartbeat","epoch":"e1","offset":3,"end":3,"at":{at}}}}}'
    assert read_word(said.encode()) == Word(Phase.HEARTBEAT, Position("e1", 3))


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (0, SHORTEST),
        (-3, SHORTEST),
        (1e9, LONGEST),
        (10**400, HEARTBEAT_SECONDS),
        (5, 5.0),
        ("2", HEARTBEAT_SECONDS),
        (None, HEARTBEAT_SECONDS),
    ],
)
def test_a_heartbeat_is_kept_within_bounds(asked, granted):
    assert read_wish(json.dumps({"caraway": {"heartbeat": asked}}).encode()) == Wish(None, granted)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(metadata):
    read_word(metadata)
    read_wish(metadata)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_values_are_survived(value):
    for name in ("phase", "epoch", "offset", "at", "end", "heartbeat"):
        said = {"phase": "live", "epoch": "e", "offset": 1, "at": 1, "end": 1, "heartbeat": 1} | {name: value}
        metadata = json.dumps({"caraway": said}).encode()
        word, wish = read_word(metadata), read_wish(metadata)
        assert wish is not None
        assert SHORTEST <= wish.heartbeat <= LONGEST
        assert word is None or word.mark is None or math.isfinite(word.mark.at)


@pytest.mark.parametrize(("heartbeat", "seconds"), [(0.05, 5.0), (1.0, 5.0), (2.0, 10.0), (60.0, 300.0)])
def test_silence_is_borne_for_five_heartbeats_but_never_less_than_five_seconds(heartbeat, seconds):
    assert patience(heartbeat) == seconds


@pytest.mark.parametrize(
    ("window", "seconds"),
    [(None, 2.0), (float("inf"), 2.0), (60.0, 2.0), (8.0, 2.0), (2.0, 0.5), (0.1, SHORTEST), (0.0, SHORTEST)],
)
def test_several_heartbeats_fit_into_the_acceptable_lag(window, seconds):
    assert heartbeat_within(window, 2.0) == seconds
