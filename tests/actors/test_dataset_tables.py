"""Several tables of one query: pinned beside each other, and none left behind."""

from contextlib import asynccontextmanager

import pytest
import trio

from caraway.dataset.tables import DatasetTables
from caraway.errors import QueryError, QueryFailure
from caraway.latest import Latest
from caraway.model import ScanRequest


class SlowTable:
    """Takes a second to pin, or to fail."""

    def __init__(self, seconds=1.0, failure=None):
        self.table = Latest(None)
        self.generation = None
        self.pinned = 0
        self.cancelled = 0
        self._seconds = seconds
        self._failure = failure

    @asynccontextmanager
    async def resolve(self, scan):
        try:
            await trio.sleep(self._seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self._failure is not None:
            raise self._failure
        self.pinned += 1
        try:
            yield scan.table
        finally:
            self.pinned -= 1


def scans(*names):
    return [ScanRequest(name) for name in names]


async def test_tables_are_pinned_at_the_same_time_and_given_in_their_order(autojump_clock):
    tables = {"a": SlowTable(3.0), "b": SlowTable(1.0), "c": SlowTable(2.0)}
    async with DatasetTables(tables).resolve(scans("a", "b", "c", "a")) as pinned:
        assert (trio.current_time(), pinned) == (3.0, ["a", "b", "c", "a"])
        assert [table.pinned for table in tables.values()] == [2, 1, 1]
    assert [table.pinned for table in tables.values()] == [0, 0, 0]


async def test_the_first_failure_ends_the_others_bare(autojump_clock):
    failure = QueryError("down", QueryFailure.SOURCE)
    tables = {"a": SlowTable(3.0), "b": SlowTable(1.0, failure), "c": SlowTable(0.5)}
    with pytest.raises(QueryError) as raised:
        async with DatasetTables(tables).resolve(scans("a", "b", "c")):
            pytest.fail("entered")
    assert raised.value is failure
    assert trio.current_time() == 1.0
    assert (tables["a"].cancelled, tables["c"].pinned) == (1, 0)


async def test_a_query_that_is_cancelled_leaves_nothing_pinned(autojump_clock):
    tables = {"a": SlowTable(3.0), "b": SlowTable(1.0)}
    with trio.move_on_after(2) as scope:
        async with DatasetTables(tables).resolve(scans("a", "b")):
            pytest.fail("entered")
    assert scope.cancelled_caught
    assert (tables["a"].cancelled, tables["b"].pinned) == (1, 0)


async def test_an_unknown_table_is_told_before_anything_is_pinned(autojump_clock):
    tables = {"a": SlowTable()}
    with pytest.raises(QueryError, match="table 'b' not found"):
        async with DatasetTables(tables).resolve(scans("a", "b")):
            pytest.fail("entered")
    assert trio.current_time() == 0
