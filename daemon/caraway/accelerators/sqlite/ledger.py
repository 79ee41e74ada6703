"""What a file says of each dataset in it: schema, epoch, counters and cursor, in the transaction of the rows."""

import json
from dataclasses import dataclass, fields

import pyarrow as pa

from caraway.accelerators.sqlite.database import Database
from caraway.accelerators.sqlite.sql import Value
from caraway.accelerators.tally import Tally
from caraway.model import Cursor, TableSpec

_TABLE = "caraway_datasets"
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (name TEXT PRIMARY KEY, schema BLOB NOT NULL, keys TEXT NOT NULL,"
    " epoch TEXT, generation INTEGER, end_offset INTEGER, rows INTEGER, bytes INTEGER, max_time INTEGER, cursor TEXT)"
)
_SAVE = f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "schema, keys, epoch, generation, end_offset, rows, bytes, max_time, cursor"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is stored of a dataset; `keys` tells whether its indexes and time column are still those asked for."""

    schema: pa.Schema
    keys: str
    state: Tally | None


def keys_of(spec: TableSpec) -> str:
    """The parts of a spec, beside the schema, that shape what is stored."""
    indexes = [[list(index.columns), index.unique] for index in spec.indexes]
    time = [spec.time.name, spec.time.format.value] if spec.time else None
    return json.dumps({"primary_key": list(spec.primary_key), "indexes": indexes, "time": time})


def prepare(database: Database) -> None:
    database.execute(_CREATE)


def load(database: Database, dataset: str) -> Entry | None:
    """What the file knows of the dataset."""
    found = database.execute(f"SELECT {_COLUMNS} FROM {_TABLE} WHERE name = ?", (dataset,))
    if not found:
        return None
    schema, keys, *stored = found[0]
    return Entry(pa.ipc.read_schema(pa.py_buffer(schema)), str(keys), _state(*stored))


def _state(epoch: Value, *stored: Value) -> Tally | None:
    if epoch is None:
        return None
    *counters, max_time, cursor = stored
    generation, end_offset, rows, size = (int(number or 0) for number in counters)
    latest = None if max_time is None else int(max_time)
    return Tally(
        str(epoch), generation, end_offset, rows, size, latest, None if cursor is None else Cursor(str(cursor))
    )


def save(database: Database, spec: TableSpec, state: Tally | None) -> None:
    """Replace what the file knows of the dataset; within the caller's transaction."""
    counters = [getattr(state, field.name, None) for field in fields(Tally)]
    database.execute(_SAVE, (spec.name, spec.schema.serialize().to_pybytes(), keys_of(spec), *counters))


def forget(database: Database, dataset: str) -> None:
    database.execute(f"DELETE FROM {_TABLE} WHERE name = ?", (dataset,))
