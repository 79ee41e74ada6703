"""Finding a dataset in its file again: what an earlier run left is kept, taken up, or dropped, by mode and schema."""

from pathlib import Path

import pyarrow as pa

from caraway.accelerators.sqlite import ledger
from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.layout import check
from caraway.accelerators.sqlite.sql import quoted
from caraway.accelerators.sqlite.store import Store
from caraway.accelerators.storage import StorageSpec, keeps
from caraway.config.model import StorageMode
from caraway.errors import StoreError
from caraway.model import TableSpec


def open_store(path: Path, storage: StorageSpec, schema: pa.Schema | None) -> Store | None:
    """The dataset's writer; None where no schema is given and none is stored. Blocks."""
    if schema is None and not path.exists():
        return None
    database = Database(path)
    try:
        store = _opened(database, storage, schema)
    except BaseException:
        database.close()
        raise
    if store is None:
        database.close()
    return store


def _opened(database: Database, storage: StorageSpec, schema: pa.Schema | None) -> Store | None:
    with database.transaction():
        ledger.prepare(database)
        if storage.mode in {StorageMode.FILE_CREATE, StorageMode.MEMORY}:
            _wipe(database, storage.name)
        entry = ledger.load(database, storage.name)
        found = schema if schema is not None else entry.schema if entry and entry.state else None
        if found is None:
            return None
        spec = storage.table(found)
        check(spec)
        return _kept(database, storage, spec, entry) if entry else _fresh(database, spec)


def _kept(database: Database, storage: StorageSpec, spec: TableSpec, entry: ledger.Entry) -> Store:
    """The stored rows under today's spec, or a new start where the mode allows it."""
    if not keeps(storage, entry.schema, spec.schema):
        return _fresh(database, spec)
    store = Store(database, spec, entry.state)
    _drop_others(database, spec.name, entry.state.epoch if entry.state else None)
    if entry.schema.equals(spec.schema, check_metadata=True) and entry.keys == ledger.keys_of(spec):
        return store
    database.execute("SAVEPOINT evolve")
    try:
        store.evolve(entry)
    except StoreError:
        if storage.mode is not StorageMode.FILE_UPDATE:
            raise
        database.execute("ROLLBACK TO evolve")
        return _fresh(database, spec)
    return store


def _fresh(database: Database, spec: TableSpec) -> Store:
    _wipe(database, spec.name)
    ledger.save(database, spec, None)
    return Store(database, spec, None)


def _wipe(database: Database, dataset: str) -> None:
    _drop_others(database, dataset, None)
    ledger.forget(database, dataset)


def _drop_others(database: Database, dataset: str, epoch: str | None) -> None:
    """Drop the dataset's tables of other epochs: loads that a crash cut off, epochs that somebody read to the end."""
    prefix = f"{dataset}/"
    own = f"{prefix}{epoch}"
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ?"
    for (name,) in database.execute(sql, (len(prefix), prefix)):
        if epoch is None or name not in {own, f"{own}/nested"}:
            database.execute(f"DROP TABLE {quoted(str(name))}")
