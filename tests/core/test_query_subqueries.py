"""`request_column IN (SELECT ..)` in SQL text: found wherever it stands, alone with what it needs, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import QueryError
from caraway.query.worker.subqueries import MOST_VALUES, find_subquery
from caraway.query.worker.words import words

COLUMNS = ("request_path", "Odd Name")


def found(sql, skipped=()):
    subquery = find_subquery(sql, COLUMNS, skipped)
    return None if subquery is None else (subquery.column, sql[subquery.start : subquery.end])


@pytest.mark.parametrize(
    ("sql", "inner"),
    [
        ("select * from api where request_path in (select p from ids)", "select p from ids"),
        ("SELECT * FROM api x WHERE x.Request_Path IN( SELECT p FROM ids ) AND n = 1", "SELECT p FROM ids"),
        ("select 1 from x where x.\"request_path\" in (select ')' from ids)", "select ')' from ids"),
        ('select * from api where "Odd Name" in (select p from ids)', "select p from ids"),
        ("select * from api where request_path /* in (select */ in -- (\n (select p from ids)", "select p from ids"),
        ("select * from api where not request_path in (select p from ids)", "select p from ids"),
        ("select * from api where request_path in (with x as (select 1) select 2)", "with x as (select 1) select 2"),
        (
            "select * from api where request_path in (select p from b where request_path in (select q from c))",
            "select q from c",
        ),
        (
            "select * from (select * from api where request_path in (select p from ids)) where 'select' = 'x'",
            "select p from ids",
        ),
        ("select * from api where request_path in ('/a', '/b') and a in (select 1)", None),
        ("select * from api where request_path in ('select', 'select')", None),
        ("select * from api where request_path not in (select p from ids)", None),
        ("select * from api where lower(request_path) in (select p from ids)", None),
        ("select * from api where path in (select p from ids)", None),
        ('select * from api where "REQUEST_PATH" in (select p from ids)', None),
        ('select * from api where "odd name" in (select p from ids)', None),
        ("select 'request_path in (select p from ids)' from (select 1)", None),
        ("select * from api where request_path in (select p from ids", None),
        ("select * from api where 'x' || request_path in (select p from ids)", None),
        ("select * from api where 'x'||request_path in (select p from ids)", None),
        ("select * from api where a=request_path in (select p from ids)", None),
        ("select /* /* */ */ * from api where request_path in (select p from ids)", None),
        ("", None),
        (") in (select select", None),
    ],
)  # fmt: skip
def test_subqueries_are_found_innermost_first(sql, inner):
    result = found(sql)
    assert (result and result[1]) == inner


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from api where request_path in (select p from ids)", "{select p from ids}"),
        (
            "with ids as (select p from t) select * from api where request_path in (select p from ids)",
            "WITH ids as (select p from t) SELECT * FROM ({select p from ids})",
        ),
        (
            (
                "with a as (select 1), ids as (select * from a), c as (select 2)"
                " select * from api where request_path in (select p from ids)"
            ),
            "WITH a as (select 1), ids as (select * from a) SELECT * FROM ({select p from ids})",
        ),
        (
            (
                "with ids (p) as not materialized (select 1), other as (select 2)"
                " select * from api where request_path in (select p from ids)"
            ),
            "WITH ids (p) as not materialized (select 1) SELECT * FROM ({select p from ids})",
        ),
        (
            "explain with ids as (select 1) select * from api where request_path in (select p from Ids)",
            "WITH ids as (select 1) SELECT * FROM ({select p from Ids})",
        ),
        (
            (
                "with ids as (select 1), x as (select 3 where request_path in (select p from ids)), y as (table c)"
                " select * from x"
            ),
            "WITH ids as (select 1) SELECT * FROM ({select p from ids})",
        ),
        (
            "with x as (select * from api where request_path in (select p from y)), y as (select 2) select * from x",
            "{select p from y}",
        ),
        (
            (
                "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3)"
                " select * from api where request_path in (select n from r)"
            ),
            (
                "WITH RECURSIVE r(n) as (select 1 union all select n + 1 from r where n < 3)"
                " SELECT * FROM ({select n from r})"
            ),
        ),
        (
            (
                "with a as (select 1) select * from (with b as (select * from a)"
                " select * from api where request_path in (select p from b))"
            ),
            "WITH a as (select 1) SELECT * FROM (WITH b as (select * from a) SELECT * FROM ({select p from b}))",
        ),
        (
            'with "Ids" as (select 1), ids as (select 2) select * from api where request_path in (select p from "Ids")',
            'WITH "Ids" as (select 1) SELECT * FROM ({select p from "Ids"})',
        ),
    ],
)
def test_a_subquery_takes_along_what_it_names(sql, expected):
    inner = found(sql)[1]
    alone = f"SELECT DISTINCT * FROM ({inner}\n) LIMIT {MOST_VALUES + 2}"
    assert find_subquery(sql, COLUMNS, ()).sql == expected.replace(f"{{{inner}}}", alone)


def test_values_stand_where_the_subquery_stood():
    sql = "select * from api where (request_path in ( select p from ids )) or n in (select 1)"
    subquery = find_subquery(sql, COLUMNS, ())
    assert subquery.replaced(sql, ["'/a'", "NULL"]) == (
        "select * from api where (request_path in ( '/a', NULL )) or n in (select 1)"
    )
    assert subquery.replaced(sql, []) == "select * from api where (FALSE) or n in (select 1)"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a = 1 and api.request_path in (select 1)", "a = 1 and FALSE"),
        ('not api."request_path" in(select 1)or b', "not FALSEor b"),
        ('("api"."request_path"  in (select 1))', "(FALSE)"),
        ("x(request_path in (select 1))", "x(FALSE)"),
        ("f(a,request_path in (select 1))", "f(a,FALSE)"),
        ("a<1 and a.b.request_path in (select 1)", "a<1 and FALSE"),
    ],
)
def test_no_values_make_a_condition_false(condition, expected):
    sql = f"select * from api where {condition}"
    assert find_subquery(sql, COLUMNS, ()).replaced(sql, []) == f"select * from api where {expected}"


def test_there_may_be_so_many_values_and_no_more():
    sql = "select * from api where request_path in (select p from ids)"
    subquery = find_subquery(sql, COLUMNS, ())
    assert subquery.replaced(sql, ["NULL", *["1"] * MOST_VALUES])
    with pytest.raises(QueryError, match=r"request_path IN .* more than 20000 values"):
        subquery.replaced(sql, ["1"] * (MOST_VALUES + 1))


def test_one_that_is_skipped_makes_way_for_others():
    sql = "select * from api where request_path in (select p from a) and request_path in (select p from b)"
    first = find_subquery(sql, COLUMNS, ())
    second = find_subquery(sql, COLUMNS, {first.sql})
    assert [sql[each.start : each.end] for each in (first, second)] == ["select p from a", "select p from b"]
    assert find_subquery(sql, COLUMNS, {first.sql, second.sql}) is None


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ("select A.b, 1.5e3 from T;", ["select", "a.b", ",", "1.5e3", "from", "t"]),
        ("a<>-1--x\n||'y--'", ["a", "<>-", "1", "||", "'y--'"]),
        ("E'a\\' b' 'it''s' x'0F' \"Q\"\"q\" `b c`", ["E'a\\' b'", "'it''s'", "x'0F'", '"Q""q"', "`b c`"]),
        ("$1 $name $$a 'b$$ $t$ $$ $t$", ["$1", "$name", "$$a 'b$$", "$t$ $$ $t$"]),
        ("a/* ' */b 'c", ["a", "b", "'", "c"]),
    ],
)
def test_words(sql, texts):
    assert [word.text for word in words(sql)] == texts
    assert all(sql[word.start : word.end].lower() == word.text.lower() for word in words(sql))


def test_nested_comments_are_not_read():
    assert words("/* /* */ */ select 1") is None


PIECES = st.sampled_from(
    [
        *("select", "with", "recursive", "as", "in", "not", "materialized", "from", "where", "explain", "request_path"),
        *(
            "(",
            ")",
            ",",
            ".",
            "a",
            "x.",
            '"request_path"',
            "'it''s'",
            "'",
            '"',
            "$1",
            "$$",
            "`",
            "e'\\'",
            "--",
            "/*",
            "*/",
        ),
        *("\n", " ", ";", "=", "-", "1.5"),
    ]
)
GAPS = st.sampled_from([" ", "\n", "\t ", " -- it's\n", "/* ' \" */", " ; "])


@given(st.lists(PIECES, max_size=40), st.booleans())
def test_any_text_is_cut_at_words_or_not_at_all(pieces, spaced):
    sql = (" " if spaced else "").join(pieces)
    if (found := words(sql)) is not None:
        places = [0, *(place for word in found for place in (word.start, word.end)), len(sql)]
        assert places == sorted(places)
    if subquery := find_subquery(sql, COLUMNS, ()):
        assert subquery.outer < subquery.start < subquery.end < subquery.outer_end <= len(sql)
        assert len(subquery.replaced(sql, ["'/a'"])) == len(sql) - (subquery.end - subquery.start) + 4


@given(st.lists(GAPS, min_size=13, max_size=13))
def test_words_are_the_same_however_they_are_set(gaps):
    parts = ["select", "a.b", ",", "'x  y'", "from", "t", "where", '"Q q"', "=", "$1", "and", "request_path", ">="]
    sql = "".join(part for pair in zip(parts, gaps, strict=True) for part in pair)
    assert [word.text for word in words(sql)] == parts
