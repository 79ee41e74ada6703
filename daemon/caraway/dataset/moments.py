"""Conditions that compare columns with now(): whether they fit the columns, and what they mean at one moment."""

from dataclasses import replace

import pyarrow as pa

from caraway.config.model import RefreshSql
from caraway.core.predicate import Predicate, bind_now, relative_columns
from caraway.errors import ConfigError, ConfigProblem
from caraway.ports import Source


async def at_moment(refresh_sql: RefreshSql | None, source: Source, now: int) -> RefreshSql | None:
    """What it selects at a moment (nanoseconds since 1970 UTC); ConfigError as check_moments."""
    if refresh_sql is None or refresh_sql.predicate is None or not relative_columns(refresh_sql.predicate):
        return refresh_sql
    check_moments(await source.schema(), refresh_sql.predicate, "refresh_sql")
    return replace(refresh_sql, predicate=bind_now(refresh_sql.predicate, now))


def check_moments(schema: pa.Schema, predicate: Predicate | None, key: str) -> None:
    """ConfigError for a column that is compared with now() but holds neither timestamps nor dates."""
    for name in sorted(relative_columns(predicate) & set(schema.names)):
        kind = schema.field(name).type
        if not _tells_time(kind):
            message = f"column {name!r} is {kind}, which can't be compared with now(): only timestamps and dates can; "
            remedy = "for an age in another type set time_column with refresh_data_window or retention_period"
            raise ConfigError(ConfigProblem(message + remedy, f"acceleration.{key}"))


def _tells_time(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_timestamp(inner) or pa.types.is_date(inner))
