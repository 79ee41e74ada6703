"""Steps in place or in a thread."""

import pytest

from caraway.query.worker.pace import LONGEST, QUICK, SHAPES, Pace


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from t where id = 17", True),
        ("select * from t where id = 42", True),
        ("select * from t where id = 142", False),  # the number of digits may be the number of rows
        ("select * from u where id = 17", False),
    ],
)
def test_a_shape_that_was_quick_is_trusted(sql, expected):
    pace = Pace()
    pace.took("plan", "select * from t where id = 17", QUICK / 2)
    assert pace.is_quick("plan", sql) is expected
    assert not pace.is_quick("start", sql)


def test_a_slow_one_loses_the_trust():
    pace = Pace()
    pace.took("plan", "select 1", QUICK / 2)
    pace.took("plan", "select 1", QUICK * 2)
    assert not pace.is_quick("plan", "select 1")


def test_only_so_many_shapes_are_kept_the_last_used_ones():
    pace = Pace()
    pace.took("plan", "select a", 0)
    for number in range(SHAPES):
        assert pace.is_quick("plan", "select a")
        pace.took("plan", f"select {'b' * number}", 0)
    assert pace.is_quick("plan", "select a")
    assert not pace.is_quick("plan", "select ")


def test_long_texts_are_not_kept():
    pace = Pace()
    pace.took("plan", "x" * (LONGEST + 1), 0)
    assert not pace.is_quick("plan", "x" * (LONGEST + 1))
