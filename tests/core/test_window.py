from datetime import UTC, datetime

import pytest

from caraway.core.predicate import And, Compare, IsNull, Literal, Or
from caraway.core.window import Grain, TimeAxis, append_bound, expired, watermark, window_bound

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
NOON = round(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()) * SECOND


def axis(column, grain=Grain.MOMENT, unit=1):
    return TimeAxis(column, grain, lambda moment: Literal(moment // unit, "int64"))


def bound(column, op, value):
    return Compare(column, op, Literal(value, "int64"))


@pytest.mark.parametrize(
    ("newest", "overlap", "mark"),
    [(None, 5, None), (NOON, 0, NOON), (NOON, 2.5, NOON - 2_500_000_000), (3 * SECOND, 5, 0), (-7, 5, -7)],
)
def test_watermark(newest, overlap, mark):
    assert watermark(newest, overlap) == mark


def test_an_append_asks_for_the_watermark_itself_too():
    assert append_bound((axis("t"),), NOON) == bound("t", ">=", NOON)
    assert append_bound((axis("t", unit=SECOND),), NOON + 999) == bound("t", ">=", NOON // SECOND)


def test_a_day_column_is_asked_from_the_start_of_the_day():
    assert append_bound((axis("d", Grain.DAY, DAY),), NOON) == bound("d", ">=", NOON // DAY)


def test_text_is_asked_from_far_enough_before():
    assert append_bound((axis("s", Grain.TEXT),), NOON) == bound("s", ">=", NOON - 36 * 3600 * SECOND)


def test_the_partition_column_gets_its_own_bound():
    axes = (axis("t"), axis("p", Grain.DAY))
    midnight = NOON // DAY * DAY
    assert append_bound(axes, NOON) == And((bound("t", ">=", NOON), bound("p", ">=", midnight)))


def test_the_data_window_is_strict_but_for_whole_days():
    assert window_bound((axis("t"),), NOON, 60) == bound("t", ">", NOON - 60 * SECOND)
    assert window_bound((axis("d", Grain.DAY),), NOON, 60) == bound("d", ">=", NOON // DAY * DAY)
    assert window_bound((axis("t"),), NOON, None) is None
    assert window_bound((), NOON, 60) is None


def test_retention_removes_by_age_or_condition():
    old, other = bound("t", "<", NOON - 60 * SECOND), IsNull("x")
    assert expired(axis("t"), NOON, 60, None) == old
    assert expired(axis("t"), NOON, 60, other) == Or((old, other))
    assert expired(axis("t"), NOON, None, other) == other
    assert expired(None, NOON, 60, other) == other
    assert expired(axis("t"), NOON, None, None) is None


@pytest.mark.parametrize("grain", [Grain.DAY, Grain.TEXT])
def test_a_coarse_column_keeps_what_may_be_younger(grain):
    predicate = expired(axis("t", grain), NOON, 0, None)
    assert predicate.op == "<"
    assert predicate.value.value <= NOON // DAY * DAY
