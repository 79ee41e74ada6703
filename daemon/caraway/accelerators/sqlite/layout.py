"""The tables of one dataset in a SQLite file: names, columns, definitions."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from caraway.accelerators.sqlite.codec import Codec, Stored, codec_of
from caraway.accelerators.sqlite.sql import quoted
from caraway.accelerators.storage import conflict_key
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import OFFSET_COLUMN, TableSpec

GONE_COLUMN = "__caraway_gone"
"""The generation that removed the row; NULL while it is there. Readers of older snapshots still see it."""
OFFSET, GONE = quoted(OFFSET_COLUMN), quoted(GONE_COLUMN)
_MAX_COLUMNS = 1_990
"""SQLite's limit is 2,000 columns a table."""


@dataclass(frozen=True, slots=True)
class Names:
    """One epoch's tables; nested columns lie in the second, in batches."""

    dataset: str
    epoch: str

    @property
    def rows(self) -> str:
        return f"{self.dataset}/{self.epoch}"

    @property
    def chunks(self) -> str:
        return chunk_table(self.rows)


def chunk_table(rows: str) -> str:
    """The table that holds the nested columns of a table."""
    return f"{rows}/nested"


class Layout:
    """Which column of a table stands where."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.codecs: dict[str, Codec] = {field.name: codec_of(field.type) for field in schema}
        self.types: dict[str, pa.DataType] = {field.name: field.type for field in schema}
        self.in_table = [name for name, codec in self.codecs.items() if codec.in_table]
        self.in_chunks = [name for name, codec in self.codecs.items() if codec.stored is Stored.CHUNK]

    def columns(self) -> str:
        """What INSERT and SELECT name: the offset, then the columns of the table."""
        return ", ".join((OFFSET, *map(quoted, self.in_table)))

    def definition(self) -> str:
        """The columns as CREATE TABLE wants them."""
        columns = "".join(f", {quoted(name)} {self.codecs[name].stored.name}" for name in self.in_table)
        return f"{OFFSET} INTEGER PRIMARY KEY, {GONE} INTEGER{columns}"

    def create(self, names: Names) -> list[str]:
        """The statements that make an epoch's empty tables."""
        rows = f"CREATE TABLE {quoted(names.rows)} ({self.definition()})"
        return [rows, create_chunks(names)] if self.in_chunks else [rows]


def create_chunks(names: Names) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(names.chunks)}"
        " (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, batch BLOB NOT NULL)"
    )


def unique_keys(spec: TableSpec) -> list[tuple[str, ...]]:
    """The sets of columns whose values may not come twice; the target of `on_conflict` first."""
    unique = [columns for columns in (spec.primary_key, *(i.columns for i in spec.indexes if i.unique)) if columns]
    return sorted(dict.fromkeys(unique), key=lambda columns: columns != conflict_key(spec))


def indexes(spec: TableSpec, names: Names) -> list[str]:
    """The statements that make an epoch's indexes; they know only the rows that are there."""
    keys = unique_keys(spec)
    plain = [index.columns for index in spec.indexes if not index.unique]
    statements = [_index(names, columns, "UNIQUE INDEX") for columns in keys]
    statements += [_index(names, columns, "INDEX") for columns in dict.fromkeys(plain) if columns not in keys]
    gone = f"CREATE INDEX {quoted(f'{names.rows}/gone')} ON {quoted(names.rows)} ({GONE}) WHERE {GONE} IS NOT NULL"
    return [*statements, gone]


def _index(names: Names, columns: Sequence[str], what: str) -> str:
    name = quoted(f"{names.rows}/{','.join(columns)}")
    return f"CREATE {what} {name} ON {quoted(names.rows)} ({', '.join(map(quoted, columns))}) WHERE {GONE} IS NULL"


def check(spec: TableSpec) -> None:
    """ConfigError for what a SQLite table can't hold."""
    seen: dict[str, str] = {OFFSET_COLUMN: OFFSET_COLUMN, GONE_COLUMN: GONE_COLUMN}
    problems = []
    for name in spec.schema.names:
        other = seen.setdefault(name.lower(), name)
        if other != name or name in {OFFSET_COLUMN, GONE_COLUMN}:
            problems.append(
                f"column {name!r} differs from column {other!r} in case only, which SQLite can't tell apart"
            )
        if "\x00" in name or not name:
            problems.append(f"column {name!r} has no name that SQLite can hold")
    if len(spec.schema) > _MAX_COLUMNS:
        problems.append(f"{len(spec.schema)} columns are more than the {_MAX_COLUMNS} that SQLite can hold")
    named = [*spec.primary_key, *(column for index in spec.indexes for column in index.columns)]
    for name in named:
        kind = spec.schema.field(name).type
        if not codec_of(kind).in_table:
            problems.append(f"column {name!r} of type {kind} can't be a key or indexed")
    if problems:
        remedy = "Leave it out by refresh_sql or choose another engine."
        raise ConfigError(*(ConfigProblem(f"dataset {spec.name}: {p}. {remedy}", "acceleration") for p in problems))
