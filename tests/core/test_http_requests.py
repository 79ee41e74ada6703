"""Which requests conditions name, and which of them a dataset allows."""

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.connectors.http.urls import parse_address
from caraway.core.globs import parse_glob
from caraway.core.http_policy import RequestPolicy
from caraway.core.http_requests import BODY, HEADERS, MOST_REQUESTS, PATH, QUERY, requests_of
from caraway.core.predicate import And, Compare, In, IsNull, Like, Literal, Not, Or, RawSql
from caraway.errors import QueryError, QueryFailure
from caraway.model import Request
from support.fuzz import fuzz


def text(value: str | None) -> Literal:
    return Literal(value, "utf8")


def eq(column: str, value: str | None) -> Compare:
    return Compare(column, "=", text(value))


def among(column: str, *values: str | None) -> In:
    return In(column, tuple(map(text, values)))


OTHER = Compare("response_status", "=", Literal(200, "int64"))
A, B = Request("/a"), Request("/b")

NAMED = [
    # nothing said of requests
    ((), None),
    ((None,), None),
    ((OTHER,), None),
    ((None, OTHER), None),
    ((Or((OTHER, IsNull("content"))),), None),
    ((Not(IsNull(PATH)),), None),
    ((Like("content", "%x%"),), None),
    # one column
    ((eq(PATH, "/a"),), (A,)),
    ((among(PATH, "/b", "/a", "/b"),), (A, B)),
    ((Or((eq(PATH, "/b"), eq(PATH, "/a"))),), (A, B)),
    ((Or((among(PATH, "/a", "/b"), eq(PATH, "/a"))),), (A, B)),
    ((among(PATH, "/a", None),), (A,)),
    ((eq(QUERY, "q=1"),), (Request(query="q=1"),)),
    ((eq(QUERY, ""),), (Request(),)),
    ((eq(BODY, ""),), (Request(body=""),)),
    ((eq(BODY, "{}"),), (Request(body="{}"),)),
    ((eq(HEADERS, '{"x":"1"}'),), (Request(headers='{"x":"1"}'),)),
    # AND
    ((And((eq(PATH, "/a"), OTHER)),), (A,)),
    ((And((eq(PATH, "/a"), Not(OTHER))),), (A,)),
    ((And((among(PATH, "/a", "/b"), among(PATH, "/b", "/c"))),), (B,)),
    ((And((among(PATH, "/b", "/a"), eq(QUERY, "q"))),), (Request("/a", "q"), Request("/b", "q"))),
    (
        (And((among(PATH, "/a", "/b"), among(QUERY, "q", "p"), eq(BODY, ""), eq(HEADERS, "{}"))),),
        tuple(Request(path, query, "", "{}") for path in ("/a", "/b") for query in ("p", "q")),
    ),
    # OR of the same columns
    (
        (Or((And((eq(PATH, "/a"), eq(QUERY, "q"))), And((eq(QUERY, "p"), eq(PATH, "/b"))))),),
        (Request("/a", "q"), Request("/b", "p")),
    ),
    ((And((Or((eq(PATH, "/a"), eq(PATH, "/b"))), Or((eq(PATH, "/b"), eq(PATH, "/c"))))),), (B,)),
    ((Or((eq(PATH, "/a"), And((eq(PATH, "/b"), OTHER)))),), (A, B)),
    # what can't be met
    ((eq(PATH, None),), ()),
    ((among(PATH, None),), ()),
    ((Or((eq(PATH, None), eq(QUERY, "q"))),), (Request(query="q"),)),
    ((IsNull(PATH),), ()),
    ((And((eq(PATH, "/a"), eq(PATH, "/b"))),), ()),
    ((And((eq(QUERY, "q"), eq(PATH, "/a"), eq(PATH, "/b"))),), ()),
    ((Or((And((eq(PATH, "/a"), eq(PATH, "/b"))), eq(PATH, "/c"))),), (Request("/c"),)),
    # several readings
    ((eq(PATH, "/b"), eq(PATH, "/a")), (A, B)),
    ((eq(PATH, "/a"), And((eq(PATH, "/a"), OTHER))), (A,)),
    ((eq(PATH, "/a"), eq(QUERY, "q")), (Request("", "q"), A)),
    ((among(PATH, "/a", "/b"), eq(PATH, "/b")), (A, B)),
    ((eq(PATH, "/a"), And((eq(PATH, "/b"), eq(QUERY, "q")))), (A, Request("/b", "q"))),
    ((None, And((eq(PATH, "/a"), eq(PATH, "/b")))), (Request(),)),
]


@pytest.mark.parametrize(("conditions", "wanted"), NAMED, ids=range(len(NAMED)))
def test_what_conditions_name(conditions, wanted):
    assert requests_of(conditions) == wanted


UNCLEAR = [
    ((Like(PATH, "/a%"),), PATH),
    ((Compare(QUERY, "<", text("q")),), QUERY),
    ((Compare(QUERY, "!=", text("q")),), QUERY),
    ((Not(eq(BODY, "{}")),), BODY),
    ((Not(among(PATH, "/a")),), PATH),
    ((Not(Or((eq(PATH, "/a"), OTHER))),), PATH),
    ((RawSql("upper(request_path) = 'A'"),), "request"),
    ((And((eq(PATH, "/a"), Like(QUERY, "%"))),), QUERY),
    ((Compare(PATH, "=", Literal(5, "int64")),), "text in quotes"),
    ((In(PATH, (text("/a"), Literal(True, "bool"))),), "text in quotes"),
    ((eq(PATH, ""),), "can't be empty"),
    ((among(PATH, "/a", ""),), "can't be empty"),
    # alternatives that leave something open
    ((Or((eq(PATH, "/a"), eq(QUERY, "q"))),), "request_path, request_query"),
    ((Or((eq(PATH, "/a"), OTHER)),), "UNION ALL"),
    ((Or((eq(PATH, "/a"), And((eq(PATH, "/b"), eq(QUERY, "q"))))),), "request_query"),
    # readings that would see each other's rows
    ((None, eq(PATH, "/a")), "says nothing of request_path"),
    ((eq(PATH, "/a"), And((eq(PATH, "/a"), eq(QUERY, "q")))), "says nothing of request_query"),
    ((eq(PATH, "/a"), And((eq(PATH, "/a"), eq(BODY, "")))), "says nothing of request_body"),
    ((eq(QUERY, "q"), And((eq(PATH, "/a"), eq(QUERY, "q")))), "says nothing of request_path"),
]


@pytest.mark.parametrize(("conditions", "why"), UNCLEAR, ids=range(len(UNCLEAR)))
def test_what_names_no_request(conditions, why):
    with pytest.raises(QueryError, match=why) as caught:
        requests_of(conditions)
    assert caught.value.failure is QueryFailure.INVALID


def test_a_column_that_the_table_does_not_have_names_nothing():
    assert requests_of([eq(PATH, "/a")], [QUERY]) is None


def numbered(column: str, count: int) -> In:
    return among(column, *(f"/{number}" for number in range(count)))


def test_how_many_requests_a_query_may_send():
    assert len(requests_of([numbered(PATH, MOST_REQUESTS)])) == MOST_REQUESTS
    six = And((numbered(PATH, 3), numbered(QUERY, 2)))
    assert len(requests_of([six], limit=6)) == 6
    with pytest.raises(QueryError, match="6 requests; 5 is max_request_partitions"):
        requests_of([six], limit=5)
    with pytest.raises(QueryError, match=f"{MOST_REQUESTS + 1} requests; {MOST_REQUESTS} is the most"):
        requests_of([numbered(PATH, MOST_REQUESTS + 1)], limit=10**9)
    with pytest.raises(QueryError, match="400000000 requests"):
        requests_of([And((numbered(PATH, 20_000), numbered(QUERY, 20_000)))])


def test_equal_readings_count_once():
    many = numbered(PATH, 4)
    assert len(requests_of([many, And((many, OTHER)), many], limit=4)) == 4


def test_alternatives_that_multiply_are_refused_before_they_do():
    pairs = [Or(tuple(And((eq(PATH, f"/{n}"), eq(QUERY, f"{m}{n}"))) for n in range(2000))) for m in range(3)]
    with pytest.raises(QueryError, match="4000000 requests"):
        requests_of([And(tuple(pairs))])


VALUES = {PATH: ("/a", "/b", "/c"), QUERY: ("q", "p", "r")}
ATOMS = st.one_of(
    st.builds(eq, st.just(PATH), st.sampled_from(VALUES[PATH])),
    st.builds(eq, st.just(QUERY), st.sampled_from(VALUES[QUERY])),
    st.builds(among, st.just(PATH), st.sampled_from(VALUES[PATH]), st.sampled_from(VALUES[PATH])),
    st.builds(among, st.just(QUERY), st.sampled_from(VALUES[QUERY]), st.sampled_from(VALUES[QUERY])),
    st.just(OTHER),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.builds(
        lambda kind, terms: kind(tuple(terms)), st.sampled_from([And, Or]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def met(predicate: object, row: dict[str, str], other: bool) -> bool:
    match predicate:
        case Compare("response_status"):
            return other
        case Compare(column, _, value):
            return row[column] == value.value
        case In(column, values):
            return row[column] in [value.value for value in values]
        case And(terms):
            return all(met(term, row, other) for term in terms)
        case Or(terms):
            return any(met(term, row, other) for term in terms)
    raise AssertionError(predicate)


@given(CONDITIONS)
def test_the_requests_are_those_that_rows_of_the_answer_can_come_from(condition):
    try:
        found = requests_of([condition])
    except QueryError:
        return
    every = [{PATH: path, QUERY: query} for path in VALUES[PATH] for query in VALUES[QUERY]]
    possible = [row for row in every if met(condition, row, True)]
    if found is None:
        assert possible == every
        return
    named = {(request.path, request.query) for request in found}
    says_path, says_query = any(path for path, _ in named), any(query for _, query in named)
    assert named == {(says_path * row[PATH], says_query * row[QUERY]) for row in possible}


# --- what may be asked -----------------------------------------------------------------------------------------------

OPEN = RequestPolicy(
    (parse_glob("/**"),), queries=True, bodies=True, headers=frozenset({"x-page", "x-region"}), max_requests=None
)
NARROW = RequestPolicy((parse_glob("/shows/*"), parse_glob("/[!s]*/x")))

ALLOWED = [
    (OPEN, Request()),
    (NARROW, Request()),
    (NARROW, Request("/shows/1")),
    (NARROW, Request("/shows/a%20b")),
    (NARROW, Request("/shows/größe")),
    (NARROW, Request("/shows/...")),
    (NARROW, Request("/shows/..a")),
    (NARROW, Request("/shows/1;v=2")),
    (OPEN, Request("/a/", "q=1&p=%")),
    (OPEN, Request("/a", "?q=a b#c/../d")),
    (OPEN, Request("/a", body="\n\x00ü")),
    (OPEN, Request("/a", headers='{"X-Page": "2", "x-region": "eu; q=\\"1\\""}')),
    (OPEN, Request("/a", headers="{}")),
    (RequestPolicy(queries=True, max_query=3), Request(query="q=1")),
    (RequestPolicy(bodies=True, max_body=2), Request(body="ü")),
]


@pytest.mark.parametrize(("policy", "request_"), ALLOWED, ids=range(len(ALLOWED)))
def test_what_is_allowed(policy, request_):
    policy.check(request_)


PATHS_OUT = [
    "a",
    "//host/x",
    "https://evil.example/x",
    "/..",
    "/a/..",
    "/a/../b",
    "/a/./b",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a/.%2e",
    "/a/%252e%252e/b",
    "/a/%25252e%25252e/b",
    "/a/%252525252525252e",
    "/%" + "25" * 1000 + "41",
    "/a/%2fb",
    "/a%2Fb",
    "/a%252fb",
    "/a\\b",
    "/a/..\\b",
    "/a/%5c..%5cb",
    "/a/..;/b",
    "/a/..;x=1/b",
    "/a/%2e%2e%3b/b",
    "/a//b",
    "/a?b=1",
    "/a#b",
    "/a%3",
    "/a%zz",
    "/a\nb",
    "/a%0ab",
    "/a%0d%0aHost:evil",
    "/a%00",
    "/\x80a",
    "/a/%c0%ae%c0%ae/b",
    "/a/%ff",
    "/a/\uff0e\uff0e/b",
    "/a/\u2025/b",
    "/a\uff0fb",
    "/a\ud800",
    "/" + "a" * 2048,
]


@pytest.mark.parametrize("path", PATHS_OUT, ids=ascii)
def test_a_path_that_could_leave_the_base_is_refused(path):
    with pytest.raises(QueryError, match=PATH) as caught:
        OPEN.check(Request(path))
    assert caught.value.failure is QueryFailure.INVALID


def headers(**values: object) -> Request:
    return Request(headers=json.dumps({name.replace("_", "-"): value for name, value in values.items()}))


REFUSED = [
    (RequestPolicy(), Request("/a"), "allowed_request_paths"),
    (RequestPolicy(), Request(query="q"), "request_query_filters: enabled"),
    (RequestPolicy(), Request(body=""), "request_body_filters: enabled"),
    (RequestPolicy(), Request(headers="{}"), "request_header_filters: enabled"),
    (NARROW, Request("/shows/1/2"), "none of the allowed_request_paths"),
    (NARROW, Request("/%73x/x"), "none of the allowed"),  # as it is written it is [!s]*, as it is read it is not
    (NARROW, Request("/show%73/1"), "none of the allowed"),
    (OPEN, Request(query="q" * 1025), "1025.*1024, as max_request_query_length"),
    (OPEN, Request(query="a\nb"), "control character"),
    (OPEN, Request(query="a\x7f"), "control character"),
    (OPEN, Request(query="\ud800"), QUERY),
    (OPEN, Request(body="ü" * 8193), "16386.*16384, as max_request_body_bytes"),
    (OPEN, Request(body="\ud800"), "not text"),
    (OPEN, Request(headers=json.dumps({"x-page": "a" * 20000})), "max_request_headers_length"),
    (OPEN, Request(headers="x-page: 1"), "JSON object"),
    (OPEN, Request(headers='["x-page"]'), "JSON object"),
    (OPEN, Request(headers='"x"'), "JSON object"),
    (OPEN, Request(headers="[" * 5000), "JSON object"),
    (OPEN, headers(authorization="x"), "request_header_allowlist"),
    (OPEN, headers(host="x"), "request_header_allowlist"),
    (OPEN, headers(x_page=2), "text of printable"),
    (OPEN, headers(x_page=None), "text of printable"),
    (OPEN, headers(x_page="a\r\nhost: b"), "printable ASCII"),
    (OPEN, headers(x_page="ü"), "printable ASCII"),
    (OPEN, Request(headers='{"x-page":"1","X-Page":"2"}'), "twice"),
    (OPEN, Request(headers='{"x-page":"1","x-page":"1"}'), "twice"),
]


@pytest.mark.parametrize(("policy", "request_", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(policy, request_, why):
    with pytest.raises(QueryError, match=why) as caught:
        policy.check(request_)
    assert caught.value.failure is QueryFailure.INVALID


def test_headers_are_read_as_they_are_sent():
    assert OPEN.read_headers('{"X-Page": "2", "x-region": "eu"}') == (("x-page", "2"), ("x-region", "eu"))


ODD = "/ // . .. %2e %252e %2f %5c \\ ; @ : ? # % a b.c é * http://evil.example evil.example \uff0e %c0%ae [ ] %0a &="
PIECES = st.sampled_from([*ODD.split(), " ", "\t"])
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=12)
BASES = [
    "https://api.example.com",
    "https://api.example.com/v1",
    "http://api.example.com:8080/v1/",
    "http://[::1]/a%20b",
]


def as_read(path: str) -> str:
    while (decoded := unquote(path)) != path:
        path = decoded
    return path


@fuzz(150)
@given(base=st.sampled_from(BASES), path=TEXTS.map(lambda text: "/" + text), query=TEXTS)
def test_no_request_that_is_accepted_leaves_the_base(base, path, query):
    request = Request(path, query)
    try:
        OPEN.check(request)
    except QueryError:
        return
    url = parse_address(base).below(path, query)
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    root, sent = urlsplit(base), urlsplit(url)
    assert (sent.scheme, sent.netloc) == (root.scheme, root.netloc)
    assert sent.path.startswith(root.path.rstrip("/") + "/")
    assert not sent.fragment
    below = as_read(sent.path.removeprefix(root.path.rstrip("/")))
    assert "\\" not in below
    assert not {"..", "."} & {segment.partition(";")[0] for segment in below.split("/")}
    assert below == as_read(path)
    assert as_read(sent.query) == as_read(query.removeprefix("?"))
