"""Which page comes next, and which answers can't be paged through."""

import pytest

from caraway.core.json_pointer import MISSING, parse_pointer, resolve, spell
from caraway.core.links import next_link
from caraway.core.pagination import (
    NO_PAGING,
    WINDOW,
    Pager,
    Paging,
    PagingError,
    check_template,
    with_query,
)

BASE = "https://api.example.com/v1/items"

LINKS = [
    (None, None),
    ("", None),
    ('<https://h/2>; rel="next"', "https://h/2"),
    ("<https://h/2>; rel=next", "https://h/2"),
    ("<?page=2>;rel=next", "?page=2"),
    ("< /2 > ; rel = next", "/2"),
    ('<https://h/2>; REL="Next"', "https://h/2"),
    ('<https://h/1>; rel="prev", <https://h/3>; rel="next"', "https://h/3"),
    ('<https://h/3>; rel="last next"', "https://h/3"),
    ('<https://h/3>; rel="nextish"', None),
    ('<https://h/3>; rel="prev"; rel="next"', None),
    ('<https://h/2>; title="a, <b>; rel=next"; rel="prev"', None),
    ('<https://h/1>; title="a \\" , <x>; rel=next"; rel="prev", <https://h/2>; rel="next"', "https://h/2"),
    ("<https://h/2?a=1,2;b=3>; rel=next", "https://h/2?a=1,2;b=3"),
    ('<https://h/2>; rel="next"; anchor="/other"', None),
    ("<https://h/2>; crossorigin; rel=next", "https://h/2"),
    ("<https://h/2>; rel*=UTF-8''next", None),
    ("<https://h/2>;; rel=next", "https://h/2"),
    (",, <https://h/2>; rel=next", "https://h/2"),
    ("https://h/2; rel=next", None),
    ("<https://h/2; rel=next", None),
    ("<>; rel=next", ""),
]


@pytest.mark.parametrize(("header", "wanted"), LINKS, ids=range(len(LINKS)))
def test_which_link_is_the_next(header, wanted):
    assert next_link(header) == wanted


POINTERS = [
    ("/a", {"a": 1}, 1),
    ("/a/b", {"a": {"b": None}}, None),
    ("/a/1", {"a": [1, 2]}, 2),
    ("/", {"": 5}, 5),
    ("/a~1b/c~0d", {"a/b": {"c~d": 7}}, 7),
    ("/~01", {"~1": 8}, 8),
    ("/b", {"a": 1}, MISSING),
    ("/a/2", {"a": [1, 2]}, MISSING),
    ("/a/-1", {"a": [1, 2]}, MISSING),
    ("/a/-", {"a": [1, 2]}, MISSING),
    ("/a/²", {"a": [1, 2, 3]}, MISSING),
    ("/a/b", {"a": "b"}, MISSING),
    ("/a", [1], MISSING),
    ("/a", MISSING, MISSING),
]


@pytest.mark.parametrize(("pointer", "document", "wanted"), POINTERS)
def test_what_a_pointer_finds(pointer, document, wanted):
    steps = parse_pointer(pointer)
    assert resolve(document, steps) == wanted
    assert spell(steps) == pointer


@pytest.mark.parametrize("text", ["", "a", "#/a", "/a~", "/a~2", "/a/b~"])
def test_what_is_no_pointer(text):
    with pytest.raises(ValueError, match="JSON pointer"):
        parse_pointer(text)


def turned(pager: Pager, *, links: str | None = None, document: object = MISSING, rows: int = 1) -> str | None:
    pager.turn(links=links, document=document, rows=rows)
    return pager.url


def link(target: str) -> str:
    return f'<{target}>; rel="next"'


def test_without_a_next_one_a_page_is_the_last():
    assert turned(Pager(Paging(), BASE)) is None
    assert turned(Pager(NO_PAGING, BASE), links=link("/2")) is None


def test_a_link_is_followed_from_the_page_that_holds_it():
    pager = Pager(Paging(), BASE + "?q=1")
    assert pager.url == BASE + "?q=1"
    assert turned(pager, links=link("items?page=2#top")) == BASE + "?page=2"
    assert turned(pager, links=link("?page=3")) == BASE + "?page=3"
    assert turned(pager, links=link("/v2/x")) == "https://api.example.com/v2/x"
    assert turned(pager) is None
    assert pager.number == 5


BODY = Paging(next_pointer=("meta", "next"))
TOKEN = Paging(next_pointer=("next",), token_param="cursor")

TOLD = [
    (BODY, {"meta": {"next": "?p=2"}}, None, BASE + "?p=2"),
    (BODY, {"meta": {"next": "https://api.example.com/x"}}, None, "https://api.example.com/x"),
    (BODY, {"meta": {"next": "https://API.example.com:443/x"}}, None, "https://API.example.com:443/x"),
    (BODY, {"meta": {"next": "?p=2"}}, link("?p=3"), BASE + "?p=2"),
    (BODY, {"meta": {"next": None}}, link("?p=3"), BASE + "?p=3"),
    (BODY, {"meta": {"next": None}}, None, None),
    (BODY, {"meta": {"next": ""}}, None, None),
    (BODY, {"meta": {"next": False}}, None, None),
    (BODY, {"meta": {}}, None, None),
    (BODY, MISSING, None, None),
    (TOKEN, {"next": "a b&c=/+"}, None, BASE + "?cursor=a%20b%26c%3D%2F%2B"),
    (TOKEN, {"next": 17}, None, BASE + "?cursor=17"),
    (TOKEN, {"next": "https://evil.example/"}, None, BASE + "?cursor=https%3A%2F%2Fevil.example%2F"),
    (TOKEN, {"next": None}, None, None),
]


@pytest.mark.parametrize(("paging", "document", "links", "wanted"), TOLD, ids=range(len(TOLD)))
def test_what_the_body_tells(paging, document, links, wanted):
    assert turned(Pager(paging, BASE), links=links, document=document) == wanted


def test_a_token_replaces_the_one_before_it_and_nothing_else():
    pager = Pager(TOKEN, BASE + "?q=a+b%2F&cur%73or=0&flag")
    assert turned(pager, document={"next": "x"}) == BASE + "?q=a+b%2F&flag&cursor=x"
    assert turned(pager, document={"next": "y"}) == BASE + "?q=a+b%2F&flag&cursor=y"


def test_pages_are_counted_until_a_short_one():
    pager = Pager(Paging(query_params="offset={offset}&limit={limit}&page={page}", page_size=10), BASE + "?q=1&limit=3")
    assert pager.url == BASE + "?q=1&offset=0&limit=10&page=1"
    assert turned(pager, rows=10, links=link("/elsewhere")) == BASE + "?q=1&offset=10&limit=10&page=2"
    assert turned(pager, rows=12) == BASE + "?q=1&offset=20&limit=10&page=3"
    assert turned(pager, rows=9) is None


WRONG = [
    (Paging(), None, link("https://evil.example/2"), "elsewhere than at https://api.example.com"),
    (Paging(), None, link("http://api.example.com/2"), "elsewhere"),
    (Paging(), None, link("https://api.example.com:8443/2"), "elsewhere"),
    (Paging(), None, link("//evil.example/2"), "elsewhere"),
    (Paging(), None, link("/\\evil.example/2"), "elsewhere"),
    (Paging(), None, link("https://api.example.com@evil.example/"), "elsewhere"),
    (Paging(), None, link("https://user@api.example.com/"), "elsewhere"),
    (Paging(), None, link("https://api.example.com.evil.example/"), "elsewhere"),
    (Paging(), None, link("javascript:alert(1)"), "elsewhere"),
    (Paging(), None, link("https://[::1/"), "elsewhere"),
    (Paging(), None, link("https://api.example.com:99999/"), "elsewhere"),
    (Paging(), None, link("/a b"), "elsewhere"),
    (Paging(), None, link("//\u0430pi.example.com/"), "elsewhere"),
    (Paging(), None, link("/\ud800"), "elsewhere"),
    (Paging(), None, link(BASE), "leads from page 1 back"),
    (Paging(), None, link("#top"), "leads from page 1 back"),
    (Paging(max_pages=1), None, link("?p=2"), "more than 1 pages"),
    (BODY, {"meta": {"next": 2}}, None, "no next page at /meta/next, but int"),
    (BODY, {"meta": {"next": True}}, None, "but bool"),
    (TOKEN, {"next": {"a": 1}}, None, "but dict"),
    (TOKEN, {"next": "x" * 16_384}, None, "an address of 16424 characters"),
    (TOKEN, {"next": True}, None, "but bool"),
]


@pytest.mark.parametrize(("paging", "document", "links", "why"), WRONG, ids=range(len(WRONG)))
def test_what_can_not_be_followed(paging, document, links, why):
    with pytest.raises(PagingError, match=why):
        turned(Pager(paging, BASE), links=links, document=document)


def test_more_pages_than_allowed_are_an_error_and_not_the_end():
    pager = Pager(Paging(max_pages=3), BASE)
    assert turned(pager, links=link("?p=2"))
    assert turned(pager, links=link("?p=3"))
    with pytest.raises(PagingError, match="more than 3 pages"):
        turned(pager, links=link("?p=4"))
    exact = Pager(Paging(max_pages=2), BASE)
    assert turned(exact, links=link("?p=2"))
    assert turned(exact) is None


def test_a_circle_is_noticed_within_the_window():
    pager = Pager(Paging(max_pages=None), BASE)
    for page in range(2, WINDOW + 2):
        assert turned(pager, links=link(f"?p={page}"))
    assert turned(pager, links=link(BASE)) == BASE  # the first one is forgotten by now
    with pytest.raises(PagingError, match="back"):
        turned(pager, links=link("?p=500"))


def test_a_token_that_does_not_advance_is_noticed():
    pager = Pager(TOKEN, BASE)
    assert turned(pager, document={"next": "x"})
    with pytest.raises(PagingError, match="from page 2 back"):
        turned(pager, document={"next": "x"})


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("limit={limit}", "needs {offset} or {page}"),
        ("offset=0", "needs {offset} or {page}"),
        ("offset={ofset}", "no {ofset}"),
        ("{page}", "has to be a query"),
        ("page={page}&x", "has to be a query"),
    ],
)
def test_templates_that_do_not_advance(template, why):
    with pytest.raises(ValueError, match=why):
        check_template(template)


@pytest.mark.parametrize("template", ["page={page}", "offset={offset}&limit={limit}", "p[x]={page}&order=asc"])
def test_templates_that_do(template):
    check_template(template)


def test_a_query_takes_parameters():
    assert with_query("http://h/a", {"x": "ü"}) == "http://h/a?x=%C3%BC"
