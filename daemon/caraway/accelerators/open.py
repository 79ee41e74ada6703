"""The engines by name; each is imported when the first dataset wants it."""

from collections.abc import Mapping

import pyarrow as pa

from caraway.accelerators.storage import OpenEngine, StorageSpec, forget, settle
from caraway.config.model import Engine
from caraway.ports import Accelerator


async def _arrow(storage: StorageSpec, schema: pa.Schema | None) -> Accelerator | None:
    from caraway.accelerators.arrow.engine import open_arrow

    return await open_arrow(storage, schema)


async def _sqlite(storage: StorageSpec, schema: pa.Schema | None) -> Accelerator | None:
    from caraway.accelerators.sqlite.engine import open_sqlite

    return await open_sqlite(storage, schema)


async def _parquet(storage: StorageSpec, schema: pa.Schema | None) -> Accelerator | None:
    from caraway.accelerators.parquet.engine import open_parquet

    return await open_parquet(storage, schema)


ENGINES: Mapping[Engine, OpenEngine] = {
    Engine.ARROW: _arrow,
    Engine.SQLITE: _sqlite,
    Engine.PARQUET: _parquet,
}


async def open_accelerator(storage: StorageSpec, schema: pa.Schema | None = None) -> Accelerator | None:
    """The dataset's store for `schema`; without one, what an earlier run left, or None if it left nothing.

    ConfigError names a column that the engine can't hold, StoreError what is wrong with the files.
    """
    settled = settle(storage)
    opened = None
    try:
        opened = await ENGINES[storage.engine](settled, schema)
    finally:
        if opened is None:
            forget(settled)
    return opened
