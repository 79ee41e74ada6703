"""Keys that contradict each other or lack each other (reference/spicepod.md 5, 6; refresh.md)."""

import math
from collections.abc import Mapping

from caraway.config.connectors import evaluates_sql, requests, streams
from caraway.config.model import LOCALPOD, STREAMS_ONLY, Acceleration, Engine, RefreshMode, StorageMode
from caraway.config.section import Section
from caraway.core.predicate import Predicate, has_raw, raw_terms
from caraway.model import OnConflict, TimeColumn

VIEW = "view"
"""Stands for the connector where a view is accelerated."""

_SIMPLE = "compare columns with values, or with now() plus or minus an INTERVAL of weeks, days, hours, minutes, seconds"

_LEAST_STREAM_LAG = 2.0

_BY_REQUEST = ("primary_key", "on_conflict", "indexes")

Targets = Mapping[tuple[str, ...], OnConflict]


def check_acceleration(
    section: Section, acceleration: Acceleration, time_column: TimeColumn | None, *, connector: str, targets: Targets
) -> None:
    """Note every conflict of one acceleration block that is enabled."""
    _check_mode(section, acceleration, connector)
    _check_later(section, acceleration)
    _check_caching(section, acceleration, connector)
    _check_stream(section, acceleration, time_column, connector)
    _check_schedule(section, acceleration)
    _check_lag(section, acceleration, time_column, connector)
    _check_time(section, time_column)
    _check_retention(section, acceleration)
    _check_conditions(section, acceleration, connector)
    _check_targets(section, acceleration, targets)


def _check_later(section: Section, acceleration: Acceleration) -> None:
    """What a later version brings."""
    if acceleration.refresh_mode is RefreshMode.SNAPSHOT:
        section.problem("refresh_mode", "refresh_mode snapshot is not available in this version")


def _check_caching(section: Section, acceleration: Acceleration, connector: str) -> None:
    """Answers to requests are kept whole, by request, within budgets."""
    if acceleration.refresh_mode is not RefreshMode.CACHING:
        return
    if connector == VIEW or not requests(connector):
        section.problem(
            "refresh_mode",
            f"refresh_mode caching keeps the answers of an API by request, which {_source(connector)} does not have; "
            "use it with http or https",
        )
    params, caching = section.section("params"), acceleration.caching
    for name, bound in (("caching_max_size", caching.max_size), ("caching_max_items", caching.max_items)):
        if bound == 0:
            params.problem(name, "this must be greater than zero")
    for key in _BY_REQUEST:
        if section.has(key):
            section.warn(key, "this has no effect with refresh_mode caching, which replaces answers whole, by request")
    for key in ("on_zero_results", "refresh_data_window", "refresh_append_overlap"):
        if section.has(key):
            section.warn(key, "this has no effect with refresh_mode caching")


def _check_stream(section: Section, acceleration: Acceleration, time_column: TimeColumn | None, connector: str) -> None:
    """A stream needs a source that has one, and is not fetched by a schedule."""
    mode = acceleration.refresh_mode
    bare = mode is RefreshMode.APPEND and time_column is None
    if not bare and mode is not RefreshMode.CHANGES:
        return
    if connector == VIEW or not streams(connector):
        what = "append without a time_column" if bare else "changes"
        section.problem(
            "refresh_mode",
            f"refresh_mode {what} is a stream, which {_source(connector)} does not have{_instead(bare, connector)}",
        )
        return
    for key in ("refresh_check_interval", "refresh_cron", "refresh_data_window", "refresh_append_overlap"):
        if section.has(key):
            section.warn(key, "this has no effect on a stream, which brings what is new by itself")


def _source(connector: str) -> str:
    return "a view" if connector == VIEW else f"the {connector} connector"


def _instead(bare: bool, connector: str) -> str:
    return (
        "; set the dataset's time_column to fetch what is newer at every refresh" if bare and connector != VIEW else ""
    )


def _check_mode(section: Section, acceleration: Acceleration, connector: str) -> None:
    if acceleration.engine is Engine.ARROW and acceleration.mode is not StorageMode.MEMORY:
        section.problem(
            "mode", "the arrow engine keeps its data in memory; choose engine sqlite or parquet, or mode memory"
        )
    if connector == "memory" and section.has("refresh_mode"):
        section.problem("refresh_mode", "a memory: dataset is written to and has no source to refresh from")
    if connector in STREAMS_ONLY and acceleration.refresh_mode is not RefreshMode.APPEND:
        section.problem("refresh_mode", "a WebSocket brings rows as they come; its refresh_mode is append")
    if connector == VIEW and acceleration.refresh_mode in (RefreshMode.CACHING, RefreshMode.SNAPSHOT):
        section.problem("refresh_mode", "a view can only have refresh_mode full or append")


def _check_schedule(section: Section, acceleration: Acceleration) -> None:
    if section.has("refresh_cron") and section.has("refresh_check_interval"):
        section.problem(
            "refresh_cron", "Both 'refresh_cron' and 'refresh_check_interval' were specified; one of them is enough"
        )
    if acceleration.refresh_check_interval == 0:
        section.problem("refresh_check_interval", "this must be greater than zero")
    append = acceleration.refresh_mode is RefreshMode.APPEND
    if section.has("refresh_append_overlap") and not append:
        section.warn("refresh_append_overlap", "this has no effect without refresh_mode append")
    window = acceleration.refresh_mode in (RefreshMode.APPEND, RefreshMode.FULL)
    if section.has("refresh_data_window") and not window:
        section.warn("refresh_data_window", "this has no effect without refresh_mode full or append")


def _check_lag(section: Section, acceleration: Acceleration, time_column: TimeColumn | None, connector: str) -> None:
    """A window that the dataset can't keep to would be an Error that comes and goes."""
    lag = acceleration.acceptable_lag
    if lag is None or lag == math.inf:
        return
    params, every = section.section("params"), acceleration.refresh_check_interval
    if acceleration.refresh_mode is RefreshMode.DISABLED:
        params.warn("acceptable_lag", "this has no effect on a memory: dataset, which is its own source")
    elif not _is_fetched(acceleration, time_column, connector):
        if lag < _LEAST_STREAM_LAG:
            params.warn(
                "acceptable_lag", "a single late message is too late for so little, so the status may come and go"
            )
    elif every is None and acceleration.refresh_cron is None:
        params.warn("acceptable_lag", "nothing refreshes this dataset by itself, so it is in Error once it is older")
    elif every is not None and lag <= every:
        params.warn("acceptable_lag", "this is not more than refresh_check_interval, so each refresh comes too late")


def _is_fetched(acceleration: Acceleration, time_column: TimeColumn | None, connector: str) -> bool:
    if connector in (LOCALPOD, *STREAMS_ONLY):
        return acceleration.refresh_check_interval is not None
    append = acceleration.refresh_mode is RefreshMode.APPEND and time_column is not None
    return append or acceleration.refresh_mode is RefreshMode.FULL


def _check_time(section: Section, time_column: TimeColumn | None) -> None:
    for key in ("refresh_data_window", "refresh_append_overlap", "retention_period"):
        if section.has(key) and time_column is None:
            section.problem(key, "this needs the dataset's time_column")


def _check_retention(section: Section, acceleration: Acceleration) -> None:
    asked = section.has("retention_period") or section.has("retention_sql")
    if not acceleration.retention_check_enabled:
        if asked:
            section.warn("retention_check_enabled", "nothing is removed while this is not true")
        return
    if acceleration.retention_check_interval is None:
        section.problem("retention_check_enabled", "this needs retention_check_interval")
    elif acceleration.retention_check_interval == 0:
        section.problem("retention_check_interval", "this must be greater than zero")
    if not asked:
        section.problem("retention_check_enabled", "this needs retention_period or retention_sql")


def _check_conditions(section: Section, acceleration: Acceleration, connector: str) -> None:
    """A condition that nobody could evaluate later is refused now."""
    if has_raw(acceleration.retention_sql):
        section.problem("retention_sql", f"{_raw(acceleration.retention_sql)} can't be evaluated here; {_SIMPLE}")
    wanted = acceleration.refresh_sql.predicate if acceleration.refresh_sql is not None else None
    if has_raw(wanted) and not evaluates_sql(connector):
        section.problem("refresh_sql", f"the {connector} connector can't evaluate {_raw(wanted)}; {_SIMPLE}")


def _raw(predicate: Predicate | None) -> str:
    return ", ".join(raw_terms(predicate))


def _check_targets(section: Section, acceleration: Acceleration, targets: Targets) -> None:
    unique = [set(index.columns) for index in acceleration.indexes if index.unique]
    keys = [set(acceleration.primary_key), *unique] if acceleration.primary_key else unique
    for columns in targets:
        if set(columns) not in keys:
            section.problem(
                "on_conflict", f"the target ({', '.join(columns)}) is neither the primary key nor a unique index"
            )
    drops = all(action is OnConflict.DROP for action in targets.values())
    if len(targets) > 1 and not (drops and len(targets) == len(keys)):
        names = "; ".join(", ".join(columns) for columns in targets)
        section.problem("on_conflict", f"Only one on_conflict target can be specified: {names}")
