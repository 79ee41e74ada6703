"""Random changes against a plain model of the port, over every engine."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.predicate import Compare, In, Literal
from caraway.errors import StoreError
from caraway.model import Append, Cursor, Delete, DeleteWhere, OnConflict, TableSpec, TimeColumn, TimeFormat
from support.engines import CONFORMING, EngineUnderTest, rows_of, tail_of
from support.fuzz import fuzz

SCHEMA = pa.schema([("id", pa.int64()), ("word", pa.string()), ("at", pa.int64()), ("tags", pa.list_(pa.int8()))])
KEYS = st.integers(0, 12)
ROW = st.tuples(KEYS, st.sampled_from(["a", "b", None]), st.one_of(st.none(), st.integers(0, 50)))
ROWS = st.lists(ROW, max_size=8)
STEP = st.one_of(
    st.tuples(st.just("append"), ROWS),
    st.tuples(st.just("delete"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("retain"), st.integers(0, 50)),
)
ACTION = st.one_of(
    st.tuples(st.just("commit"), st.lists(STEP, max_size=3)),
    st.tuples(st.just("stage"), st.lists(ROWS, max_size=3)),
    st.tuples(st.just("replace"), st.lists(ROWS, max_size=3)),
    st.tuples(st.just("abort"), st.lists(ROWS, max_size=2)),
    st.tuples(st.sampled_from(["maintain", "reopen"]), st.none()),
)


def record(rows: list[tuple]) -> pa.RecordBatch:
    dicts = [{"id": i, "word": word, "at": at, "tags": [i] * (i % 3)} for i, word, at in rows]
    return pa.RecordBatch.from_pylist(dicts, SCHEMA)


class RefusedError(Exception):
    pass


@dataclass
class Model:
    """Rows in log order; each carries a number that says when it came."""

    on_conflict: OnConflict | None
    rows: list[tuple] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    end: int = 0
    """The offset after the newest row or delete."""

    @property
    def drops(self) -> bool:
        """Whether rows are dropped, of which each engine decides whether they have an offset."""
        return self.on_conflict in {OnConflict.DROP, OnConflict.UPSERT_DEDUP, OnConflict.UPSERT_LAST}

    def append(self, rows: list[tuple]) -> None:
        self.offered += [at for _, _, at in rows if at is not None]
        match self.on_conflict:
            case None:
                self.rows = self.rows + rows
                self.end += len(rows)
            case OnConflict.REJECT:
                self._reject(rows)
            case OnConflict.DROP:
                for row in rows:
                    if row[0] not in {old[0] for old in self.rows}:
                        self.rows = [*self.rows, row]
            case _:
                self._upsert(rows)

    def _reject(self, rows: list[tuple]) -> None:
        keys = [row[0] for row in self.rows + rows]
        if rows and len(set(keys)) < len(keys):
            raise RefusedError
        self.rows = self.rows + rows
        self.end += len(rows)

    def _upsert(self, rows: list[tuple]) -> None:
        if self.on_conflict is OnConflict.UPSERT_DEDUP:
            rows = list(dict.fromkeys(rows))
        if self.on_conflict is OnConflict.UPSERT_LAST:
            last = {row[0]: place for place, row in enumerate(rows)}
            rows = [row for place, row in enumerate(rows) if last[row[0]] == place]
        keys = {row[0] for row in rows}
        if len(keys) < len(rows):
            raise RefusedError
        self.rows = [row for row in self.rows if row[0] not in keys] + rows
        self.end += len(rows)

    def apply(self, step: tuple) -> None:
        what, argument = step
        if what == "append":
            self.append(argument)
        elif what == "delete":
            left = [row for row in self.rows if row[0] not in argument]
            self.end += len(left) < len(self.rows) and self.on_conflict is not None
            self.rows = left
        else:
            self.rows = [row for row in self.rows if row[2] is None or row[2] >= argument]


def change(step: tuple, keyed: bool) -> Append | Delete | DeleteWhere:
    what, argument = step
    if what == "append":
        return Append(record(argument))
    if what == "delete" and keyed:
        return Delete(pa.record_batch({"id": pa.array(argument, pa.int64())}))
    if what == "delete":
        wanted = tuple(Literal(key, "int64") for key in argument)
        return DeleteWhere(In("id", wanted))
    return DeleteWhere(Compare("at", "<", Literal(argument, "int64")))


async def perform(store, model: Model, action: tuple, number: int) -> None:
    what, argument = action
    keyed = model.on_conflict is not None
    rows, offered, end = model.rows, list(model.offered), model.end
    try:
        if what == "commit":
            for step in argument:
                model.apply(step)
        elif what in {"stage", "replace"}:
            if what == "replace":
                model.rows, model.offered, model.end = [], [], 0
            for part in argument:
                model.append(part)
    except RefusedError:
        model.rows, model.offered, model.end = rows, offered, end
        with pytest.raises(StoreError):
            await do(store, what, argument, keyed, number)
        return
    await do(store, what, argument, keyed, number)


async def do(store, what: str, argument: list, keyed: bool, number: int) -> None:
    if what == "commit":
        await store.commit([change(step, keyed) for step in argument], Cursor(str(number)))
    elif what == "maintain":
        await store.maintain()
    elif what == "abort":
        with suppress(StoreError):  # rows may be refused as they come
            async with store.stage(replace=False) as staging:
                await fill(staging, argument)
    else:
        async with store.stage(replace=what == "replace") as staging:
            await fill(staging, argument)
            await staging.commit(Cursor(str(number)))


async def fill(staging, parts: list) -> None:
    for part in parts:
        await staging.append(record(part))


async def check(store, model: Model, cursor: str | None) -> None:
    snapshot = store.snapshot.value
    if snapshot is None:
        assert cursor is None
        return
    expected = record(model.rows).to_pylist()
    assert await rows_of(store) == expected
    assert (snapshot.rows, snapshot.cursor) == (len(expected), cursor)
    assert (snapshot.bytes > 0) == bool(expected)
    held = [row[2] * 10**6 for row in model.rows if row[2] is not None]
    newest = -1 if snapshot.max_time is None else snapshot.max_time
    assert max(held, default=-1) <= newest <= max((at * 10**6 for at in model.offered), default=-1)
    tail = await tail_of(store, snapshot.epoch, 0)
    assert tail is not None
    assert [row for _, row in tail] == expected
    assert not tail or tail[-1][0] <= snapshot.end_offset
    assert snapshot.end_offset == model.end or (model.drops and snapshot.end_offset > model.end)


async def walk(engine: EngineUnderTest, on_conflict: OnConflict | None, actions: list[tuple]) -> None:
    key = ("id",) if on_conflict else ()
    time = TimeColumn("at", TimeFormat.UNIX_MILLIS)
    spec = TableSpec("orders", SCHEMA, key, on_conflict or OnConflict.REJECT, time=time)
    model, cursor = Model(on_conflict), None
    pending = list(enumerate(actions))
    while True:
        async with engine.open(spec) as store:
            await check(store, model, cursor)
            while pending:
                number, action = pending.pop(0)
                if action[0] == "reopen":
                    if engine.persistent:
                        break
                    continue
                before = store.snapshot.value
                with store.pin() if before else trio.CancelScope() as pinned:
                    expected = await rows_of(store, pinned) if before else []
                    await perform(store, model, action, number)
                    if store.snapshot.value != before and action[0] != "maintain":
                        cursor = str(number)
                    await check(store, model, cursor)
                    if before:
                        assert await rows_of(store, pinned) == expected
            else:
                return


@pytest.mark.parametrize("on_conflict", [None, *OnConflict])
@pytest.mark.parametrize("name", CONFORMING)
def test_any_changes_give_what_the_model_gives(
    name: str, on_conflict: OnConflict | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @fuzz(12)
    @given(st.lists(ACTION, max_size=8))
    def run(actions: list[tuple]) -> None:
        directory: Path = tmp_path_factory.mktemp("model") / "orders"
        trio.run(walk, EngineUnderTest(name, directory), on_conflict, actions)

    run()
