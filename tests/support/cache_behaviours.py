"""What is stored, chosen, validated, served stale and made void, by the names of the public suite "cache-tests"."""

from support.cache_freshness import LM, cc, fresh, short
from support.response_cache import Row, Step, by_date, by_etag, cached, first, not_cached, row

CONDITIONAL = [
    row(
        "conditional-etag-vary-headers",
        first("expires: @1", 'etag: "abcdef"', "vary: abc", headers=("abc: 123",)),
        by_etag(headers=("abc: 123",), tells=("abc: 123",)),
    ),
    # What is stored for other requests validates nothing here: one condition, of one answer.
    row(
        "conditional-etag-vary-headers-mismatch",
        first("expires: @10000", 'etag: "abcdef"', "vary: abc", headers=("abc: 123",)),
        not_cached(headers=("abc: 456",)),
    ),
    row("conditional-etag-strong-generate", short('etag: "abcdef"'), by_etag(tells=('if-none-match: "abcdef"',))),
    row(
        "conditional-etag-weak-generate-weak", short('etag: W/"abcdef"'), by_etag(tells=('if-none-match: W/"abcdef"',))
    ),
    # It is given back as it came: whoever wrote it knows it so.
    row("conditional-etag-strong-generate-unquoted", short("etag: abcdef"), by_etag(tells=("if-none-match: abcdef",))),
    row(
        "conditional-etag-forward",
        first(headers=('if-none-match: "abcdef"',), tells=('if-none-match: "abcdef"',)),
    ),
    row(
        "conditional-etag-forward-unquoted",
        first(headers=("if-none-match: abcdef",), tells=("if-none-match: abcdef",)),
    ),
]


def _updated(name: str, old: str, new: str, *, kept: bool = False) -> Row:
    """A header that a 304 brings another value of, which holds from then on, or never (`kept`)."""
    seconds = () if name == "cache-control" else (cc("max-age=2"),)
    tag = () if name == "etag" else ('etag: "tag"',)
    shows = (f"{name}: {old if kept else new}",)
    return row(
        f"304-etag-update-response-{name}",
        first(f"{name}: {old}", *seconds, *tag),
        by_etag(f"{name}: {new}", *seconds, *tag, shows=shows),
        cached(after=0, shows=shows),
    )


_MODIFIED = "last-modified: Wed, 01 Jan 2020 00:00:00 GMT"
UPDATE_304 = [
    row(
        "304-lm-use-stored-Test-Header",
        short(_MODIFIED, "test-header: a"),
        by_date(_MODIFIED, shows=("test-header: a",)),
    ),
    *(
        _updated(name, old, new)
        for name, old, new in (
            ("test-header", "a", "b"),
            ("x-test-header", "a", "b"),
            ("content-foo", "a", "b"),
            ("x-content-foo", "a", "b"),
            ("cache-control", "max-age=1", "max-age=3600"),
            ("content-location", "/foo", "/bar"),
            ("content-md5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
            ("content-security-policy", "default-src 'self'", "default-src 'self' cdn.example"),
            ("clear-site-data", "cache", "cookies"),
            ("expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
            ("public-key-pins", "a", "b"),
            ("set-cookie", "a=b", "a=c"),
            ("set-cookie2", "a=b", "a=c"),
            ("x-frame-options", "deny", "sameorigin"),
            ("x-xss-protection", "1", "1; mode=block"),
        )
    ),
    # By these the stored body was read, or is (RFC 9111 3.2).
    *(
        _updated(name, old, new, kept=True)
        for name, old, new in (
            ("content-length", "36", "10"),
            ("content-encoding", "gzip", "br"),
            ("content-type", "text/plain", "text/plain;charset=utf-8"),
            ("content-range", "bytes 0-3/4", "bytes 1-3/4"),
        )
    ),
]


def _varied(*headers: str, vary: str = "foo", **more) -> Step:
    return first(cc("max-age=5000"), LM, f"vary: {vary}", headers=headers, **more)


def _then(expect, *headers: str, **more) -> Step:
    return expect(after=0, headers=headers, **more)


VARY = [
    row("vary-match", _varied("foo: 1"), _then(cached, "foo: 1")),
    row("vary-no-match", _varied("foo: 1"), _then(not_cached, "foo: 2")),
    row("vary-omit-stored", _varied(), _then(not_cached, "foo: 1")),
    row("vary-omit", _varied("foo: 1"), _then(not_cached)),
    row(
        "vary-invalidate",
        _varied("foo: 1", body=b"one"),
        not_cached(cc("max-age=5000"), LM, "vary: foo", headers=("foo: 2",), body=b"two"),
        _then(cached, "foo: 1", body=b"one"),
        _then(cached, "foo: 2", body=b"two"),
    ),
    row("vary-cache-key", _varied("foo: 1", "other: 2"), _then(cached, "foo: 1", "other: 3")),
    row("vary-2-match", _varied("foo: 1", "bar: abc", vary="Foo, Bar"), _then(cached, "foo: 1", "bar: abc")),
    row("vary-2-no-match", _varied("foo: 1", "bar: abc", vary="Foo, Bar"), _then(not_cached, "foo: 2", "bar: abc")),
    row("vary-2-match-omit", _varied("foo: 1", "bar: abc", vary="Foo, Bar"), _then(not_cached)),
    *(
        row(name, _varied("foo: 1", "bar: abc", "baz: 789", vary="Foo, Bar, Baz"), _then(expect, *headers))
        for name, expect, *headers in (
            ("vary-3-match", cached, "foo: 1", "bar: abc", "baz: 789"),
            ("vary-3-no-match", not_cached, "foo: 2", "bar: abc", "baz: 789"),
            ("vary-3-order", not_cached, "foo: 1", "baz: 789", "bar: abcde"),
        )
    ),
    row("vary-3-omit", _varied("foo: 1", "baz: 789", vary="Foo, Bar, Baz"), _then(cached, "foo: 1", "baz: 789")),
    row("vary-star", _varied("foo: 1", vary="*"), _then(not_cached, "foo: 1")),
    row("vary-normalise-combine", _varied("foo: 1, 2"), _then(cached, "foo: 1", "foo: 2")),
    row("vary-normalise-space", _varied("foo: 1,2"), _then(cached, "foo:  1, 2 ")),
    # Nothing is known here of what a header's values mean, neither their order nor their case.
    *(
        row(
            name, _varied("accept-language: en, de", vary="Accept-Language"), _then(expect, f"accept-language: {value}")
        )
        for name, expect, value in (
            ("vary-normalise-lang-space", cached, " en ,   de"),
            ("vary-normalise-lang-order", not_cached, "de, en"),
            ("vary-normalise-lang-case", not_cached, "eN, De"),
            ("vary-normalise-lang-select", not_cached, "fr;q=0.5, de;q=1.0"),
        )
    ),
    *(
        row(
            f"vary-syntax-{name}",
            first(cc("max-age=5000"), LM, *(f"vary: {line}" for line in lines), headers=("foo: 1",)),
            _then(not_cached, "foo: 1"),
        )
        for name, *lines in (
            ("star", "*"),
            ("star-star", "*, *"),
            ("star-star-lines", "*", "*"),
            ("empty-star", ", *"),
            ("empty-star-lines", "", "*"),
            ("star-foo", "*, Foo"),
            ("foo-star", "Foo, *"),
        )
    ),
]

_SWR, _SIE = "stale-while-revalidate", "stale-if-error"
_FORGIVING = first(cc(f"max-age=2, {_SIE}=60"))
STALE = [
    # A failure is an answer unless the origin allows otherwise.
    row("stale-close", short(), not_cached(disconnects=True)),
    row("stale-503", short(), not_cached(status=503)),
    row("stale-sie-close", _FORGIVING, cached(disconnects=True)),
    row("stale-sie-503", _FORGIVING, cached(status=503, answer=200)),
    row("stale-sie-501", _FORGIVING, not_cached(status=501)),
    row("stale-sie-429", _FORGIVING, not_cached(status=429)),
    row("stale-sie-window", first(cc(f"max-age=1, {_SIE}=1")), not_cached(status=503)),
    *(
        row(f"stale-close-{directive}", first(cc(f"max-age=2, {_SIE}=60, {directive}")), not_cached(disconnects=True))
        for directive in ("must-revalidate", "no-cache")
    ),
    row("stale-close-must-revalidate-alone", first(cc("max-age=2, must-revalidate")), not_cached(disconnects=True)),
    row("stale-while-revalidate-must-revalidate", first(cc(f"max-age=1, {_SWR}=60, must-revalidate")), not_cached()),
    row("stale-while-revalidate-no-cache", first(cc(f"max-age=1, {_SWR}=60, no-cache")), not_cached()),
]

# Those that need the task in the background.
STALE_BEHIND = [
    row("stale-while-revalidate", first(cc(f"max-age=1, {_SWR}=3600"), 'etag: "abc"'), cached(behind=True)),
    row(
        "stale-while-revalidate-window",
        first(cc(f"max-age=1, {_SWR}=4"), 'etag: "abc"'),
        cached(cc("no-cache"), 'etag: "def"', behind=True),
        not_cached(),
    ),
]


def _elsewhere(path: str, **more) -> Step:
    return Step(reply=(cc("max-age=100000"), LM), after=0, path=path, **more)


INVALIDATION = [
    *(
        row(
            f"invalidate-{method}",
            fresh(),
            not_cached(method=method, content=b"abc"),
            not_cached(after=0),
            queries_by_post=False,
        )
        for method in ("POST", "PUT", "DELETE", "M-SEARCH")
    ),
    *(
        row(
            f"invalidate-{method}-failed",
            fresh(),
            not_cached(method=method, content=b"abc", status=500),
            cached(after=0),
            queries_by_post=False,
        )
        for method in ("POST", "PUT", "DELETE", "M-SEARCH")
    ),
    *(
        row(
            f"invalidate-{method}-{short_name}",
            _elsewhere("/other", expect="anyhow"),
            not_cached(f"{header}: invalidate-{method}-{short_name}/other", method=method, content=b"abc"),
            _elsewhere("/other", expect="not_cached"),
            queries_by_post=False,
        )
        for method in ("POST", "PUT", "DELETE", "M-SEARCH")
        for short_name, header in (("location", "location"), ("cl", "content-location"))
    ),
    row(
        "invalidate-elsewhere",
        fresh(),
        not_cached("location: https://other.example/", method="PUT", content=b"abc", path="/b"),
        cached(after=0),
    ),
    # A POST that only reads makes nothing void, and is answered by what it carries.
    row("invalidate-POST-that-reads", fresh(), not_cached(method="POST", content=b"abc"), cached(after=0)),
]

METHOD = [
    # Who asks by GET is not answered by what a POST brought: nothing here says that the two mean the same.
    row(
        "method-POST",
        first(cc("max-age=3600"), "content-location: method-POST", method="POST", content=b"12345"),
        not_cached(),
    ),
    row(
        "method-POST-same-body",
        first(cc("max-age=3600"), method="POST", content=b"12345"),
        cached(method="POST", content=b"12345"),
    ),
    row(
        "method-POST-other-body",
        first(cc("max-age=3600"), method="POST", content=b"12345"),
        not_cached(method="POST", content=b"12346"),
    ),
    row(
        "method-POST-empty-body",
        first(cc("max-age=3600")),
        not_cached(method="POST", content=b""),
    ),
    row(
        "method-POST-no-time",
        first('etag: "abc"', method="POST", content=b"12345"),
        not_cached(method="POST", content=b"12345"),
    ),
    row(
        "method-POST-heuristic",
        first("last-modified: @-100000", method="POST", content=b"12345"),
        not_cached(method="POST", content=b"12345"),
        heuristic_share=0.1,
    ),
    row(
        "method-POST-fallback",
        first(method="POST", content=b"12345"),
        cached(method="POST", content=b"12345"),
        fallback_ttl=10.0,
    ),
    row("method-HEAD", fresh(), first(method="HEAD"), cached(after=0)),
]

OTHER = [
    row("other-age-gen", fresh(), cached(shows=("age: 3",))),
    row("other-age-delay", first(cc("max-age=3600"), "date: @0", delay=5.0, age=5.0)),
    row("other-age-update-expires", first(f"expires: @{30 * 86_400}", "age: 30"), cached(shows=("age: 33",))),
    row("other-age-update-max-age", fresh("age: 30"), cached(shows=("age: 33",))),
    row("other-date-update", fresh("date: @0"), cached(shows=("date: @-3",))),
    row("other-date-update-expires", first("expires: @1000", "date: @0"), cached(shows=("date: @-3",))),
    row("other-date-update-expires-update", first("expires: @1000"), cached(shows=("expires: @997",))),
    row("query-args-different", fresh(path="?test=1"), not_cached(path="?test=2")),
    row("query-args-same", fresh(path="?test=1"), cached(path="?test=1")),
    row(
        "other-heuristic-content-disposition-attachment",
        first("last-modified: @-100000", "content-disposition: attachment; filename=a.txt"),
        cached(after=0),
        heuristic_share=0.1,
    ),
    row(
        "other-fresh-content-disposition-attachment",
        fresh("content-disposition: attachment; filename=a.txt"),
        cached(),
    ),
    row("other-set-cookie", fresh("set-cookie: a=b"), cached()),
    row("other-cookie", fresh(), cached(headers=("cookie: a=b",))),
    # The key is the dataset's own, and its token changes while the answers stay what they are.
    row("other-authorization", fresh(headers=("authorization: a",)), cached(headers=("authorization: b",))),
    row("fallback-ttl", first(), cached(), not_cached(after=7), fallback_ttl=10.0),
    row("fallback-ttl-explicit", first(cc("max-age=1")), not_cached(), fallback_ttl=10.0),
    row("fallback-ttl-over", first("expires: 0"), not_cached(), fallback_ttl=10.0),
    row("fallback-ttl-no-store", first(cc("no-store")), not_cached(), fallback_ttl=10.0),
    row("fallback-ttl-no-cache", first(cc("no-cache")), not_cached(), fallback_ttl=10.0),
    row("fallback-ttl-403", first(status=403), not_cached(status=403), fallback_ttl=10.0),
    row("fallback-ttl-404", first(status=404), cached(status=404), fallback_ttl=10.0),
]

_GONE = (
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization"),
    *("proxy-connection", "te", "transfer-encoding", "upgrade"),
)
HEADERS = [
    row(
        "headers-omit-headers-listed-in-Connection",
        fresh("connection: a, b", "a: 1", "b: 2", "c: 3"),
        cached(shows=("c: 3",), hides=("a", "b")),
    ),
    *(row(f"headers-store-{name}", fresh(f"{name}: x"), cached(hides=(name,))) for name in _GONE),
    *(
        row(f"headers-store-{name}", fresh(f"{name}: x"), cached(shows=(f"{name}: x",)))
        for name in (
            *("test-header", "x-test-header", "content-foo", "x-content-foo", "content-encoding", "content-length"),
            *("content-location", "content-md5", "content-range", "content-security-policy", "content-type"),
            *("clear-site-data", "etag", "expires", "public-key-pins", "set-cookie", "set-cookie2"),
            *("x-frame-options", "x-xss-protection"),
        )
    ),
]

ROWS = [
    *CONDITIONAL,
    *UPDATE_304,
    *VARY,
    *STALE,
    *INVALIDATION,
    *METHOD,
    *OTHER,
    *HEADERS,
]
