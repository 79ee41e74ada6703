"""How long an answer is fresh, by the names of the public suite "cache-tests"; see response_cache.py for what a row is.

A row says what this cache does. Where the suite merely asks what caches do ("check"), or wishes for a reuse that the
RFC leaves open ("optimal"), and this cache chooses otherwise, a comment says why.
"""

from support.response_cache import Row, by_date, by_etag, cached, first, not_cached, row

DAY = 86_400
TENTH = {"heuristic_share": 0.1}
LM = "last-modified: @-3000"


def cc(value: str) -> str:
    return f"cache-control: {value}"


def fresh(*reply: str, **more):
    return first(cc("max-age=100000"), *reply, **more)


def short(*reply: str, **more):
    """Stale when the next request comes."""
    return first(cc("max-age=2"), *reply, **more)


def after_one(name: str, then, *reply: str, **policy) -> Row:
    """A row of one answer that is asked for again."""
    return row(name, first(*reply), then(), **policy)


CC_FRESHNESS = [
    after_one("freshness-none", not_cached),
    after_one("freshness-max-age", cached, cc("max-age=3600")),
    row("freshness-max-age-stale", short(), not_cached()),
    after_one("freshness-max-age-0", not_cached, cc("max-age=0")),
    after_one("freshness-max-age-max-minus-1", cached, cc("max-age=2147483647")),
    after_one("freshness-max-age-max", cached, cc("max-age=2147483648")),
    after_one("freshness-max-age-max-plus-1", cached, cc("max-age=2147483649")),
    after_one("freshness-max-age-max-plus", cached, cc("max-age=99999999999")),
    after_one("freshness-max-age-age", not_cached, cc("max-age=3600"), "age: 7200"),
    after_one("freshness-max-age-date", not_cached, cc("max-age=3600"), "date: @-7200"),
    after_one("freshness-max-age-expires", cached, cc("max-age=3600"), "expires: @-7200"),
    after_one("freshness-max-age-expires-invalid", cached, cc("max-age=3600"), "expires: 0"),
    after_one("freshness-max-age-0-expires", not_cached, "expires: @3600", cc("max-age=0")),
    after_one("freshness-max-age-extension", cached, cc("foobar, max-age=3600")),
    after_one("freshness-max-age-case-insenstive", cached, cc("MaX-aGe=3600")),
    after_one("freshness-max-age-negative", not_cached, cc("max-age=-3600")),
    after_one("freshness-max-age-s-maxage-private", not_cached, cc("s-maxage=3600, max-age=1")),
    after_one("freshness-max-age-s-maxage-private-multiple", not_cached, cc("s-maxage=3600"), cc("max-age=1")),
    # A private cache may guess where it is told nothing, and what shared ones are told is the best guess.
    after_one("freshness-s-maxage-shared", cached, cc("s-maxage=3600")),
]

CC_PARSE = [
    # Of several values the least counts, wherever it stands.
    after_one("freshness-max-age-two-fresh-stale-sameline", not_cached, cc("max-age=1800, max-age=1")),
    after_one("freshness-max-age-two-fresh-stale-sepline", not_cached, cc("max-age=1800"), cc("max-age=1")),
    after_one("freshness-max-age-two-stale-fresh-sameline", not_cached, cc("max-age=1, max-age=1800")),
    after_one("freshness-max-age-two-stale-fresh-sepline", not_cached, cc("max-age=1"), cc("max-age=1800")),
    after_one("freshness-max-age-quoted", cached, cc('max-age="3600"')),
    after_one("freshness-max-age-ignore-quoted", not_cached, cc('extension="max-age=3600", max-age=1')),
    after_one("freshness-max-age-ignore-quoted-rev", not_cached, cc('max-age=1, extension="max-age=3600"')),
    after_one("freshness-max-age-space-before-equals", not_cached, cc("max-age =3600")),
    after_one("freshness-max-age-space-after-equals", not_cached, cc("max-age= 3600")),
    after_one("freshness-max-age-leading-zero", cached, cc("max-age=003600")),
    after_one("freshness-max-age-single-quoted", not_cached, cc("max-age='3600'")),
    # What is malformed is over (RFC 9111 4.2.1).
    after_one("freshness-max-age-decimal-zero", not_cached, cc("max-age=3600.0")),
    after_one("freshness-max-age-decimal-five", not_cached, cc("max-age=3600.5")),
    after_one("freshness-max-age-a100", not_cached, cc("max-age=a3600")),
    after_one("freshness-max-age-100a", not_cached, cc("max-age=3600a")),
]

CC_RESPONSE = [
    after_one("cc-resp-private-private", cached, cc("private, max-age=3600")),
    after_one("cc-resp-no-store", not_cached, cc("no-store")),
    after_one("cc-resp-no-store-case-insensitive", not_cached, cc("No-StOrE")),
    after_one("cc-resp-no-store-fresh", not_cached, cc("max-age=10000, no-store"), "expires: @10000"),
    # The newer answer does not come to be: the older one is fresh, and nobody is asked.
    *(
        row(name, first(cc("max-age=10000"), "a: 1"), cached(cc(newer), "a: 2"), cached(shows=("a: 1",)))
        for name, newer in (
            ("cc-resp-no-store-old-new", "no-store"),
            ("cc-resp-no-store-old-max-age", "no-store, max-age=0"),
        )
    ),
    after_one("cc-resp-no-cache", not_cached, cc("max-age=10000, no-cache"), "expires: @10000"),
    after_one("cc-resp-no-cache-case-insensitive", not_cached, cc("max-age=10000, No-CaChE"), "expires: @10000"),
    after_one("cc-resp-no-cache-revalidate", by_etag, cc("no-cache"), 'etag: "abcd"'),
    after_one("cc-resp-no-cache-revalidate-fresh", by_etag, cc("max-age=10000, no-cache"), 'etag: "abcd"'),
    # With names it counts as without (RFC 9111 5.2.2.4 allows that).
    after_one(
        "headers-omit-headers-listed-in-Cache-Control-no-cache-single",
        not_cached,
        cc('no-cache="a"'),
        "a: 1",
        cc("max-age=3600"),
    ),
    after_one(
        "headers-omit-headers-listed-in-Cache-Control-no-cache",
        not_cached,
        cc('no-cache="a, b"'),
        "a: 1",
        cc("max-age=3600"),
    ),
    after_one("cc-resp-must-revalidate-fresh", cached, cc("max-age=10000, must-revalidate"), 'etag: "abcd"'),
    row(
        "cc-resp-must-revalidate-stale",
        first(cc("max-age=2, must-revalidate"), 'etag: "abcd"'),
        cached(after=0),
        by_etag(),
    ),
    # The suite asks by the `no-cache` mode of fetch(), which sends max-age=0.
    row(
        "cc-resp-immutable-fresh",
        first(cc("max-age=10000, immutable"), 'etag: "abcd"'),
        cached(headers=(cc("max-age=0"),)),
    ),
    row(
        "cc-resp-immutable-stale",
        first(cc("max-age=2, immutable"), 'etag: "abcd"'),
        by_etag(headers=(cc("max-age=0"),), tells=(cc("max-age=0"),)),
    ),
]

CC_REQUEST = [
    row("ccreq-ma0", fresh(), not_cached(headers=(cc("max-age=0"),))),
    row("ccreq-ma1", fresh(), not_cached(headers=(cc("max-age=1"),))),
    row("ccreq-magreaterage", fresh("age: 1800"), not_cached(headers=(cc("max-age=600"),))),
    row("ccreq-max-stale", short(), cached(headers=(cc("max-stale=1000"),))),
    # Stored already stale, it has to have a validator to be kept.
    row(
        "ccreq-max-stale-age",
        first(cc("max-age=1500"), "age: 2000", LM),
        cached(after=0, headers=(cc("max-stale=1000"),)),
    ),
    row("ccreq-min-fresh", first(cc("max-age=1500")), not_cached(after=0, headers=(cc("min-fresh=2000"),))),
    row(
        "ccreq-min-fresh-age",
        first(cc("max-age=1500"), "age: 1000"),
        not_cached(after=0, headers=(cc("min-fresh=1000"),)),
    ),
    row("ccreq-no-cache", first(cc("max-age=3600")), not_cached(after=0, headers=(cc("no-cache"),))),
    row("ccreq-no-cache-lm", first(cc("max-age=3600"), LM), by_date(after=0, headers=(cc("no-cache"),))),
    row("ccreq-no-cache-etag", first(cc("max-age=3600"), 'etag: "e"'), by_etag(after=0, headers=(cc("no-cache"),))),
    row("ccreq-no-store", fresh(), not_cached(headers=(cc("no-store"),))),
    row("ccreq-oic", first(headers=(cc("only-if-cached"),), answer=504)),
]

AGE_PARSE = [
    after_one("age-parse-nonnumeric", cached, cc("max-age=3600"), "age: abc"),
    after_one("age-parse-negative", cached, cc("max-age=3600"), "age: -7200"),
    after_one("age-parse-float", cached, cc("max-age=3600"), "age: 7200.0"),
    after_one("age-parse-large-minus-one", not_cached, cc("max-age=3600"), "age: 2147483647"),
    after_one("age-parse-large", not_cached, cc("max-age=3600"), "age: 2147483648"),
    after_one("age-parse-larger", not_cached, cc("max-age=3600"), "age: 2147483649"),
    after_one("age-parse-suffix", not_cached, cc("max-age=3600"), "age: 7200, 0"),
    after_one("age-parse-prefix", cached, cc("max-age=3600"), "age: 0, 7200"),
    after_one("age-parse-suffix-twoline", not_cached, cc("max-age=3600"), "age: 7200", "age: 0"),
    after_one("age-parse-prefix-twoline", cached, cc("max-age=3600"), "age: 0", "age: 7200"),
    after_one("age-parse-dup-0", cached, cc("max-age=3600"), "age: 0, 0"),
    after_one("age-parse-dup-0-twoline", cached, cc("max-age=3600"), "age: 0", "age: 0"),
    after_one("age-parse-dup-old", cached, cc("max-age=10000"), "age: 3600", "age: 3600"),
    after_one("age-parse-parameter", not_cached, cc("max-age=3600"), "age: 7200;foo=bar"),
    after_one("age-parse-numeric-parameter", not_cached, cc("max-age=3600"), "age: 7200;foo=111"),
]

EXPIRES = [
    after_one("freshness-expires-future", cached, f"expires: @{30 * DAY}"),
    after_one("freshness-expires-past", not_cached, f"expires: @-{30 * DAY}"),
    row("freshness-expires-present", first("expires: @0"), not_cached(after=0)),
    after_one("freshness-expires-old-date", not_cached, "expires: @300", "date: @400"),
    after_one("freshness-expires-invalid", not_cached, "expires: 0"),
    row("freshness-expires-invalid-date", first("expires: @10", "date: foo"), cached(after=0)),
    row("freshness-expires-age-slow-date", first("date: @-10", "expires: @10", "age: 25"), not_cached(after=0)),
    row("freshness-expires-age-fast-date", first("date: @10", "expires: @20", "age: 15"), not_cached(after=0)),
    *(
        after_one(f"freshness-expires-{name}", cached, f"expires: {text}")
        for name, text in (
            ("32bit", "Tue, 19 Jan 2038 14:14:08 GMT"),
            ("far-future", "Sun, 21 Nov 2286 04:46:39 GMT"),
            ("rfc850", "Thursday, 18-Aug-50 02:01:18 GMT"),
            ("ansi-c", "Thu Aug  8 02:01:18 2050"),
            ("wrong-case-weekday", "THU, 18 Aug 2050 02:01:18 GMT"),
            ("wrong-case-month", "Thu, 18 AUG 2050 02:01:18 GMT"),
            ("wrong-case-tz", "Thu, 18 Aug 2050 02:01:18 gMT"),
        )
    ),
    *(
        after_one(f"freshness-expires-invalid-{name}", not_cached, *(f"expires: {text}" for text in texts))
        for name, *texts in (
            ("utc", "Thu, 18 Aug 2050 02:01:18 UTC"),
            ("aest", "Thu, 18 Aug 2050 02:01:18 AEST"),
            ("2-digit-year", "Thu, 18 Aug 50 02:01:18 GMT"),
            ("no-comma", "Thu 18 Aug 2050 02:01:18 GMT"),
            ("multiple-spaces", "Thu, 18  Aug  2050 02:01:18 GMT"),
            ("date-dashes", "Thu, 18-Aug-2050 02:01:18 GMT"),
            ("time-periods", "Thu, 18 Aug 2050 02.01.18 GMT"),
            ("1-digit-hour", "Thu, 18 Aug 2050 2:01:18 GMT"),
            ("multiple-lines", "Thu, 18 Aug 2050 02:01:18 GMT", "Thu, 18 Aug 2050 02:01:19 GMT"),
        )
    ),
]

# Heuristics are off unless a policy has them; these rows do, but for the first.
HEURISTIC = [
    row("heuristic-off", first(f"last-modified: @-{DAY}"), by_date(after=0)),
    *(
        row(
            f"heuristic-{status}-{'cached' if kept else 'not_cached'}",
            first(f"last-modified: @-{DAY}", *more, status=status),
            (cached if kept else not_cached)(after=0, status=status),
            **TENTH,
        )
        for kept, status, *more in (
            *((True, status) for status in (200, 203, 204, 404, 405, 410, 414)),
            *((False, status) for status in (201, 202, 403, 502, 503, 504, 599)),
            (True, 299, cc("public")),
            # 5xx are never stored, whatever they say: they are failures.
            (False, 501),
            (False, 598, cc("public")),
        )
    ),
    *(
        row(f"heuristic-delta-{ago}", first(f"last-modified: @-{ago}"), (cached if ago > 30 else by_date)(), **TENTH)
        for ago in (5, 10, 30, 60, 300, 600, 1200, 1800, 3600, 3600 * 12, DAY)
    ),
]

PRAGMA = [
    row("pragma-request-no-cache", fresh(), cached(headers=("pragma: no-cache",))),
    row("pragma-request-extension", fresh(), cached(headers=("pragma: unrecognised-extension",))),
    after_one("pragma-response-no-cache", cached, cc("max-age=3600"), "pragma: no-cache"),
    row("pragma-response-no-cache-heuristic", first(f"last-modified: @-{DAY}", "pragma: no-cache"), cached(), **TENTH),
    after_one("pragma-response-extension", cached, cc("max-age=3600"), "pragma: unrecognised-extension"),
]

_KEPT = (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499)
_NEVER_KEPT = (401, 407, 408, 429, 500, 502, 503, 504, 599)  # of the suite's, the 5xx: here they are failures
STATUS = [
    *(row(f"status-{status}-fresh", fresh(status=status), cached(status=status)) for status in _KEPT),
    *(row(f"status-{status}-fresh", fresh(status=status), not_cached(status=status)) for status in _NEVER_KEPT),
    *(
        row(f"status-{status}-stale", first("expires: @-5000", LM, status=status), not_cached(status=status))
        for status in (*_KEPT, *_NEVER_KEPT)
    ),
    row(
        "status-599-must-understand",
        first(cc("max-age=3600, no-store, must-understand"), status=599),
        not_cached(status=599),
    ),
    row(
        "status-499-must-understand",
        first(cc("max-age=3600, must-understand"), status=499),
        not_cached(status=499),
    ),
    after_one("status-200-must-understand", cached, cc("max-age=3600, no-store, must-understand")),
]

ROWS = [
    *CC_FRESHNESS,
    *CC_PARSE,
    *CC_RESPONSE,
    *CC_REQUEST,
    *AGE_PARSE,
    *EXPIRES,
    *HEURISTIC,
    *PRAGMA,
    *STATUS,
]
