"""What patterns of paths match, and which of them are refused."""

import pytest

from caraway.core.globs import parse_glob

MATCHES = [
    ("/shows", "/shows", True),
    ("/shows", "/shows/", False),
    ("/shows", "/showsx", False),
    ("/shows", "/SHOWS", False),
    ("/shows", "/x/shows", False),
    ("/shows/*", "/x/shows/1", False),
    ("/shows/**", "/x/shows/1", False),
    ("/shows/*", "/shows/1", True),
    ("/shows/*", "/shows/breaking-bad", True),
    ("/shows/*", "/shows/1/episodes", False),
    ("/shows/*", "/shows/", False),
    ("/shows/*", "/shows", False),
    ("/shows/*/", "/shows/1/", True),
    ("/shows/*/episodes", "/shows/1/episodes", True),
    ("/shows/*/episodes", "/shows/1/2/episodes", False),
    ("/a*b", "/ab", True),
    ("/a*b", "/a-x-b", True),
    ("/a*b", "/a/b", False),
    ("/*", "/a", True),
    ("/*", "/", False),
    ("/", "/", True),
    ("/?", "/a", True),
    ("/?", "//", False),
    ("/v?", "/v12", False),
    ("/api/**", "/api/users", True),
    ("/api/**", "/api/v2/posts/123", True),
    ("/api/**", "/api/v2/", True),
    ("/api/**", "/api", False),
    ("/api/**", "/apix/a", False),
    ("/**", "/a/b/c", True),
    ("/**/c", "/c", True),
    ("/**/c", "/a/b/c", True),
    ("/**/c", "/a/b/d", False),
    ("/a/**/b/**/c", "/a/b/c", True),
    ("/a/**/b/**/c", "/a/x/b/y/z/c", True),
    ("/a/**/b/**/c", "/a/b/x/b/c", True),
    ("/a/**/b/**/c", "/a/x/c/b", False),
    ("/**/**/a", "/a", True),
    ("/api/v[0-9]/*", "/api/v1/users", True),
    ("/api/v[0-9]/*", "/api/v10/users", False),
    ("/api/v[1-3]", "/api/v4", False),
    ("/[!a]", "/b", True),
    ("/[!a]", "/a", False),
    ("/[^a]", "/b", True),
    ("/[^a]", "/^", True),
    ("/[!a]", "/", False),
    ("/[]x]", "/]", True),
    ("/a.b", "/axb", False),
    ("/a+b", "/aab", False),
    ("/größe/*", "/größe/ß", True),
    ("/a", "a", False),
]


@pytest.mark.parametrize(("pattern", "path", "wanted"), MATCHES)
def test_what_a_pattern_matches(pattern, path, wanted):
    assert parse_glob(pattern).matches(path) is wanted


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "start with '/'"),
        ("shows", "start with '/'"),
        ("/a/../b", "'..'"),
        ("/..", "'..'"),
        ("/a**", "stands alone"),
        ("/a/**b/c", "stands alone"),
        ("/a[b", "no ']'"),
        ("/[a/b]", "no ']'"),
        ("/{a,b}", "brace"),
        ("/a\\*", "backslash"),
        ("/" + "a" * 2048, "2049 characters"),
    ],
)
def test_what_is_no_pattern(pattern, why):
    with pytest.raises(ValueError, match=why):
        parse_glob(pattern)


def test_a_hostile_path_costs_no_time():
    glob = parse_glob("/**/a*a*a*a*a*b/**/c")
    assert not glob.matches("/" + "a" * 500 + "/a" * 500)
