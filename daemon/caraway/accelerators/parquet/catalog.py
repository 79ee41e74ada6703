"""The catalog: which files make the store; one SQLite file, one transaction a change.

Small commits do not come here (see wal.py); large ones, staged jobs and maintenance do, each of which writes files of
its own. So the rollback journal is fast enough, and it leaves one file of bounded size; synchronous EXTRA makes the
removal of the journal, which is the commit, durable.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from caraway.accelerators.parquet.hidden import read_hidden, write_hidden
from caraway.accelerators.parquet.state import Part, State, Tail
from caraway.accelerators.runs import Hidden
from caraway.errors import StoreError

FORMAT = 1
_COLUMNS: dict[str, dict[str, type]] = {
    "state": {
        "id": int,
        "format": int,
        "schema": bytes,
        "epoch": str,
        "generation": int,
        "end_offset": int,
        "cursor": str,
        "max_time": int,
        "hidden": str,
    },
    "parts": {"path": str, "first": int, "end": int, "rows": int, "bytes": int},
    "tails": {"path": str, "first": int, "end": int, "rows": int, "length": int},
}


class Catalog:
    """Opened by one process, which a lock on the folder ensures; every method belongs to the writer's thread."""

    def __init__(self, folder: Path, dataset: str) -> None:
        from sqlite_utils import Database

        self._folder = folder
        self._lock = _locked(folder, dataset)
        self._db = Database(sqlite3.connect(folder / "catalog.db", check_same_thread=False, isolation_level=None))
        self._db.execute("pragma synchronous = extra")

    def load(self) -> tuple[pa.Schema, State] | None:
        """The table's schema and the state that was saved last; None in a new catalog.

        A tail is described as it was then: what it has got since, its file tells.
        """
        if not self._db["state"].exists():
            return None
        row = self._db["state"].get(1)
        if row["format"] != FORMAT:
            raise StoreError(
                f"{self._folder} holds format {row['format']}, this version of caraway reads format {FORMAT}.",
                remedy="Remove the folder to load the dataset again.",
                transient=False,
            )
        return pa.ipc.read_schema(pa.py_buffer(row["schema"])), self._state(row)

    def save(self, state: State, schema: pa.Schema) -> State:
        """Make `state`, whose parts and tails must be durable already, what the store is; one transaction."""
        if state.hidden_path is not None:
            write_hidden(state.hidden, state.hidden_path, durable=True)
        row = {
            "id": 1,
            "format": FORMAT,
            "schema": schema.serialize().to_pybytes(),
            "epoch": state.epoch,
            "generation": state.generation,
            "end_offset": state.end_offset,
            "cursor": state.cursor,
            "max_time": state.max_time,
            "hidden": state.hidden_path and self._name(state.hidden_path),
        }
        parts = [(self._name(part.path), part.first, part.end, part.rows, part.bytes) for part in state.parts]
        tails = [(self._name(tail.path), tail.first, tail.end, tail.rows, tail.length) for tail in state.tails]
        with self._db.atomic():
            self._replace("state", [tuple(row.values())])
            self._replace("parts", parts)
            self._replace("tails", tails)
        return replace(state, saved_hidden=state.hidden_path)

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    def _replace(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        columns = _COLUMNS[table]
        self._db[table].create(columns, pk=next(iter(columns)), if_not_exists=True)
        self._db[table].delete_where()
        self._db.conn.executemany(f"insert into {table} values ({', '.join('?' * len(columns))})", rows)

    def _state(self, row: dict[str, Any]) -> State:
        hidden_path = self._folder / row["hidden"] if row["hidden"] else None
        return State(
            epoch=row["epoch"],
            tails=tuple(Tail(**self._row(tail)) for tail in self._db["tails"].rows_where(order_by="first")),
            parts=tuple(Part(**self._row(part)) for part in self._db["parts"].rows_where(order_by="first")),
            generation=row["generation"],
            end_offset=row["end_offset"],
            cursor=row["cursor"],
            max_time=row["max_time"],
            hidden=read_hidden(hidden_path) if hidden_path else Hidden(),
            hidden_path=hidden_path,
            saved_hidden=hidden_path,
        )

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "path": self._folder / row["path"]}

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._folder))


def _locked(folder: Path, dataset: str) -> int:
    """The folder's lock, held by an open file, so that a killed process leaves none."""
    fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StoreError(
            f"Another process has dataset {dataset} open in {folder}.",
            remedy="Stop it, or give this daemon a data directory of its own.",
        ) from error
    return fd
