"""A condition relative to now is bound to the same rows by every engine, whatever type tells the time."""

from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest

from caraway.core.predicate import NOW, TODAY, Compare, CompareOp, Literal, bind_now
from caraway.model import Append, DeleteWhere, TableSpec
from support.engines import NAMES, EngineUnderTest, table_of

HOUR = 3600 * 10**9
MIDNIGHT = 20_000 * 24 * HOUR
NOON = MIDNIGHT + 12 * HOUR
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
ZONES = (None, "UTC", "Europe/Berlin", "+05:30")
MOMENTS = [NOON - 24 * HOUR, MIDNIGHT, NOON - 10**9, NOON, NOON + 10**9, NOON + 24 * HOUR]
FAR = {"s": 253_402_300_799, "ms": 253_402_300_799_000, "us": 253_402_300_799_000_000, "ns": 2**63 - 1}
"""9999-12-31, or the last moment that there is: what stands for never."""


def table() -> pa.RecordBatch:
    """A row a moment, one at the end of time and one without a time, as every type that tells time."""
    columns = {"row": pa.array(range(len(MOMENTS) + 2), pa.int64())}
    for (unit, size), zone in product(UNITS.items(), ZONES):
        values = [moment // size for moment in MOMENTS]
        columns[f"{unit} {zone}"] = pa.array([*values, FAR[unit], None], pa.int64()).cast(pa.timestamp(unit, zone))
    columns["date32"] = pa.array([19_999, 20_000, 20_000, 20_000, 20_000, 20_001, 2_932_896, None], pa.date32())
    columns["date64"] = columns["date32"].cast(pa.date64())
    return pa.record_batch(columns)


ROWS = table()
CASES: list[tuple[CompareOp, Literal, set[int], set[int]]] = [
    # operator, literal: rows by a timestamp, rows by a date (which is the midnight that it begins with)
    ("<", Literal(0, NOW), {0, 1, 2}, {0, 1, 2, 3, 4}),
    (">=", Literal(0, NOW), {3, 4, 5, 6}, {5, 6}),
    (">", Literal(-24 * HOUR, NOW), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}),
    ("<=", Literal(10**9, NOW), {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}),
    ("=", Literal(0, NOW), {3}, set()),
    (">", Literal(10**6, NOW), {4, 5, 6}, {5, 6}),
    ("<", Literal(0, TODAY), {0}, {0}),
    (">=", Literal(0, TODAY), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}),
    ("=", Literal(0, TODAY), {1}, {1, 2, 3, 4}),
    ("<", Literal(24 * HOUR, TODAY), {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}),
]
ALL = set(range(len(MOMENTS) + 2))


def names_for(literal: Literal) -> list[str]:
    """The columns that it has one meaning for: whether a day begins at UTC's midnight or at the zone's is left open."""
    zoned = ("Europe/Berlin", "+05:30") if literal.type == TODAY else ()
    return [name for name in ROWS.schema.names[1:] if not name.endswith(zoned)]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> EngineUnderTest:
    return EngineUnderTest(request.param, tmp_path / "t")


@pytest.mark.parametrize(("op", "literal", "by_moment", "by_date"), CASES)
async def test_a_scan_gives_the_rows(
    engine: EngineUnderTest, op: CompareOp, literal: Literal, by_moment: set[int], by_date: set[int]
) -> None:
    async with engine.open(TableSpec("t", ROWS.schema)) as store:
        await store.commit([Append(ROWS)], None)
        for name in names_for(literal):
            predicate = bind_now(Compare(name, op, literal), NOON)
            found = await table_of(store, columns=("row",), predicate=predicate)
            expected = by_date if name.startswith("date") else by_moment
            assert set(found.column("row").to_pylist()) == expected, name


@pytest.mark.parametrize("name", ROWS.schema.names[1:])
async def test_a_removal_takes_the_rows_and_leaves_the_others(engine: EngineUnderTest, name: str) -> None:
    async with engine.open(TableSpec("t", ROWS.schema)) as store:
        await store.commit([Append(ROWS)], None)
        await store.commit([DeleteWhere(bind_now(Compare(name, "<", Literal(-HOUR, NOW)), NOON))], None)
        left = set((await table_of(store, columns=("row",))).column("row").to_pylist())
        assert left == ALL - ({0, 1, 2, 3, 4} if name.startswith("date") else {0, 1})
