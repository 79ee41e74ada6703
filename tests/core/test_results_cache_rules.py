"""When a cached answer may be given, kept and shared."""

import math

import pytest

from caraway.core.results_cache import (
    BYPASS,
    HIT,
    Miss,
    NotCached,
    Noted,
    Outcome,
    Policy,
    Reason,
    Stale,
    Standing,
    changed_at,
    concerns_all,
    first_change,
    judge,
    notes,
    objection,
    scope_of,
)
from caraway.errors import QueryFailure
from caraway.model import (
    ANONYMOUS,
    ANYTHING,
    SYSTEM,
    CacheReading,
    CacheScope,
    Directives,
    Generation,
    Principal,
    ReadingStatus,
)

TTL_ALONE = Policy(10.0)
WINDOW = Policy(10.0, 30.0)
AFTER = 1e-9

AGED, CHANGED = Stale(changed=False), Stale(changed=True)
EXPIRED, NO_WINDOW = Miss(Reason.EXPIRED), Miss(Reason.NO_WINDOW)
WINDOW_EXPIRED, TOO_OLD, ABSENT = Miss(Reason.WINDOW_EXPIRED), Miss(Reason.FRESH_REQUIRED), Miss(Reason.ABSENT)


@pytest.mark.parametrize(
    ("policy", "changed", "now", "verdict"),
    [
        # by age; stored at 100
        (TTL_ALONE, None, 100.0, HIT),
        (TTL_ALONE, None, 110.0, HIT),
        (TTL_ALONE, None, 110.0 + AFTER, EXPIRED),
        (WINDOW, None, 110.0, HIT),
        (WINDOW, None, 110.0 + AFTER, AGED),
        (WINDOW, None, 140.0, AGED),
        (WINDOW, None, 140.0 + AFTER, EXPIRED),
        (Policy(0.0), None, 100.0, HIT),
        (Policy(0.0), None, 100.0 + AFTER, EXPIRED),
        (Policy(0.0, 5.0), None, 105.0, AGED),
        # by tables
        (TTL_ALONE, 105.0, 105.0, NO_WINDOW),
        (TTL_ALONE, 105.0, 111.0, NO_WINDOW),
        (TTL_ALONE, 110.5, 110.5, EXPIRED),
        (WINDOW, 105.0, 105.0, CHANGED),
        (WINDOW, 105.0, 110.5, CHANGED),
        (WINDOW, 105.0, 135.0, CHANGED),
        (WINDOW, 105.0, 135.0 + AFTER, WINDOW_EXPIRED),
        (WINDOW, 90.0, 121.0, WINDOW_EXPIRED),
        # never beyond ttl + swr, however late a table changes
        (WINDOW, 120.0, 140.0, AGED),
        (WINDOW, 139.0, 140.0 + AFTER, EXPIRED),
    ],
)
def test_the_two_clocks(policy, changed, now, verdict):
    assert judge(Standing(100.0, changed), now, policy, ANYTHING) == verdict


@pytest.mark.parametrize(
    ("policy", "changed", "directives", "now", "verdict"),
    [
        (WINDOW, None, {"max_stale": math.inf}, 140.0, AGED),
        (WINDOW, None, {"max_stale": math.inf}, 140.0 + AFTER, EXPIRED),
        (WINDOW, None, {"max_stale": 5.0}, 110.0, HIT),
        (WINDOW, None, {"max_stale": 5.0}, 115.0, AGED),
        (WINDOW, None, {"max_stale": 5.0}, 115.0 + AFTER, TOO_OLD),
        (WINDOW, None, {"max_stale": 0.0}, 110.0, HIT),
        (WINDOW, None, {"max_stale": 0.0}, 110.0 + AFTER, TOO_OLD),
        (WINDOW, 105.0, {"max_stale": 5.0}, 110.0, CHANGED),
        (WINDOW, 105.0, {"max_stale": 5.0}, 110.0 + AFTER, TOO_OLD),
        (TTL_ALONE, None, {"max_stale": 5.0}, 110.0 + AFTER, EXPIRED),
        (TTL_ALONE, 105.0, {"max_stale": 50.0}, 105.0, NO_WINDOW),
        (WINDOW, None, {"min_fresh": 4.0}, 106.0, HIT),
        (WINDOW, None, {"min_fresh": 4.0}, 106.0 + AFTER, TOO_OLD),
        (WINDOW, None, {"min_fresh": 0.0}, 110.0, HIT),
        (WINDOW, None, {"min_fresh": 0.0}, 110.0 + AFTER, TOO_OLD),
        (WINDOW, 105.0, {"min_fresh": 0.0}, 106.0, TOO_OLD),
        (WINDOW, None, {"min_fresh": 11.0}, 100.0, TOO_OLD),
        (WINDOW, None, {"min_fresh": 0.0}, 141.0, EXPIRED),
        (TTL_ALONE, 105.0, {"min_fresh": 0.0}, 106.0, NO_WINDOW),
        (WINDOW, None, {"only_if_cached": True}, 110.0, HIT),
        (WINDOW, None, {"only_if_cached": True}, 111.0, AGED),
        (WINDOW, None, {"only_if_cached": True}, 141.0, NotCached(Reason.EXPIRED)),
        (TTL_ALONE, 105.0, {"only_if_cached": True}, 106.0, NotCached(Reason.NO_WINDOW)),
        (WINDOW, None, {"no_cache": True}, 100.0, BYPASS),
        # the first of the four counts alone
        (WINDOW, None, {"no_cache": True, "only_if_cached": True, "min_fresh": 1.0, "max_stale": 1.0}, 141.0, BYPASS),
        (WINDOW, None, {"only_if_cached": True, "min_fresh": 99.0, "max_stale": 0.0}, 139.0, AGED),
        (WINDOW, None, {"min_fresh": 1.0, "max_stale": math.inf}, 111.0, TOO_OLD),
    ],
)
def test_what_the_request_allows(policy, changed, directives, now, verdict):
    assert judge(Standing(100.0, changed), now, policy, Directives(**directives)) == verdict


@pytest.mark.parametrize(
    ("directives", "verdict"),
    [
        ({}, ABSENT),
        ({"min_fresh": 0.0}, ABSENT),
        ({"max_stale": math.inf}, ABSENT),
        ({"only_if_cached": True}, NotCached(Reason.ABSENT)),
        ({"no_cache": True}, BYPASS),
    ],
)
def test_nothing_there(directives, verdict):
    assert judge(None, 0.0, WINDOW, Directives(**directives)) == verdict


@pytest.mark.parametrize("policy", [TTL_ALONE, WINDOW])
@pytest.mark.parametrize("changed", [None, 100.0, 105.0, 125.0])
def test_an_entry_that_was_given_up_would_have_served_nobody(policy, changed):
    asked = [Directives(), Directives(max_stale=3.0), Directives(min_fresh=2.0), Directives(only_if_cached=True)]
    moments = [100.0 + step / 2 for step in range(100)]
    given_up = [
        any(isinstance(verdict, Miss | NotCached) and verdict.reason.final for verdict in verdicts)
        and not any(isinstance(verdict, type(HIT) | Stale) for verdict in verdicts)
        for now in moments
        for standing in [Standing(100.0, changed if changed is not None and changed <= now else None)]
        for verdicts in [[judge(standing, now, policy, each) for each in asked]]
    ]
    served = [
        isinstance(judge(Standing(100.0, changed), now, policy, Directives()), type(HIT) | Stale) for now in moments
    ]
    assert given_up == sorted(given_up)
    assert given_up[-1]
    assert not any(now and gone for now, gone in zip(served, given_up, strict=True))


G = Generation("e", (1, 5, 9), 50.0)


@pytest.mark.parametrize(
    ("parts", "current", "at"),
    [
        (None, G, None),
        (None, Generation("e", (1, 5, 9), 77.0), None),  # the time is no part of what it holds
        (None, Generation("e", (1, 6, 9), 77.0), 77.0),
        (None, Generation("f", (1, 5, 9), 77.0), 77.0),
        (None, Generation("e", (1, 5), 77.0), 77.0),
        (None, Generation("e", (1, 6, 9), 150.0), 100.0),  # not later than now
        (None, None, 100.0),  # it tells nothing any more
        ((0, 2), Generation("e", (1, 6, 9), 77.0), None),
        ((1,), Generation("e", (1, 6, 9), 77.0), 77.0),
        ((), Generation("e", (2, 6, 8), 77.0), None),
        ((0,), Generation("f", (1, 5, 9), 77.0), 77.0),
        ((0,), Generation("e", (1, 5, 9, 9), 77.0), 77.0),
    ],
)
def test_when_a_table_changed(parts, current, at):
    assert changed_at(Noted("t", G, parts), current, 100.0) == at


def test_the_first_change_counts():
    noted = (Noted("a", G), Noted("b", G), Noted("c", G))
    moved = {"a": Generation("x", (), 70.0), "b": G, "c": Generation("x", (), 60.0)}
    assert first_change(noted, moved.get, 100.0) == 60.0
    assert first_change(noted, {"a": G, "b": G, "c": G}.get, 100.0) is None
    assert first_change(noted, {"a": G, "b": G}.get, 100.0) == 100.0
    assert first_change((), {}.get, 100.0) is None


def test_what_an_answer_rests_on():
    later = Generation("e", (2, 5, 9), 60.0)
    readings = [
        CacheReading("api", ReadingStatus.MISS, shares=(0,), generation=later),
        CacheReading("api", ReadingStatus.HIT, shares=(2,)),
    ]
    before = {"api": G, "plain": G, "other": G, "remote": None}
    assert notes(["api", "plain", "remote"], before, readings) == (
        Noted("api", later, (0,)),
        Noted("api", G, (2,)),
        Noted("plain", G),
    )


def test_a_table_that_was_not_there_to_be_noted():
    assert notes(["t"], {"u": G}, ()) is None
    assert notes(["t"], {"t": None}, ()) == ()


@pytest.mark.parametrize(
    ("statuses", "changed", "outcome"),
    [
        ((), None, None),
        ((ReadingStatus.HIT, ReadingStatus.STALE, ReadingStatus.MISS), None, None),
        ((ReadingStatus.HIT,), 3.0, Outcome.INVALIDATED_MID_FLIGHT),
        ((ReadingStatus.HIT, ReadingStatus.STALE_IF_ERROR), None, Outcome.TRANSIENT_ERRORS),
        ((ReadingStatus.STALE_IF_ERROR,), 3.0, Outcome.TRANSIENT_ERRORS),
    ],
)
def test_what_is_kept(statuses, changed, outcome):
    assert objection([CacheReading("d", status) for status in statuses], changed) is outcome


def test_which_failures_are_shared():
    own = {failure for failure in QueryFailure if not concerns_all(failure)}
    assert own == {QueryFailure.CANCELLED, QueryFailure.TIMEOUT, QueryFailure.UNAVAILABLE}


@pytest.mark.parametrize(
    ("principal", "scope"),
    [
        (ANONYMOUS, CacheScope.SHARED),
        (Principal("public", write=True), CacheScope.SHARED),
        (SYSTEM, CacheScope.SYSTEM),
        (Principal("apikey:0123456789abcdef"), CacheScope.USER),
    ],
)
def test_who_may_be_given_an_answer(principal, scope):
    assert scope_of(principal) is scope
