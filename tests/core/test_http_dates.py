"""Dates of HTTP, there and back."""

import random

import pytest

from caraway.core.http_dates import http_date, parse_http_date

NOW = 1772366400.0  # 2026-03-01 12:00 UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun Nov 16 08:49:37 1994", 784975777),
        ("sun, 06 nov 1994 08:49:37 gmt", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
        ("Sun, 01 Mar 2026 12:00:00 GMT", NOW),
    ],
)
def test_the_three_forms(text, moment):
    assert parse_http_date(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 23:59:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov \u0661994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov   08:49:37 1994",
        "2026-03-01T12:00:00Z",
    ],
)
def test_what_only_resembles_one(text):
    assert parse_http_date(text, NOW) is None


@pytest.mark.parametrize(("year", "means"), [(26, 2026), (76, 2076), (77, 1977), (99, 1999), (0, 2000)])
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(year, means):
    assert parse_http_date(f"Sunday, 06-Nov-{year:02} 08:49:37 GMT", NOW) == parse_http_date(
        f"Sun, 06 Nov {means} 08:49:37 GMT", NOW
    )


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_is_read(seed):
    chance = random.Random(seed)
    for _ in range(200):
        moment = chance.uniform(0, 4e9)
        assert parse_http_date(http_date(moment), NOW) == moment // 1
