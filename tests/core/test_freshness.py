"""The rules of freshness, each at its boundary."""

from math import inf

import pytest

from caraway.core.freshness import Policy, Stored, Terms, Verdict, age_of, initial_age, judge, outlives_error, terms_of
from caraway.core.freshness_control import parse_cache_control

DATE = ("date", "Sun, 01 Mar 2026 12:00:00 GMT")
NOON = 1772366400.0
FRESH, STALE, BEHIND, VALIDATE = Verdict.FRESH, Verdict.STALE, Verdict.BEHIND, Verdict.VALIDATE


def terms(lifetime=60.0, swr=0.0, sie=0.0, *, no_cache=False, must_revalidate=False, immutable=False):
    return Terms(lifetime, swr, sie, no_cache, must_revalidate, immutable)


@pytest.mark.parametrize(
    ("allowed", "age", "asked", "verdict"),
    [
        (terms(), 0.0, "", FRESH),
        (terms(), 59.999, "", FRESH),
        (terms(), 60.0, "", VALIDATE),  # RFC 9111 4.2: fresh while the lifetime is greater
        (terms(), 60.001, "", VALIDATE),
        (terms(0.0), 0.0, "", VALIDATE),
        (terms(), inf, "", VALIDATE),
        (terms(no_cache=True), 0.0, "", VALIDATE),
        (terms(must_revalidate=True), 59.0, "", FRESH),
        (terms(must_revalidate=True), 60.0, "", VALIDATE),
        # RFC 5861 3
        (terms(swr=30.0), 59.0, "", FRESH),
        (terms(swr=30.0), 60.0, "", BEHIND),
        (terms(swr=30.0), 90.0, "", BEHIND),
        (terms(swr=30.0), 90.001, "", VALIDATE),
        (terms(swr=30.0), inf, "", VALIDATE),
        (terms(swr=30.0, must_revalidate=True), 61.0, "", VALIDATE),
        (terms(swr=30.0, no_cache=True), 61.0, "", VALIDATE),
        (terms(sie=30.0), 61.0, "", VALIDATE),
        # RFC 9111 5.2.1
        (terms(), 0.0, "no-cache", VALIDATE),
        (terms(immutable=True), 0.0, "no-cache", VALIDATE),
        (terms(), 0.0, "max-age=0", VALIDATE),
        (terms(immutable=True), 0.0, "max-age=0", FRESH),  # RFC 8246
        (terms(immutable=True), 60.0, "max-age=0", VALIDATE),
        (terms(), 20.0, "max-age=20", FRESH),
        (terms(), 20.001, "max-age=20", VALIDATE),
        (terms(swr=30.0), 61.0, "max-age=60", VALIDATE),
        (terms(swr=30.0), 61.0, "max-age=61", BEHIND),
        (terms(), 20.0, "min-fresh=40", FRESH),
        (terms(), 20.001, "min-fresh=40", VALIDATE),
        (terms(swr=30.0), 61.0, "min-fresh=0", VALIDATE),
        (terms(), 60.0, "max-stale=10", STALE),
        (terms(), 70.0, "max-stale=10", STALE),
        (terms(), 70.001, "max-stale=10", VALIDATE),
        (terms(), 1e9, "max-stale", STALE),
        (terms(), inf, "max-stale", VALIDATE),
        (terms(), 70.0, "max-stale=x", VALIDATE),
        (terms(must_revalidate=True), 61.0, "max-stale", VALIDATE),
        (terms(no_cache=True), 61.0, "max-stale", VALIDATE),
        (terms(), 70.0, "max-stale=10, max-age=65", VALIDATE),
        (terms(swr=30.0), 65.0, "max-stale=10", STALE),
    ],
)
def test_what_may_be_done_with_a_stored_answer(allowed, age, asked, verdict):
    assert judge(allowed, age, parse_cache_control(asked)) is verdict


@pytest.mark.parametrize(
    ("allowed", "age", "asked", "served"),
    [
        (terms(), 60.0, "", False),  # nobody allowed it
        (terms(sie=10.0), 60.0, "", True),
        (terms(sie=10.0), 70.0, "", True),
        (terms(sie=10.0), 70.001, "", False),
        (terms(swr=10.0), 70.0, "", True),
        (terms(swr=10.0, sie=20.0), 80.0, "", True),
        (terms(swr=20.0, sie=10.0), 80.0, "", True),
        (terms(sie=10.0), inf, "", False),
        (terms(sie=10.0, must_revalidate=True), 61.0, "", False),
        (terms(sie=10.0, no_cache=True), 61.0, "", False),
        (terms(sie=10.0), 61.0, "no-cache", False),
        (terms(sie=10.0), 61.0, "max-age=60", False),
        (terms(), 70.0, "stale-if-error=10", True),
        (terms(), 70.001, "stale-if-error=10", False),
    ],
)
def test_when_it_is_served_since_the_origin_failed(allowed, age, asked, served):
    assert outlives_error(allowed, age, parse_cache_control(asked)) is served


@pytest.mark.parametrize(
    ("headers", "delay", "wall", "age"),
    [
        ((), 0.0, NOON, 0.0),
        ((), 2.5, NOON, 2.5),
        ((DATE,), 0.0, NOON + 7, 7.0),
        ((DATE,), 0.0, NOON + 0.9, 0.0),  # Date has whole seconds
        ((DATE,), 0.0, NOON + 1.9, 1.0),
        ((DATE,), 0.0, NOON - 100, 0.0),  # the origin's clock is ahead
        ((DATE, ("age", "5")), 2.0, NOON, 7.0),
        ((DATE, ("age", "5")), 2.0, NOON + 30, 30.0),
        ((DATE, ("age", "50")), 2.0, NOON + 30, 52.0),
        ((("date", "yesterday"),), 1.0, NOON, 1.0),
        ((("age", "x"),), 0.0, NOON, 0.0),
        ((("age", " 5 ; a=b, 9"),), 0.0, NOON, 5.0),
    ],
)
def test_how_old_an_answer_is_when_it_comes(headers, delay, wall, age):
    assert initial_age(headers, delay=delay, wall=wall) == age


@pytest.mark.parametrize(("now", "age"), [(100.0, 3.0), (100.5, 3.5), (99.9, inf)])
def test_it_ages_by_our_clock_and_one_from_the_future_has_no_age(now, age):
    assert age_of(Stored(200, (DATE,), b"", received=100.0, initial_age=3.0), now) == age


def lifetime(*headers, status=200, **policy):
    pairs = tuple(tuple(line.split(": ", 1)) for line in headers)
    return terms_of(status, (DATE, *pairs), Policy(**policy)).lifetime


IN_AN_HOUR = "expires: Sun, 01 Mar 2026 13:00:00 GMT"
TEN_HOURS_AGO = "last-modified: Sun, 01 Mar 2026 02:00:00 GMT"
LONG_AGO = "last-modified: Wed, 01 Jan 2020 00:00:00 GMT"
EVERYTHING = {"fallback_ttl": 5.0, "heuristic_share": 0.1}


@pytest.mark.parametrize(
    ("headers", "policy", "seconds"),
    [
        ((), {}, 0.0),
        (("cache-control: max-age=9, s-maxage=8", IN_AN_HOUR), EVERYTHING, 9.0),
        (("cache-control: s-maxage=8", IN_AN_HOUR), EVERYTHING, 3600.0),
        (("cache-control: s-maxage=8", TEN_HOURS_AGO), EVERYTHING, 8.0),
        ((TEN_HOURS_AGO,), EVERYTHING, 5.0),
        ((TEN_HOURS_AGO,), {"heuristic_share": 0.1}, 3600.0),
        ((LONG_AGO,), {"heuristic_share": 0.1}, 86_400.0),
        ((TEN_HOURS_AGO,), {}, 0.0),
        (("cache-control: max-age=x",), EVERYTHING, 0.0),
        (("cache-control: s-maxage=x",), EVERYTHING, 0.0),
        (("expires: soon",), EVERYTHING, 0.0),
        (("last-modified: soon",), {"heuristic_share": 0.1}, 0.0),
        (("cache-control: private",), EVERYTHING, 5.0),
    ],
)
def test_the_first_who_says_how_long_is_heard(headers, policy, seconds):
    assert lifetime(*headers, **policy) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (404, (), 5.0),
        (403, (), 0.0),
        (403, ("cache-control: public",), 5.0),
        (403, ("cache-control: max-age=7",), 7.0),
        (302, (IN_AN_HOUR,), 3600.0),
    ],
)
def test_a_guess_is_for_answers_that_last_by_their_kind(status, headers, seconds):
    assert lifetime(*headers, status=status, fallback_ttl=5.0) == seconds
