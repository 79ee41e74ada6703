"""What a worker reads of a snapshot's files, again and again as they change."""

import random

import pyarrow as pa
import pytest

from caraway.accelerators.parquet.wal import Codec, Marker, append
from caraway.model import OFFSET_COLUMN, ArrowFiles, IpcTail, ParquetFiles
from caraway.query.worker.stored import (
    BATCH_ROWS,
    JOINED_ROWS,
    LIVE_COLUMN,
    SMALL_BYTES,
    SMALL_ROWS,
    Stored,
    joined,
    read,
)

SCHEMA = pa.schema([("id", pa.int64()), (OFFSET_COLUMN, pa.int64())])


def batch(start, count):
    ids = pa.array(range(start, start + count), pa.int64())
    return pa.RecordBatch.from_arrays([ids, ids], schema=SCHEMA)


def arrow_file(path, *batches):
    with pa.ipc.new_file(path, batches[0].schema) as writer:
        for each in batches:
            writer.write_batch(each)
    return path


def hidden_file(path, offsets):
    return arrow_file(path, pa.record_batch([pa.array(offsets, pa.int64())], [OFFSET_COLUMN]))


def shown(stored):
    """The ids of the rows that are live."""
    found = []
    for run in stored.batches():
        for each in run:
            live = each.filter(each.column(LIVE_COLUMN)) if stored.hides else each
            found += live.column("id").to_pylist()
    return found


def sizes(stored):
    return [each.num_rows for run in stored.batches() for each in run]


def addresses(stored):
    return [each.column("id").buffers()[1].address for run in stored.batches() for each in run]


# --- Arrow files -----------------------------------------------------------------------------------------------------


def test_a_file_that_an_earlier_snapshot_had_is_not_opened_again(tmp_path):
    old = arrow_file(tmp_path / "0", batch(0, SMALL_ROWS))
    before = read(ArrowFiles((old,)), Stored())
    new = arrow_file(tmp_path / "1", batch(SMALL_ROWS, SMALL_ROWS))
    after = read(ArrowFiles((old, new)), before)
    assert after.files[old] is before.files[old]
    assert addresses(after)[:1] == addresses(before)
    assert shown(after) == list(range(2 * SMALL_ROWS))
    assert list(read(ArrowFiles((new,)), after).files) == [new]


def test_neighbours_that_are_small_are_joined_and_others_stay_in_place(tmp_path):
    counts = [5, 7, SMALL_ROWS, 3, 2, 1]
    starts = [sum(counts[:place]) for place in range(len(counts))]
    paths = tuple(arrow_file(tmp_path / f"{s}", batch(s, c)) for s, c in zip(starts, counts, strict=True))
    stored = read(ArrowFiles(paths), Stored())
    assert sizes(stored) == [12, SMALL_ROWS, 6]
    assert addresses(stored)[1] == addresses(read(ArrowFiles(paths[2:3]), stored))[0]
    assert shown(stored) == list(range(sum(counts)))


def test_few_rows_of_many_bytes_are_not_copied():
    wide = pa.record_batch([pa.array(["x" * SMALL_BYTES])], ["text"])
    assert [each.num_rows for each in joined([wide, wide])] == [1, 1]


def test_dictionaries_that_do_not_fit_one_index_type_stay_apart():
    words = [pa.array([f"{name}{n}" for n in range(100)]).dictionary_encode() for name in "ab"]
    batches = [pa.record_batch([each.cast(pa.dictionary(pa.int8(), pa.string()))], ["w"]) for each in words]
    assert [each.num_rows for each in joined(batches)] == [100, 100]


def test_great_batches_are_cut(tmp_path):
    path = arrow_file(tmp_path / "0", batch(0, 2 * BATCH_ROWS + 1))
    assert sizes(read(ArrowFiles((path,)), Stored())) == [BATCH_ROWS, BATCH_ROWS, 1]


def test_runs_of_files_with_other_columns_stay_apart(tmp_path):
    narrow = batch(0, 3).select([OFFSET_COLUMN])
    paths = (arrow_file(tmp_path / "0", narrow), arrow_file(tmp_path / "1", batch(3, 3)))
    runs = list(read(ArrowFiles(paths), Stored()).batches())
    assert [[each.schema.names for each in run] for run in runs] == [[[OFFSET_COLUMN]], [["id", OFFSET_COLUMN]]]


# --- hidden rows -----------------------------------------------------------------------------------------------------


def test_hidden_rows_are_marked_and_only_where_more_were_hidden(tmp_path):
    paths = tuple(arrow_file(tmp_path / f"{n}", batch(n * 5_000, 5_000)) for n in range(3))
    first = read(ArrowFiles(paths, hidden_file(tmp_path / "h1", [1, 5_000, 5_001])), Stored())
    assert shown(first) == [n for n in range(15_000) if n not in {1, 5_000, 5_001}]
    second = read(ArrowFiles(paths, hidden_file(tmp_path / "h2", [1, 2, 5_000, 5_001, 14_999])), first)
    assert shown(second) == [n for n in range(15_000) if n not in {1, 2, 5_000, 5_001, 14_999}]
    kept = [
        one.rows[0].live is other.rows[0].live
        for one, other in zip(first.files.values(), second.files.values(), strict=True)
    ]
    assert kept == [False, True, False]
    assert shown(read(ArrowFiles(paths, tmp_path / "h1"), second)) == shown(first)
    assert shown(read(ArrowFiles(paths), second)) == list(range(15_000))


def test_a_file_that_hides_nothing_costs_no_column(tmp_path):
    path = arrow_file(tmp_path / "0", batch(0, 3))
    stored = read(ArrowFiles((path,), hidden_file(tmp_path / "h", [])), Stored())
    assert not stored.hides
    assert shown(stored) == [0, 1, 2]


def test_batches_of_any_kind_can_be_marked(tmp_path):
    paths = (arrow_file(tmp_path / "0", batch(0, 3), batch(3, 4)), arrow_file(tmp_path / "1", batch(9, 70_000)))
    stored = read(ArrowFiles(paths, hidden_file(tmp_path / "h", [6, 8, 9, 70_008])), Stored())
    assert shown(stored) == [0, 1, 2, 3, 4, 5, *range(10, 70_008)]


# --- tails -----------------------------------------------------------------------------------------------------------


class Tail:
    """A write-ahead file that grows by commits."""

    def __init__(self, path):
        self.path = path
        self.codec = Codec(SCHEMA)
        self.rows = self.length = 0

    def commit(self, *counts):
        batches = []
        for count in counts:
            batches.append(batch(self.rows, count))
            self.rows += count
        marker = Marker(1, self.rows, sum(counts))
        self.length = append(self.path, self.length, self.codec.encode(batches, marker, first=not self.length))
        return ParquetFiles((), (IpcTail(self.path, self.length),))


def test_a_tail_is_read_from_where_it_ended_before(tmp_path):
    tail = Tail(tmp_path / "tail")
    first = read(tail.commit(JOINED_ROWS), Stored())
    second = read(tail.commit(3), first)
    third = read(tail.commit(2), second)
    assert second.files[tail.path].rows[0] is third.files[tail.path].rows[0] is first.files[tail.path].rows[0]
    assert shown(third) == list(range(JOINED_ROWS + 5))
    assert sizes(third) == [JOINED_ROWS, 5]


def test_an_older_snapshot_of_a_tail_after_a_newer_one(tmp_path):
    tail = Tail(tmp_path / "tail")
    older = tail.commit(3)
    newer = read(tail.commit(4), Stored())
    assert shown(read(older, newer)) == [0, 1, 2]
    assert shown(newer) == list(range(7))


def test_an_empty_tail(tmp_path):
    assert shown(read(ParquetFiles((), (IpcTail(tmp_path / "none", 0),)), Stored())) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_tail_read_after_each_commit_is_the_tail_read_at_once(tmp_path, seed):
    draw = random.Random(seed)
    tail, stored, copied, hidden = Tail(tmp_path / "tail"), Stored(), 0, []
    for number in range(300):
        data = tail.commit(*(draw.choice([1, 50, 3_000]) for _ in range(draw.choice([1, 1, 3]))))
        if draw.random() < 0.2:
            hidden = sorted({*hidden, draw.randrange(tail.rows)})
        gone = hidden_file(tmp_path / f"h{number}", hidden) if hidden else None
        known = {id(rows.stored) for file in stored.files.values() for rows in file.rows}
        after = read(ParquetFiles((), data.tails, gone), stored)
        copied += sum(r.stored.num_rows for f in after.files.values() for r in f.rows if id(r.stored) not in known)
        stored = after
        if number % 20 == 0:
            assert shown(stored) == [n for n in range(tail.rows) if n not in set(hidden)]
    assert shown(stored) == shown(read(ParquetFiles((), data.tails, gone), Stored()))
    assert copied < 12 * tail.rows
    small = [rows.stored.num_rows for rows in stored.files[tail.path].rows if rows.stored.num_rows < SMALL_ROWS]
    assert sum(small) < 3 * SMALL_ROWS
