"""A query engine for server tests: answers by SQL text, with messages made beforehand."""

from contextlib import asynccontextmanager

import trio

from caraway.errors import QueryError, QueryFailure
from caraway.model import CacheReport, ResultFormat
from support.flight import messages_of


class FakeEngine:
    """`tables[sql]` is a table, a list of messages, or an exception; `running` counts the queries in progress."""

    def __init__(self, **tables):
        self.tables = tables
        self.queries = []
        self.produced = 0
        self.running = 0
        self.fail_after = None
        self.idle = trio.Event()
        self.idle.set()
        self.hold = None
        self.holding = trio.Event()
        self.report = CacheReport()
        self.readings = ()
        self.cached = {}
        """Answers that `peek` gives, by SQL text."""

    def peek(self, query):
        return self.cached.get(query.sql)

    @asynccontextmanager
    async def execute(self, query):
        assert query.format is ResultFormat.IPC
        messages = self._messages(query)
        self.running += 1
        self.idle = trio.Event()
        try:
            await trio.lowlevel.checkpoint()
            yield _Result(self, messages)
        finally:
            self.running -= 1
            self.idle.set()

    async def plan(self, query):
        await trio.lowlevel.checkpoint()
        return self._messages(query)[0]

    async def table_schema(self, name):
        await trio.lowlevel.checkpoint()
        if name not in self.tables:
            raise QueryError(f"Table not found: {name}", QueryFailure.NOT_FOUND)
        return self._look_up(name)[0]

    def _messages(self, query):
        self.queries.append(query)
        return self._look_up(query.sql)

    def _look_up(self, name):
        if name not in self.tables:
            raise QueryError(f"table {name!r} not found")
        table = self.tables[name]
        if isinstance(table, BaseException):
            raise table
        return table if isinstance(table, list) else messages_of(table)


class _Result:
    def __init__(self, engine, messages):
        self._engine = engine
        self._messages = messages
        self._rest = iter(messages[1:])
        self.rows = 0
        self.report = engine.report
        self.readings = engine.readings

    @property
    def schema(self):
        return self._messages[0]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._engine.hold is not None:
            self._engine.holding.set()
            await self._engine.hold.wait()
        await trio.lowlevel.checkpoint()
        for message in self._rest:
            self._engine.produced += 1
            return message
        raise self._engine.fail_after or StopAsyncIteration
