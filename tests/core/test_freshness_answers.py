"""What becomes of an answer, and what a request is kept under."""

from dataclasses import replace

import pytest

from caraway.core.freshness import Policy, Stored
from caraway.core.freshness_answers import (
    Again,
    Confirmed,
    Keep,
    Outlived,
    Passed,
    Replaced,
    bypasses,
    conclude,
    conditional,
    dated,
    respond,
    shareable,
    storable,
    voided,
)
from caraway.core.freshness_control import cache_control
from caraway.core.freshness_keys import flight_of, key_of, resource_of, variant_of, vary_of
from caraway.model import HttpRequest, HttpResponse

NOON = 1772366400.0
URL = "https://a.example/x"
POLICY = Policy()


def pairs(*lines):
    return tuple(tuple(line.split(": ", 1)) for line in lines)


def get(*headers):
    return HttpRequest("GET", URL, pairs(*headers))


def post(body=b"q", *headers):
    return HttpRequest("POST", URL, pairs(*headers), body)


def answer(*headers, status=200, body=b"new"):
    return dated(HttpResponse(status, pairs(*headers), body), NOON)


def stored(*headers, status=200, received=NOON - 100):
    return Stored(status, (*pairs(*headers), ("date", "Sun, 01 Mar 2026 11:00:00 GMT")), b"old", received)


TAGGED = stored('etag: "a"', "cache-control: max-age=10")
MODIFIED = stored("last-modified: then", "cache-control: max-age=10")


@pytest.mark.parametrize(
    ("held", "came", "becomes"),
    [
        (None, answer("cache-control: max-age=5"), Keep),
        (None, answer('etag: "a"'), Keep),
        (None, answer(), Passed),
        (None, answer("cache-control: no-store"), Passed),
        (None, answer(status=304), Passed),
        (TAGGED, answer("cache-control: max-age=5"), Keep),
        # an answer of another kind: what was stored is history
        (TAGGED, answer(), Replaced),
        (TAGGED, answer("cache-control: no-store, max-age=5"), Replaced),
        (TAGGED, answer("cache-control: max-age=5", "vary: *"), Replaced),
        (TAGGED, answer(status=404), Replaced),
        # a failure, or about this request alone
        *((TAGGED, answer("cache-control: max-age=5", status=status), Passed) for status in (206, 401, 429, 500, 599)),
        (stored("cache-control: max-age=10, stale-if-error=90"), answer(status=503), Outlived),
        (stored("cache-control: max-age=10, stale-if-error=89"), answer(status=503), Passed),
        (stored("cache-control: max-age=10, stale-if-error=90"), answer(status=429), Passed),
        # 304, and whether it is about what is stored (RFC 9111 4.3.4)
        (TAGGED, answer(status=304), Confirmed),
        (TAGGED, answer('etag: "a"', status=304), Confirmed),
        (TAGGED, answer('etag: W/"a"', status=304), Confirmed),
        (TAGGED, answer('etag: "b"', status=304), Again),
        (MODIFIED, answer("last-modified: then", status=304), Confirmed),
        (MODIFIED, answer("last-modified: now", status=304), Again),
        (MODIFIED, answer('etag: "b"', status=304), Again),
        (stored("cache-control: max-age=10"), answer(status=304), Passed),  # it was sent without a condition
    ],
)
def test_what_becomes_of_an_answer(held, came, becomes):
    assert isinstance(conclude(get(), held, came, now=NOON, policy=POLICY), becomes)


def confirmed(held, came, request=None):
    conclusion = conclude(request or get(), held, came, now=NOON, policy=POLICY)
    assert isinstance(conclusion, Confirmed)
    return conclusion


def test_what_a_304_says_holds_from_then_on():
    came = answer('etag: "a"', "cache-control: max-age=99", "x: 2", "content-type: b", "age: 7", status=304)
    fresh = confirmed(replace(TAGGED, headers=(*TAGGED.headers, *pairs("x: 1", "y: 1", "content-type: a"))), came)
    assert fresh.kept
    assert (fresh.stored.body, fresh.stored.received, fresh.stored.initial_age) == (b"old", NOON, 7.0)
    headers = dict(fresh.stored.headers)
    assert (headers["cache-control"], headers["x"], headers["y"], headers["content-type"]) == (
        "max-age=99",
        "2",
        "1",
        "a",
    )


def test_a_304_without_a_date_does_not_let_an_old_expires_begin_anew():
    held = stored('etag: "a"', "expires: Sun, 01 Mar 2026 11:30:00 GMT")
    fresh = confirmed(held, answer(status=304))
    assert dict(fresh.stored.headers)["date"] == "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize("line", ["cache-control: no-store", "vary: *"])
def test_a_304_may_forbid_to_store_any_longer(line):
    assert not confirmed(TAGGED, answer(line, status=304)).kept


def test_a_304_may_change_what_the_answer_varies_by():
    fresh = confirmed(TAGGED, answer("vary: b", status=304), get("b: 1"))
    assert fresh.stored.vary == ("b",)
    assert fresh.stored.variant == variant_of(("b",), pairs("b: 1"))


@pytest.mark.parametrize(
    ("held", "request_", "conditions"),
    [
        (TAGGED, get("a: b"), ('if-none-match: "a"',)),
        (MODIFIED, get(), ("if-modified-since: then",)),
        (stored('etag: "a"', "last-modified: then"), get(), ('if-none-match: "a"', "if-modified-since: then")),
        (stored(), get(), ()),
        (TAGGED, post(), ()),
    ],
)
def test_with_what_an_answer_is_validated(held, request_, conditions):
    assert conditional(request_, held).headers == (*request_.headers, *pairs(*conditions))


@pytest.mark.parametrize(
    ("request_", "policy", "past"),
    [
        (get(), POLICY, False),
        (post(), POLICY, False),
        (post(), Policy(queries_by_post=False), True),
        (HttpRequest("HEAD", URL), POLICY, True),
        (HttpRequest("PUT", URL), POLICY, True),
        (get("cache-control: no-store"), POLICY, True),
        (get('cache-control: x="'), POLICY, True),
        (get("cache-control: no-cache"), POLICY, False),
        *((get(f"{name}: x"), POLICY, True) for name in ("range", "if-match", "if-none-match", "if-modified-since")),
    ],
)
def test_which_requests_go_past_the_cache(request_, policy, past):
    assert bypasses(request_, cache_control(request_.headers), policy) is past


@pytest.mark.parametrize(
    ("method", "came", "kept"),
    [
        ("GET", answer("cache-control: max-age=5", "age: 4"), True),
        ("GET", answer("cache-control: max-age=5", "age: 5"), False),
        ("GET", answer("cache-control: max-age=5, stale-if-error=5", "age: 5"), True),
        ("GET", answer("cache-control: no-cache"), False),
        ("GET", answer("cache-control: no-cache", "last-modified: then"), True),
        ("GET", answer('etag: "a"', status=403), False),
        ("GET", answer('etag: "a"', "cache-control: private", status=403), True),
        ("GET", answer('etag: "a"', "expires: 0", status=403), True),
        ("POST", answer("cache-control: max-age=5"), True),
        ("POST", answer("cache-control: max-age=0", 'etag: "a"'), False),
        ("GET", answer("cache-control: max-age=5, must-understand, no-store"), True),
        ("GET", answer('cache-control: max-age=5, must-understand, no-store, x="'), False),
        ("GET", answer("cache-control: max-age=5, must-understand", status=299), False),
    ],
)
def test_what_is_worth_storing(method, came, kept):
    assert storable(method, came, POLICY) is kept


@pytest.mark.parametrize(
    ("request_", "came", "shared"),
    [
        (get(), answer(), True),
        (get(), answer("cache-control: max-age=5"), True),
        (get(), answer(status=503), True),
        (get(), answer(status=429), True),
        (post(), answer(), True),
        (get(), answer("cache-control: no-store"), False),
        (get(), answer('cache-control: x="'), False),
        (get(), answer("cache-control: no-cache"), False),
        (get("cache-control: no-cache"), answer("cache-control: max-age=5"), False),
        (get("cache-control: max-age=3"), answer("cache-control: max-age=5", "age: 4"), False),
        (get(), answer("cache-control: max-age=0"), False),
        (get(), answer("cache-control: max-age=0, stale-while-revalidate=5"), True),
        (get(), answer("expires: 0"), False),
        (get(), answer("vary: *"), False),
    ],
)
def test_whom_an_answer_serves_that_was_waited_for(request_, came, shared):
    assert shareable(request_, came, POLICY) is shared


@pytest.mark.parametrize(
    ("method", "status", "headers", "urls"),
    [
        ("PUT", 200, (), (URL,)),
        ("DELETE", 303, (), (URL,)),
        ("PUT", 400, (), ()),
        ("PUT", 500, (), ()),
        ("GET", 200, (), ()),
        ("HEAD", 200, (), ()),
        ("POST", 200, (), ()),
        ("PUT", 201, ("location: y", "content-location: /z?q"), (URL, "https://a.example/y", "https://a.example/z?q")),
        ("PUT", 201, ("location: https://b.example/y", "content-location: http://a.example/x"), (URL,)),
    ],
)
def test_what_an_unsafe_request_makes_void(method, status, headers, urls):
    gone = voided("me", HttpRequest(method, URL), answer(*headers, status=status), POLICY)
    assert list(gone) == [resource_of("me", url) for url in urls]


def test_an_answer_that_came_without_a_date_gets_one_and_another_keeps_its_own():
    assert answer().headers == (("date", "Sun, 01 Mar 2026 12:00:00 GMT"),)
    assert answer("date: nonsense").headers == (("date", "Sun, 01 Mar 2026 12:00:00 GMT"),)
    assert answer("date: Sun, 01 Mar 2026 11:00:00 GMT").age == 3600.0


def test_a_stored_answer_says_how_old_it_is():
    assert respond(stored("age: 7"), 12.9).header("age") == "12"


# --- keys ------------------------------------------------------------------------------------------------------------


def test_everything_that_makes_a_request_another_one_makes_another_key():
    keys = {
        key_of(namespace, request)
        for namespace in ("", "a", "ab")
        for request in (
            get(),
            HttpRequest("GET", "bhttps://a.example/x"),
            HttpRequest("GET", URL + "?"),
            post(b""),
            post(b"q"),
            post(b"q", "content-type: a"),
            post(b"aq"),
        )
    }
    assert len(keys) == 21
    assert key_of("a", get()).startswith(resource_of("a", URL))
    assert key_of("a", get("x: y")) == key_of("a", get())


def test_equal_flights_are_of_requests_with_equal_headers_in_any_order():
    key = key_of("a", get())
    assert flight_of(key, get("a: 1", "b: 2")) == flight_of(key, get("b: 2", "a: 1"))
    assert flight_of(key, get("a: 1")) != flight_of(key, get("a: 1", "b: 2")) != flight_of(key, get("a: 2"))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ((), ()),
        (("vary: ",), ()),
        (("vary: B, a",), ("a", "b")),
        (("vary: b", "vary: a,,b"), ("a", "b")),
        (("vary: *",), None),
        (("vary: a", "vary: b, *"), None),
    ],
)
def test_what_an_answer_varies_by(lines, names):
    assert vary_of(pairs(*lines)) == names


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("a: 1, 2",), ("a: 1", "a: 2"), True),
        (("a:  1 ,2 ",), ("a: 1,2",), True),
        (('a: "1, 2"',), ('a: "1,2"',), False),
        ((), ("a: ",), False),
        (("a: 1",), ("a: 1", "b: 2"), True),
        (("a: 1",), ("a: 2",), False),
        ((), ("b: 1",), True),
    ],
)
def test_which_requests_get_the_same_variant(one, other, same):
    assert (variant_of(("a",), pairs(*one)) == variant_of(("a",), pairs(*other))) is same
    assert variant_of(("a",), pairs(*one)) != variant_of((), pairs(*one))
