"""Cache-Control as it is written, and as it should not be."""

import random
import string
from math import inf

import pytest

from caraway.core.freshness_control import FOREVER, cache_control, delta_seconds, parse_cache_control


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("", {}),
        (" , ,", {}),
        ("no-store", {"no-store": (None,)}),
        ("No-Store , MAX-AGE=5", {"no-store": (None,), "max-age": ("5",)}),
        ("max-age=5,max-age=6", {"max-age": ("5", "6")}),
        ('no-cache="a, b", x', {"no-cache": ("a, b",), "x": (None,)}),
        (r'x="a\"b", y', {"x": ('a"b',), "y": (None,)}),
        (r'x="a\\", y', {"x": ("a\\",), "y": (None,)}),
        ("max-age=", {"max-age": ("",)}),
        ("max-age=-1\t", {"max-age": ("-1",)}),
    ],
)
def test_what_can_be_read(text, directives):
    control = parse_cache_control(text)
    assert control.readable
    assert control.directives == directives


@pytest.mark.parametrize(
    "text",
    [
        'x="',
        'x="no-store',
        r'x="\"',
        '"no-store"',
        "=5",
        "max-age =5",
        "max-age= 5",
        "a b",
        "max-age=5; no-store",
        'x="a"b',
    ],
)
def test_what_can_not_be_read_may_have_forbidden_to_store(text):
    control = parse_cache_control(f"max-age=60, {text}")
    assert not control.readable
    assert control.no_store


@pytest.mark.parametrize("text", ["no-store", "NO-STORE=1", 'no-store="x"', "a, no-store", "no-store, no-store"])
def test_a_word_that_forbids_does_so_whatever_it_comes_with(text):
    assert parse_cache_control(text).no_store


def test_all_lines_count_as_one():
    control = cache_control((("cache-control", "max-age=5"), ("age", "7"), ("cache-control", "no-cache")))
    assert control.directives == {"max-age": ("5",), "no-cache": (None,)}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("007", 7.0),
        ("2147483648", FOREVER),
        ("9" * 5000, FOREVER),
        ("0" * 5000 + "5", 5.0),
        *((text, None) for text in ("", "-1", "+1", "1.0", "1e3", "\u0665", " 5", "5 ", "0x5", "five")),
    ],
)
def test_a_number_of_seconds(text, seconds):
    assert delta_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("max-age=5", 5.0),
        ("max-age", 0.0),
        ("max-age=x", 0.0),
        ("max-age=9, max-age=5", 5.0),
        ("max-age=9, max-age", 0.0),
    ],
)
def test_the_least_of_several_values_counts(text, seconds):
    assert parse_cache_control(text).seconds("max-age") == seconds


@pytest.mark.parametrize(
    ("text", "most"), [("", 0.0), ("max-stale", inf), ("max-stale=5", 5.0), ("max-stale, max-stale=5", 0.0)]
)
def test_how_stale_a_request_takes_it(text, most):
    assert parse_cache_control(text).max_stale == most


def test_it_is_read_in_time_that_grows_with_its_length():
    for piece in ('"', '\\"', 'a="', 'a="\\', ',"', "a="):
        parse_cache_control(piece * 20_000)


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_hides_a_no_store_that_stands_for_itself(seed):
    chance = random.Random(seed)
    for _ in range(200):
        noise = ["".join(chance.choices(string.printable, k=chance.randrange(8))).replace(",", "") for _ in range(3)]
        balanced = [part for part in noise if part.count('"') % 2 == 0 and "\\" not in part]
        parts = [*balanced, "no-store"]
        chance.shuffle(parts)
        assert parse_cache_control(",".join(parts)).no_store
