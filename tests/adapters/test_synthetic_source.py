"""The generator: the same rows whenever and however they are asked for, growing with a clock that is passed in."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import Acceleration, Dataset, FromUri, RefreshMode
from caraway.config.params import ConnectorParams
from caraway.connectors.synthetic import DEFAULT_ROWS, Growth, SyntheticSource, open_synthetic_source, row_range
from caraway.connectors.synthetic_rows import TABLES, Rows
from caraway.core.predicate import And, Compare, Literal
from caraway.errors import ConfigError
from caraway.kernels import filter_batch
from caraway.model import ReadRequest
from caraway.secrets import Secrets
from support.fuzz import fuzz

START = datetime(2025, 6, 1, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


async def opened(
    clock: Clock, *, path: str = "orders", mode: RefreshMode | None = None, **params: str
) -> SyntheticSource:
    acceleration = Acceleration(refresh_mode=mode) if mode else None
    dataset = Dataset("t", FromUri("synthetic", path, f"synthetic:{path}"), acceleration=acceleration)
    return await open_synthetic_source(dataset, ConnectorParams(params, Secrets({}), "t"), now=clock)


async def rows_of(source: SyntheticSource, **request: object) -> pa.Table:
    async with source.read(ReadRequest(**request)) as rows:
        return pa.Table.from_batches([batch async for batch in rows], await source.schema())


def rows(table: str, first: int, end: int, *, rate: float = 1.0, seed: int = 7) -> pa.RecordBatch:
    start = int(START.timestamp() * 1e6)
    return TABLES[table].rows(Rows(first, end, seed, start, 1e6 / rate), TABLES[table].schema.names)


async def test_no_parameter_is_needed():
    table = await rows_of(await opened(Clock()))
    assert table.num_rows == DEFAULT_ROWS
    assert table.schema.names == ["id", "time", "region", "amount", "note"]


@pytest.mark.parametrize("table", TABLES)
@given(first=st.integers(0, 10**9), length=st.integers(1, 50), skip=st.integers(0, 49))
@fuzz(30)
def test_a_row_is_the_same_in_any_range(table, first, length, skip):
    skip = min(skip, length - 1)
    whole = rows(table, first, first + length)
    assert rows(table, first + skip, first + length).equals(whole.slice(skip))


@pytest.mark.parametrize("table", TABLES)
def test_rows_fit_their_schema_and_look_random(table):
    batch = rows(table, 0, 20_000)
    assert batch.schema.equals(TABLES[table].schema)
    batch.validate(full=True)
    for name in batch.schema.names[2:]:
        counts = pc.value_counts(batch.column(name)).field("counts")
        assert len(counts) > 2
        assert pc.max(counts).as_py() < 0.75 * batch.num_rows
    assert not rows(table, 0, 100, seed=8).equals(rows(table, 0, 100))


def test_values_are_spread_evenly():
    counts = pc.value_counts(rows("orders", 0, 100_000).column("region")).field("counts").to_pylist()
    assert all(abs(count - 20_000) < 800 for count in counts)
    amount = rows("orders", 0, 100_000).column("amount")
    assert 495 < float(pc.mean(amount).as_py()) < 506


async def test_row_i_is_at_start_plus_i_over_rate():
    source = await opened(Clock(START + timedelta(seconds=2)), start=START.isoformat(), rate="4")
    table = await rows_of(source)
    assert table["id"].to_pylist() == list(range(9))
    assert table["time"].to_pylist() == [START + timedelta(seconds=i / 4) for i in range(9)]


async def test_it_grows_with_the_clock_and_says_so():
    clock = Clock(START)
    source = await opened(clock, mode=RefreshMode.APPEND, rows="100", rate="10")
    before, version = await rows_of(source), await source.version()
    assert before.num_rows == 100
    assert await source.version() == version
    clock.pass_(3)
    after = await rows_of(source)
    assert await source.version() != version
    assert after.num_rows == 130
    assert after.slice(0, 100).equals(before)
    assert pc.max(after["time"]).as_py() <= clock.now


async def test_append_grows_by_itself_and_other_modes_stand_still():
    for mode, grows in ((RefreshMode.APPEND, True), (RefreshMode.FULL, False)):
        clock = Clock(START)
        source = await opened(clock, mode=mode, rows="100")
        clock.pass_(10)
        assert ((await rows_of(source)).num_rows > 100) is grows


async def test_a_watermark_loses_and_repeats_nothing_across_restarts():
    clock = Clock(START)
    seen: list[int] = []
    watermark = 0
    for _ in range(5):
        source = await opened(clock, mode=RefreshMode.APPEND, rows="1000", rate="7")
        newer = Compare("time", ">", Literal(watermark, "timestamp[us, tz=UTC]"))
        table = await rows_of(source, predicate=newer)
        seen += table["id"].to_pylist()
        watermark = pc.max(table["time"].cast(pa.int64())).as_py()
        clock.pass_(3.3)
    assert seen == list(range(seen[0], seen[0] + len(seen)))


OPS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@given(
    rate=st.sampled_from([0.1, 1.0, 3.0, 7.0, 999.0, 100_000.0]),
    terms=st.lists(st.tuples(OPS, st.booleans(), st.integers(-5, 1005), st.integers(-2, 2)), min_size=1, max_size=3),
)
@fuzz(300)
def test_pruning_loses_no_row(rate, terms):
    growth = Growth(1000, rate, 7, START)
    whole = rows("orders", 0, 1000, rate=rate)
    conditions = []
    for op, by_time, number, off in terms:
        at = round(growth.origin + number * growth.period) + off
        literal = Literal(at, "timestamp[us, tz=UTC]") if by_time else Literal(number, "int64")
        conditions.append(Compare("time" if by_time else "id", op, literal))
    low, high = row_range(And(tuple(conditions)), growth)
    wanted = filter_batch(whole, And(tuple(conditions)))
    inside = filter_batch(whole.slice(min(low, 1000), max(0, min(high, 1000) - low)), And(tuple(conditions)))
    assert inside.equals(wanted)


def test_pruning_prunes():
    growth = Growth(None, 10.0, 7, START)
    later = Literal(int((START + timedelta(days=100)).timestamp() * 1e6), "timestamp[us, tz=UTC]")
    low, _ = row_range(Compare("time", ">", later), growth)
    assert 0 <= 100 * 86_400 * 10 - low <= 3


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("nope", {}, "no synthetic table 'nope'; there are orders, sensors"),
        ("orders", {"rows": "-1"}, "params.rows"),
        ("orders", {"rows": "many"}, "params.rows"),
        ("orders", {"rate": "fast"}, "params.rate.*'fast'"),
        ("orders", {"rate": "nan"}, "params.rate"),
        ("orders", {"rate": "1e9"}, "params.rate"),
        ("orders", {"start": "yesterday"}, "params.start.*'yesterday'"),
    ],
)
async def test_wrong_parameters(path, params, words):
    with pytest.raises(ConfigError, match=words):
        await opened(Clock(), path=path, **params)
