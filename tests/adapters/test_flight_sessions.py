"""Sessions: bounded, idle ones end, the least recently used goes first."""

from caraway.servers.flight.sessions import IDLE_SECONDS, MAX_SESSIONS, Sessions


def test_a_session_lives_while_it_is_used():
    sessions = Sessions()
    session = sessions.open("k", now=0.0)
    assert sessions.key(session, now=IDLE_SECONDS) == "k"
    assert sessions.key(session, now=2 * IDLE_SECONDS) == "k"
    assert sessions.key(session, now=3 * IDLE_SECONDS + 1) is None
    assert sessions.key(session, now=0.0) is None


def test_unknown_ids_and_keys_are_no_sessions():
    sessions = Sessions()
    sessions.open("k", now=0.0)
    assert sessions.key("k", now=0.0) is None


def test_the_least_recently_used_goes_first():
    sessions = Sessions()
    first = sessions.open("first", now=0.0)
    second = sessions.open("second", now=0.0)
    for _ in range(MAX_SESSIONS - 2):
        sessions.open("more", now=0.0)
    assert sessions.key(first, now=0.0) == "first"
    sessions.open("one too many", now=0.0)
    assert sessions.key(second, now=0.0) is None
    assert sessions.key(first, now=0.0) == "first"


def test_its_repr_shows_no_key():
    sessions = Sessions()
    sessions.open("s3cret", now=0.0)
    assert "s3cret" not in repr(sessions)
