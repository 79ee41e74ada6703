"""Which server an address is of, what of it may be shown, and where answers may lead."""

import pytest

from caraway.core.http_urls import join, origin_of, place_of, redirection, server_of


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://A.test/x", "http://a.test:80"),
        ("https://a.test?x", "https://a.test:443"),
        ("https://u:p@a.test:8443/", "https://a.test:8443"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("http://[::1]/x", "http://[::1]:80"),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "/x", "ftp://h/", "http:///x", "http://h:x/", "http://h:70000/"])
def test_what_has_no_origin(url):
    with pytest.raises(ValueError, match=r"\w"):
        origin_of(url)


def test_a_place_shows_no_secret():
    assert place_of("https://u:p@h:1/a?token=x") == "https://h:1/a"
    assert place_of("https://h?token=x") == "https://h/"
    assert server_of("https://h:1/a/b") == "https://h:1"


@pytest.mark.parametrize(
    ("url", "target", "joined"),
    [
        ("http://[::1]:8080/a/b", "../c?d#e", "http://[::1]:8080/c?d"),
        ("http://h/a", "/é?q=%C3%A9&ü#ß", "http://h/%C3%A9?q=%C3%A9&%C3%BC"),
        ("http://h/a", "http://H:80/b", "http://H:80/b"),
        ("https://u:p@h/a?x", "?y", None),  # a user never travels with an answer
        ("http://h/a", "https://h/a", None),
        ("http://h/a", "http://h:81/a", None),
        ("http://h/a", "http://h./a", None),
        ("http://h/a", "http://u@h/a", None),
        ("http://h/a", "//evil/", None),
        ("http://h/a", "/\\evil", None),
        ("http://h/a", "/a b", None),
        ("http://h/a", "http://h:99999/", None),
        ("http://h/a", "mailto:a@h", None),
    ],
)
def test_answers_lead_to_their_own_origin_alone(url, target, joined):
    if joined is None:
        with pytest.raises(ValueError, match=r"\w"):
            join(url, target)
    else:
        assert join(url, target) == joined


@pytest.mark.parametrize(
    ("status", "headers", "leads"),
    [
        (301, (("location", "/b"), ("location", "/c")), "http://h/b"),
        (308, (("location", "b"),), "http://h/b"),
        (302, (), None),
        (304, (("location", "/b"),), None),
        (201, (("location", "/b"),), None),
    ],
)
def test_which_answers_redirect(status, headers, leads):
    assert redirection("http://h/a", status, headers) == leads
