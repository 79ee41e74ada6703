"""A dataset in caching mode among fakes, on the virtual clock."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pyarrow as pa
import trio.lowlevel

from caraway.config.model import Acceleration, Caching, Engine, RefreshMode, StorageMode
from caraway.dataset.settings import engine_keys
from caraway.dataset.spool import Spool, SpoolFile
from caraway.model import ANONYMOUS, Principal, ScanRequest
from support.dataset_world import World
from support.fake_requests import FakeRequests, path


class InlineFile(SpoolFile):
    """Written without a thread, for which the virtual clock would not wait."""

    async def _call(self, *work):
        await trio.lowlevel.checkpoint()
        work[0](*work[1:])


class InlineSpool(Spool):
    @contextmanager
    def file(self, schema):
        file = InlineFile(self, self._directory / f"{uuid4().hex}.arrow", schema)
        try:
            yield file
        finally:
            file.remove()
            self._used -= file.bytes


@dataclass
class Shown:
    """What one query saw."""

    contents: list[str]
    reading: object
    rows: pa.Table

    @property
    def status(self) -> str:
        return self.reading.status.value


@dataclass
class CachingWorld(World):
    source: FakeRequests = field(default_factory=FakeRequests)

    def __post_init__(self):
        super().__post_init__()
        self.shared = replace(self.shared, spool=InlineSpool(self.tmp_path / "spool", self.spool_bytes))

    def caching(self, *, mode: StorageMode = StorageMode.MEMORY, engine: Engine = Engine.ARROW, keys=None, **caching):
        """refresh_mode caching, with `caching_*` and other keys of the acceleration."""
        self.config = replace(
            self.config,
            acceleration=Acceleration(
                engine=engine, mode=mode, refresh_mode=RefreshMode.CACHING, caching=Caching(**caching), **(keys or {})
            ),
        )
        return self

    async def _open(self, schema):
        before, self.config = self.config, self.config
        acceleration = engine_keys(before.acceleration)
        try:
            self.config = replace(before, acceleration=acceleration)
            return await super()._open(schema)
        finally:
            self.config = before

    async def ask(self, actor, *conditions, principal: Principal = ANONYMOUS, unclear=()) -> Shown:
        """What a query sees; each condition is one scan's. Without any it has none."""
        async with actor.resolve(self.scan(*conditions, principal=principal, unclear=unclear)) as pinned:
            return await self.shown(actor, pinned)

    @staticmethod
    def scan(*conditions, principal: Principal = ANONYMOUS, unclear=()) -> ScanRequest:
        each = conditions or (None,)
        return ScanRequest("t", predicate=each[0], each=each, unclear=unclear, principal=principal)

    async def get(self, actor, *paths: str, principal: Principal = ANONYMOUS) -> Shown:
        return await self.ask(actor, path(*paths), principal=principal)

    async def reading(self, actor, *paths: str):
        """What a query is told of its rows, which it does not read."""
        async with actor.resolve(ScanRequest("t", predicate=path(*paths))) as pinned:
            return pinned.reading

    async def shown(self, actor, pinned) -> Shown:
        """The rows that `only` admits, sorted by content."""
        table = await self.read(actor, pinned)
        contents = sorted(table["content"].to_pylist())
        return Shown(contents, pinned.reading, table)

    async def read(self, actor, pinned) -> pa.Table:
        schema = actor.store.spec.schema
        if pinned.snapshot.epoch.startswith("source-"):  # a temporary file
            assert pinned.only is None
            return pa.Table.from_batches(_mapped(pinned.snapshot.data.paths[0]), schema)
        async with actor.store.scan(pinned.snapshot, None, pinned.only) as batches:
            return pa.Table.from_batches([batch async for batch in batches], schema)


def _mapped(path) -> list[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]
