"""Rows that come and go by key, as answers of an API do: what is found, what it takes, and that room stays bounded."""

import random
from contextlib import asynccontextmanager

import pyarrow as pa
import pytest

from caraway.accelerators.constraints import Keys
from caraway.accelerators.open import ENGINES, open_accelerator
from caraway.accelerators.places import Asked, Places, asked
from caraway.accelerators.read import read_snapshot
from caraway.accelerators.storage import StorageSpec
from caraway.accelerators.tally import Tally as SqliteState
from caraway.config.model import Engine, StorageMode
from caraway.core import compaction
from caraway.core.predicate import And, Compare, In, IsNull, Literal, Not
from caraway.model import Append, Delete, DeleteWhere, Index, TableSpec

ENTRY = "__caraway_entry"
SCHEMA = pa.schema([("path", pa.string()), ("content", pa.string()), pa.field(ENTRY, pa.string(), nullable=False)])
SPEC = TableSpec("c", SCHEMA, indexes=(Index((ENTRY,)),))
ENTRIES, ROWS, GROUP = 100, 10, 10
NAMES = [engine.value for engine in ENGINES]


def name(number: int) -> str:
    return f"{number:032x}"


def entries(numbers, chance: random.Random, *, rows: int = ROWS, text: int = 512) -> pa.RecordBatch:
    keys = [name(number) for number in numbers for _ in range(rows)]
    content = [chance.randbytes(text // 2).hex() for _ in keys]
    return pa.RecordBatch.from_arrays([[f"/{key}" for key in keys], content, keys], schema=SCHEMA)


def of(numbers) -> In:
    return In(ENTRY, tuple(Literal(name(number), "utf8") for number in numbers))


def space(directory) -> int:
    """Bytes of its files but for SQLite's log, which is as long as its checkpoints let it be."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if not path.name.endswith(("-wal", "-shm")))


@asynccontextmanager
async def opened(engine: str, directory, **params: str):
    kind = Engine(engine)
    mode = StorageMode.MEMORY if kind is Engine.ARROW else StorageMode.FILE
    storage = StorageSpec("c", directory, kind, mode, indexes=SPEC.indexes, params=params)
    store = await open_accelerator(storage, SCHEMA)
    assert store is not None
    try:
        yield store, store._storage.directory
    finally:
        await store.aclose()


async def held(store, predicate=None) -> pa.Table:
    with store.pin() as snapshot:
        async with store.scan(snapshot, None, predicate) as batches:
            return pa.Table.from_batches([batch async for batch in batches], SCHEMA)


@pytest.mark.parametrize("engine", NAMES)
async def test_room_stays_bounded_while_all_is_replaced_again_and_again(engine, tmp_path):
    chance = random.Random(3)
    params = {"parquet_tail_rows": "500"} if engine == "parquet" else {}
    async with opened(engine, tmp_path, **params) as (store, directory):
        for first in range(0, ENTRIES, GROUP):
            await store.commit([Append(entries(range(first, first + GROUP), chance))], None)
        live, greatest = store.snapshot.value.bytes, 0
        for commit in range(1, 101):  # each entry ten times
            first = chance.randrange(ENTRIES // GROUP) * GROUP
            fresh = entries(range(first, first + GROUP), chance)
            await store.commit([DeleteWhere(of(range(first, first + GROUP))), Append(fresh)], None)
            if commit % 20 == 0:
                await store.maintain()
            if commit % 10 == 0:
                greatest = max(greatest, space(directory))
                number = first + chance.randrange(GROUP)
                start = (number - first) * ROWS
                assert await held(store, of([number])) == pa.Table.from_batches([fresh.slice(start, ROWS)])
        assert store.snapshot.value.rows == ENTRIES * ROWS
        assert greatest < 7 * live
        assert (await held(store)).column(ENTRY).value_counts().field("counts").unique().to_pylist() == [ROWS]


def stored_rows(store) -> int:
    """Rows that an engine still has, whether or not they are there for a reader."""
    match store._store.state if hasattr(store._store, "state") else store._state:
        case SqliteState() as state:
            table = store._store.names(state.epoch).rows
            return store._store._database.number(f'SELECT count(*) FROM "{table}"')
        case state:
            return state.size.rows


@pytest.mark.parametrize("engine", NAMES)
async def test_many_dead_rows_do_not_wait_for_maintenance(engine, tmp_path, monkeypatch):
    """With the bounds of a small tail, so that few rows are many."""
    small = compaction.Policy(tail_bytes=64 * 1024)
    monkeypatch.setattr("caraway.accelerators.arrow.store.POLICY", small)
    monkeypatch.setattr("caraway.accelerators.sqlite.store._POLICY", small)
    monkeypatch.setattr("caraway.accelerators.parquet.options.Policy", lambda **_: small)
    chance = random.Random(4)
    async with opened(engine, tmp_path) as (store, _):
        await store.commit([Append(entries(range(20), chance))], None)
        greatest = 0
        for _ in range(40):
            some = sorted(chance.sample(range(20), 10))
            await store.commit([DeleteWhere(of(some)), Append(entries(some, chance))], None)
            greatest = max(greatest, stored_rows(store))
        assert greatest < 5 * 20 * ROWS
        assert (await held(store)).num_rows == 20 * ROWS


class Walk:
    """Random changes, and what a table that has seen them holds: by key, the contents of its rows in order."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.rows: dict[str, list[str]] = {}

    def changes(self) -> list[DeleteWhere | Append]:
        numbers = [self.chance.randrange(12) for _ in range(self.chance.randrange(4))]
        kinds = [(0.7, self._by_key), (0.1, self._by_content), (0.8, self._append)]
        return [kind(numbers) for odds, kind in kinds if self.chance.random() < odds]

    def _by_key(self, numbers: list[int]) -> DeleteWhere:
        for number in numbers:
            self.rows.pop(name(number), None)
        one = len(numbers) == 1 and self.chance.random() < 0.3
        return DeleteWhere(Compare(ENTRY, "=", Literal(name(numbers[0]), "utf8")) if one else of(numbers))

    def _by_content(self, _: list[int]) -> DeleteWhere:
        content = self.chance.choice([row for rows in self.rows.values() for row in rows] or ["x"])
        self.rows = {key: [row for row in rows if row != content] for key, rows in self.rows.items()}
        return DeleteWhere(Compare("content", "=", Literal(content, "utf8")))

    def _append(self, numbers: list[int]) -> Append:
        batch = entries(numbers, self.chance, rows=self.chance.randrange(1, 4), text=16)
        for row in batch.to_pylist():
            self.rows.setdefault(row[ENTRY], []).append(row["content"])
        return Append(batch)

    def is_held(self, table: pa.Table) -> bool:
        found: dict[str, list[str]] = {}
        for row in table.to_pylist():
            found.setdefault(row[ENTRY], []).append(row["content"])
        return found == {key: rows for key, rows in self.rows.items() if rows}


@pytest.mark.parametrize("engine", NAMES)
async def test_deletes_by_key_find_what_a_scan_finds(engine, tmp_path):
    walk = Walk(engine)
    mode = StorageMode.MEMORY if engine == "arrow" else StorageMode.FILE
    params = {"parquet_tail_rows": "40"} if engine == "parquet" else {}
    storage = StorageSpec("c", tmp_path, Engine(engine), mode, indexes=SPEC.indexes, params=params)
    store = await open_accelerator(storage, SCHEMA)
    for step in range(100):
        await store.commit(walk.changes(), None)
        if walk.chance.random() < 0.1:
            await store.maintain()
        if engine != "arrow" and walk.chance.random() < 0.05:
            await store.aclose()
            store = await open_accelerator(storage, SCHEMA)
        if step % 5 == 0:
            assert walk.is_held(await held(store))
            assert store.snapshot.value.rows == sum(map(len, walk.rows.values()))
    await store.aclose()


@pytest.mark.parametrize("engine", NAMES)
async def test_a_staged_append_is_known_to_later_deletes(engine, tmp_path):
    chance = random.Random(5)
    async with opened(engine, tmp_path) as (store, _):
        await store.commit([Append(entries([1], chance)), DeleteWhere(of([7]))], None)
        async with store.stage(replace=False) as staging:
            await staging.append(entries([1, 2], chance))
            await staging.commit(None)
        await store.commit([DeleteWhere(of([1]))], None)
        assert set((await held(store)).column(ENTRY).to_pylist()) == {name(2)}
        async with store.stage(replace=True) as staging:
            await staging.append(entries([2, 3], chance))
            await staging.commit(None)
        await store.commit([DeleteWhere(of([2]))], None)
        assert set((await held(store)).column(ENTRY).to_pylist()) == {name(3)}


@pytest.mark.parametrize("engine", NAMES)
async def test_a_failed_commit_leaves_no_trace_in_what_is_looked_up(engine, tmp_path):
    chance = random.Random(6)
    async with opened(engine, tmp_path) as (store, _):
        await store.commit([Append(entries([1, 2], chance)), DeleteWhere(of([9]))], None)
        wrong = pa.RecordBatch.from_pylist([{"path": "", "content": "", ENTRY: None}])
        with pytest.raises(Exception, match="null"):
            await store.commit([DeleteWhere(of([1])), Append(wrong)], None)
        assert store.snapshot.value.rows == 2 * ROWS
        await store.commit([DeleteWhere(of([1]))], None)
        assert set((await held(store)).column(ENTRY).to_pylist()) == {name(2)}


@pytest.mark.parametrize("engine", NAMES)
async def test_a_pinned_snapshot_keeps_the_rows_of_a_key(engine, tmp_path):
    chance = random.Random(7)
    async with opened(engine, tmp_path) as (store, _):
        await store.commit([Append(entries([1, 2], chance))], None)
        with store.pin() as snapshot:
            for _ in range(5):
                await store.commit([DeleteWhere(of([1])), Append(entries([1], chance))], None)
                await store.maintain()
            assert read_snapshot(snapshot, SCHEMA, None, of([1])).read_all().num_rows == ROWS
        assert (await held(store, of([1]))).num_rows == ROWS


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_places_are_those_of_a_dict(seed):
    chance = random.Random(seed)
    places, known, end = Places(), {}, 0
    for _ in range(60):
        keys = [key for _ in range(chance.randrange(5)) for key in [chance.choice("abcdef")] * chance.randrange(4)]
        keys = [None if chance.random() < 0.05 else key for key in keys]
        offsets = [end := end + chance.choice([1, 1, 1, 3]) for _ in keys]
        places = places.plus(pa.array(keys, pa.large_binary()), pa.array(offsets, pa.int64()))
        for key, offset in zip(keys, offsets, strict=True):
            known.setdefault(key, []).append(offset)
        wanted = [chance.choice("abcdefgh") for _ in range(chance.randrange(4))]
        expected = sorted(offset for key in set(wanted) for offset in known.get(key, ()))
        assert places.find(pa.array(wanted, pa.large_binary())).to_pylist() == expected


def test_places_take_one_entry_for_neighbours():
    places = Places()
    for start in range(0, 1000, 100):
        keys = pa.array([b"%d" % (row // 10) for row in range(start, start + 100)], pa.large_binary())
        places = places.plus(keys, pa.arange(start, start + 100))
    assert len(places) == 100


TEXT = Literal("a", "utf8")


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (Compare(ENTRY, "=", TEXT), ["a"]),
        (In(ENTRY, (TEXT, Literal("b", "utf8"), Literal(None, "utf8"))), ["a", "b"]),
        (In(ENTRY, ()), []),
        (Compare(ENTRY, ">", TEXT), None),
        (Compare(ENTRY, "=", Literal(1, "int64")), None),
        (Compare("content", "=", TEXT), None),
        (And((Compare(ENTRY, "=", TEXT),)), None),
        (Not(IsNull(ENTRY)), None),
    ],
)
def test_which_conditions_are_looked_up(predicate, expected):
    found = asked(predicate, SPEC)
    assert (found.values.to_pylist() if found is not None else None) == expected


def test_lookups_are_built_anew_where_most_of_what_they_have_is_dead():
    keys = Keys.of(SPEC).looking_up(ENTRY, [])
    end, live = 0, pa.array([], pa.int64())
    batch = entries(range(5000), random.Random(0), rows=20, text=2)
    while not keys.is_worn:
        keys = keys.less(live)
        live = pa.arange(end, end + batch.num_rows)
        keys, end = keys.plus(keys.columns_of(batch), live), end + batch.num_rows
        assert end < 1_000_000
    assert keys.look_up(Asked(ENTRY, pa.array([name(7)]))).to_pylist() == live.slice(140, 20).to_pylist()
    assert keys.emptied().names == {ENTRY}


async def test_deletes_without_a_lookup_still_scan(tmp_path):
    spec = TableSpec("c", SCHEMA)
    assert asked(of([1]), spec) is None
    async with opened("parquet", tmp_path) as (store, _):
        await store.commit([Append(entries([1], random.Random(1)))], None)
        await store.commit([Delete(entries([1], random.Random(1)))], None)
        assert (await held(store)).num_rows == 0
