"""Whether a source's schema, the stored one and the dataset's keys fit together."""

from collections.abc import Iterable

import pyarrow as pa

from caraway.config.model import Dataset, OnSchemaChange, RefreshSql, StorageMode
from caraway.core.predicate import has_raw, raw_terms
from caraway.core.window import Grain, TimeAxis
from caraway.dataset.moments import check_moments
from caraway.errors import ConfigError, ConfigProblem, SourceError
from caraway.kernels import time_literal, viewless
from caraway.model import TimeColumn, TimeFormat

_NUMERIC = (TimeFormat.UNIX_SECONDS, TimeFormat.UNIX_MILLIS, TimeFormat.UNIX_NANOS)


def projected(schema: pa.Schema, refresh_sql: RefreshSql | None, dataset: str) -> pa.Schema:
    """The table's schema: the columns that `refresh_sql` selects; ConfigError for one that is not there.

    A view type is a layout in memory, not a promise to keep; what is stored has the large type that answers have.
    """
    schema = pa.schema([field.with_type(viewless(field.type)) for field in schema])
    if refresh_sql is None or refresh_sql.columns is None:
        return schema
    missing = [name for name in refresh_sql.columns if name not in schema.names]
    if missing:
        found = ", ".join(schema.names)
        message = f"the source of dataset {dataset} has no column {', '.join(missing)}. Columns: {found}"
        raise ConfigError(ConfigProblem(message, "acceleration.refresh_sql"))
    return pa.schema([schema.field(name) for name in refresh_sql.columns])


def check_columns(schema: pa.Schema, refresh_sql: RefreshSql, dataset: str) -> None:
    """ConfigError where a changed `refresh_sql` selects other columns than the table has."""
    if refresh_sql.columns is not None and set(refresh_sql.columns) != set(schema.names):
        selected, columns = ", ".join(refresh_sql.columns), ", ".join(schema.names)
        message = f"this selects ({selected}), but the table {dataset} has the columns ({columns}); select these or *"
        raise ConfigError(ConfigProblem(message, "refresh_sql"))


def check_retention(schema: pa.Schema, config: Dataset) -> None:
    """ConfigError for a `retention_sql` that only a SQL engine could evaluate, or not over these columns."""
    acceleration = config.acceleration
    if acceleration is not None and has_raw(acceleration.retention_sql):
        message = (
            f"{', '.join(raw_terms(acceleration.retention_sql))} of dataset {config.name} can't be evaluated here; "
            "write it with comparisons, IN, LIKE, IS NULL, AND, OR and NOT over columns and constants"
        )
        raise ConfigError(ConfigProblem(message, "acceleration.retention_sql"))
    if acceleration is not None:
        check_moments(schema, acceleration.retention_sql, "retention_sql")


def time_axis(schema: pa.Schema, column: TimeColumn | None, dataset: str) -> TimeAxis | None:
    """The axis of a time column; ConfigError where it is missing or its format does not fit its type."""
    if column is None:
        return None
    kind = _time_type(schema, column, dataset)
    if not _format_fits(kind, column.format):
        message = f"column {column.name!r} of dataset {dataset} is {kind}, which is not {column.format.value}; "
        raise ConfigError(ConfigProblem(message + f"{_formats_of(kind)} fits", "time_format"))
    return TimeAxis(column.name, _grain(kind), lambda moment: time_literal(moment, kind, column.format))


def partition_axis(schema: pa.Schema, column: TimeColumn | None, dataset: str) -> TimeAxis | None:
    """As time_axis, by whole days: a partition's value stands for rows that are later than it."""
    axis = time_axis(schema, column, dataset)
    if axis is None or axis.grain is not Grain.MOMENT:
        return axis
    return TimeAxis(axis.column, Grain.DAY, axis.literal)


def storage_mode(config: Dataset) -> StorageMode:
    """How its store treats columns that changed: a table that follows all of them is updated."""
    mode = config.acceleration.mode if config.acceleration is not None else StorageMode.MEMORY
    follows = config.on_schema_change is OnSchemaChange.SYNC_ALL_COLUMNS and mode is StorageMode.FILE
    return StorageMode.FILE_UPDATE if follows else mode


def follows_schema(config: Dataset) -> bool:
    """Whether each refresh looks for changed columns, not the first of a connection alone."""
    blocks = config.on_schema_change is OnSchemaChange.BLOCK
    return config.acceleration is not None and not (blocks and config.acceleration.mode is not StorageMode.FILE_UPDATE)


def must_reopen(stored: pa.Schema, found: pa.Schema, config: Dataset, *, asked: bool) -> bool:
    """Whether the store is to be opened for `found`; if not, its columns go on. SourceError: they can't.

    `asked` says that the operator changed the columns himself, by another `refresh_sql`.
    """
    differences = _differences(stored, found)
    if not differences:
        return False
    if grows(config) and not asked:
        return _log_reopens(stored, found, config)
    policy = config.on_schema_change
    if asked or storage_mode(config) is StorageMode.FILE_UPDATE or policy is OnSchemaChange.SYNC_ALL_COLUMNS:
        return True
    if policy is OnSchemaChange.FAIL:
        raise _changed(config.name, differences, "on_schema_change is fail.")
    gone = [f"column {name!r} is gone" for name in stored.names if name not in found.names]
    if gone:
        raise _changed(config.name, gone, "The copy can't be refreshed.")
    return policy is OnSchemaChange.APPEND_NEW_COLUMNS and len(found) > len(stored)


def grows(config: Dataset) -> bool:
    """Whether rows are added to what is stored and nothing loads it anew: a stream, or what is written to."""
    return config.follows or config.from_.connector == "memory"


def _log_reopens(stored: pa.Schema, found: pa.Schema, config: Dataset) -> bool:
    """A log takes up columns that its old rows have nothing of; nothing else goes on from where it is."""
    policy = config.on_schema_change
    if storage_mode(config) is StorageMode.FILE_UPDATE or policy is OnSchemaChange.SYNC_ALL_COLUMNS:
        return True
    if policy is OnSchemaChange.FAIL:
        raise _changed(config.name, _differences(stored, found), "on_schema_change is fail.")
    both = [(old, found.field(old.name)) for old in stored if old.name in found.names]
    refused = [f"column {name!r} is gone" for name in stored.names if name not in found.names]
    refused += [f"column {old.name!r} was {old.type}, is {new.type}" for old, new in both if old.type != new.type]
    new = [field for field in found if field.name not in stored.names]
    refused += [f"new column {field.name!r} must not be null" for field in new if not field.nullable]
    if refused:
        raise (
            _changed(config.name, refused, "The stream can't go on.") if config.follows else _declared(config, refused)
        )
    return bool(new) or any(new.nullable and not old.nullable for old, new in both)


def widened(stored: pa.Schema, found: pa.Schema) -> pa.Schema:
    """The found columns, those nullable that are so in the stored ones: what is stored may have none there."""
    kept = {field.name for field in stored if field.nullable}
    return pa.schema([field.with_nullable(field.nullable or field.name in kept) for field in found])


def fits(arriving: pa.Schema, table: pa.Schema, refresh_sql: RefreshSql | None) -> bool:
    """Whether rows of a stream have the columns of the table, in the same types."""
    columns = refresh_sql.columns if refresh_sql is not None else None
    found = {field.name: viewless(field.type) for field in arriving if columns is None or field.name in columns}
    return found == {field.name: field.type for field in table}


def _changed(dataset: str, changes: Iterable[str], consequence: str) -> SourceError:
    return SourceError(
        f"The source's schema of dataset {dataset} has changed: {'; '.join(changes)}. {consequence}",
        remedy="Bring the columns back, select others with refresh_sql, or set acceleration.mode to file_update to "
        "load the table anew. The rows loaded before are still served.",
        transient=False,
    )


def _declared(config: Dataset, changes: Iterable[str]) -> SourceError:
    return SourceError(
        f"The columns of dataset {config.name} are declared otherwise than they are stored: {'; '.join(changes)}. "
        "Nothing can be written to it.",
        remedy="Declare the columns that are stored; new ones are taken up where they may be null. Or set "
        "acceleration.mode to file_update, and the table is emptied where it can't be changed. Its rows are served.",
        transient=False,
    )


def _differences(stored: pa.Schema, found: pa.Schema) -> list[str]:
    gone = [f"column {name!r} is gone" for name in stored.names if name not in found.names]
    new = [f"column {name!r} is new" for name in found.names if name not in stored.names]
    both = [name for name in stored.names if name in found.names]
    changed = [(stored.field(name), found.field(name)) for name in both]
    return gone + new + [f"column {old.name!r} was {old}, is {new}" for old, new in changed if not old.equals(new)]


def _time_type(schema: pa.Schema, column: TimeColumn, dataset: str) -> pa.DataType:
    if column.name not in schema.names:
        found = ", ".join(schema.names)
        message = f"time column {column.name!r} is not in dataset {dataset}. Columns: {found}"
        raise ConfigError(ConfigProblem(message, "time_column"))
    kind = schema.field(column.name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _grain(kind: pa.DataType) -> Grain:
    if pa.types.is_date(kind):
        return Grain.DAY
    return Grain.TEXT if _is_text(kind) else Grain.MOMENT


def _format_fits(kind: pa.DataType, time_format: TimeFormat) -> bool:
    """Timestamps and dates say themselves what they are; numbers and text need a word."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return time_format not in (*_NUMERIC, TimeFormat.ISO8601)
    if _is_text(kind):
        return time_format is TimeFormat.ISO8601
    return _is_number(kind) and time_format in _NUMERIC


def _formats_of(kind: pa.DataType) -> str:
    if _is_text(kind):
        return TimeFormat.ISO8601.value
    if _is_number(kind):
        return ", ".join(time_format.value for time_format in _NUMERIC[:-1]) + f" or {_NUMERIC[-1].value}"
    return "timestamp" if pa.types.is_timestamp(kind) else "date" if pa.types.is_date(kind) else "no time_format"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
