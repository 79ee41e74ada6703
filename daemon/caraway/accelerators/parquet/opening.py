"""Finding the state of a store again: the catalog's, then what its open tail got since."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from caraway.accelerators.parquet import wal
from caraway.accelerators.parquet.catalog import Catalog
from caraway.accelerators.parquet.disk import sync_file
from caraway.accelerators.parquet.files import HIDDEN, PARTS, TAILS, make_folders, new_hidden, new_tail, remove_garbage
from caraway.accelerators.parquet.options import parse
from caraway.accelerators.parquet.schema import check
from caraway.accelerators.parquet.state import State
from caraway.accelerators.parquet.store import Store, extended
from caraway.accelerators.storage import StorageSpec, keeps
from caraway.config.model import StorageMode
from caraway.errors import StoreError
from caraway.model import TableSpec


def open_store(storage: StorageSpec, schema: pa.Schema | None) -> tuple[TableSpec, Store, State] | None:
    """The store in the storage's directory; without a schema what an earlier run left, or None."""
    options = parse(storage.params, storage.name)
    if storage.mode is StorageMode.FILE_CREATE:
        _clear(storage.directory)
    if schema is None and not (storage.directory / "catalog.db").exists():
        return None
    make_folders(storage.directory)
    catalog = Catalog(storage.directory, storage.name)
    try:
        found = _found(catalog, storage, schema)
        if found is None:
            catalog.close()
            return None
        spec, state = found
        remove_garbage(storage.directory, state)
        return spec, Store(storage.directory, spec, options, catalog), state
    except BaseException:
        catalog.close()
        raise


def _found(catalog: Catalog, storage: StorageSpec, schema: pa.Schema | None) -> tuple[TableSpec, State] | None:
    saved = catalog.load()
    if saved is not None:
        stored_schema, state = saved[0], recovered(saved[1], storage.directory)
        if schema is None:
            return (storage.table(stored_schema), state) if state.generation else None
        if keeps(storage, stored_schema, schema):
            return storage.table(schema), _adapted(catalog, storage, state, stored_schema, schema)
    if schema is None:
        return None
    check(schema, storage.name)
    state = State(uuid.uuid4().hex, tails=(new_tail(storage.directory, 0),))
    return storage.table(schema), catalog.save(state, schema)


def recovered(state: State, folder: Path) -> State:
    """The saved state with the commits that its open tail got since; what is torn is cut off."""
    for path in (*(part.path for part in state.parts), *(tail.path for tail in state.tails[:-1])):
        if not path.exists():
            raise StoreError(
                f"{path} is gone, which the catalog names.",
                remedy="Remove the dataset's folder to load it again from its source.",
                transient=False,
            )
    tail, hidden = state.tails[-1], state.hidden
    state = replayed(state, wal.recover(tail.path))
    if state.hidden is not hidden:
        state = replace(state, hidden_path=new_hidden(folder))
    if tail.path.exists():
        os.truncate(tail.path, state.tails[-1].length)
        sync_file(tail.path)  # a commit that a killed process had written may be nowhere but in memory yet
    return state


def replayed(state: State, commits: Iterable[tuple[int, wal.Marker]]) -> State:
    """The saved state after those commits of its open tail that it does not have; `hidden_path` is left as it was."""
    saved = state.tails[-1].length
    for length, marker in commits:
        if length > saved:
            state = replace(extended(state, length, marker), hidden=state.hidden.plus(marker.hidden))
    return state


def _adapted(catalog: Catalog, storage: StorageSpec, state: State, stored: pa.Schema, asked: pa.Schema) -> State:
    """The state for a schema that differs by added columns: a tail has one schema, so a new one is begun."""
    if stored.equals(asked, check_metadata=True):
        return state
    check(asked, storage.name)
    tails = tuple(tail for tail in state.tails if tail.length)
    return catalog.save(replace(state, tails=(*tails, new_tail(storage.directory, state.end_offset))), asked)


def _clear(folder: Path) -> None:
    for name in (PARTS, TAILS, HIDDEN):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.glob("catalog.db*"):
        path.unlink()
