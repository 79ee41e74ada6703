"""The `acceleration:` block of a dataset or a view (reference/spicepod.md 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from caraway.config.connectors import default_refresh_mode
from caraway.config.cron import check_cron
from caraway.config.engines import read_caching, read_engine, read_params
from caraway.config.model import (
    Acceleration,
    Engine,
    OnZeroResults,
    RefreshMode,
    RefreshOnStartup,
    StorageMode,
)
from caraway.config.rules import check_acceleration
from caraway.config.section import Section
from caraway.config.sql import refresh_sql_of, retention_sql_of
from caraway.core.names import parse_column_ref
from caraway.model import Index, OnConflict, TimeColumn

T = TypeVar("T")

_REFRESH_MODES = {mode.value: mode for mode in RefreshMode if mode is not RefreshMode.DISABLED}
_SNAPSHOTS = (
    "snapshots",
    "snapshots_trigger",
    "snapshots_trigger_threshold",
    "snapshots_compaction",
    "snapshots_reset_expiry_on_load",
    "snapshots_creation_policy",
)
_TUNING = ("partition_by", "storage_profile", "maintained_aggregates")
_ACTIONS = {action.value: action for action in OnConflict if action is not OnConflict.REJECT}


@dataclass(frozen=True, slots=True)
class Subject:
    """What an acceleration block belongs to."""

    name: str
    connector: str
    """"view" for a view."""
    time_column: TimeColumn | None = None


def read_acceleration(section: Section, subject: Subject) -> Acceleration:
    """All of the block; what is wrong in it, and which keys contradict each other, is noted in the findings."""
    engine = read_engine(section)
    mode = section.choice("refresh_mode", _REFRESH_MODES, default_refresh_mode(subject.connector))
    params = read_params(section, engine)
    on_conflict = _on_conflict(section)
    acceleration = Acceleration(
        enabled=section.flag("enabled", True),
        engine=engine,
        mode=section.member("mode", StorageMode.MEMORY),
        refresh_mode=mode,
        refresh_check_interval=section.duration("refresh_check_interval"),
        refresh_cron=section.parsed("refresh_cron", check_cron, None),
        refresh_sql=_sql(section, "refresh_sql", refresh_sql_of, subject.name),
        refresh_data_window=section.duration("refresh_data_window"),
        refresh_append_overlap=section.seconds("refresh_append_overlap", 0.0),
        refresh_retry_enabled=section.flag("refresh_retry_enabled", True),
        refresh_retry_max_attempts=section.integer("refresh_retry_max_attempts"),
        refresh_on_startup=section.member("refresh_on_startup", RefreshOnStartup.AUTO),
        refresh_jitter_enabled=section.flag("refresh_jitter_enabled", False),
        refresh_jitter_max=section.duration("refresh_jitter_max"),
        retention_check_enabled=section.flag("retention_check_enabled", False),
        retention_period=section.duration("retention_period"),
        retention_sql=_sql(section, "retention_sql", retention_sql_of, subject.name),
        retention_check_interval=section.duration("retention_check_interval"),
        on_zero_results=section.member("on_zero_results", OnZeroResults.RETURN_EMPTY),
        primary_key=section.parsed("primary_key", parse_column_ref, ()),
        indexes=_indexes(section),
        on_conflict=next(iter(on_conflict.values()), OnConflict.REJECT),
        on_conflict_columns=next(iter(on_conflict), ()),
        params=params.own,
        acceptable_lag=params.acceptable_lag,
        query_federation=params.query_federation,
        caching=read_caching(section, mode),
        metrics=section.switches("metrics"),
    )
    _accept_the_rest(section)
    section.close()
    return _checked(section, acceleration, subject, on_conflict)


def _checked(
    section: Section, acceleration: Acceleration, subject: Subject, targets: Mapping[tuple[str, ...], OnConflict]
) -> Acceleration:
    if not acceleration.enabled:
        ignored = [key for key in section.names() if key not in ("enabled", "ready_state")]
        if ignored:
            section.warn("enabled", f"acceleration is not enabled, so these keys are ignored: {', '.join(ignored)}")
        return acceleration
    if targets and acceleration.engine is Engine.ARROW and not acceleration.primary_key:
        section.warn("on_conflict", "this is ignored: the arrow engine needs a primary_key for it")
        acceleration, targets = replace(acceleration, on_conflict=OnConflict.REJECT, on_conflict_columns=()), {}
    check_acceleration(section, acceleration, subject.time_column, connector=subject.connector, targets=targets)
    return acceleration


def _sql(section: Section, key: str, parse: Callable[[str, str], T], name: str) -> T | None:
    """A statement about the dataset; without a good name there is nothing to compare its table with."""
    return section.parsed(key, lambda text: parse(text, name), None) if section.has(key) and name else None


def _indexes(section: Section) -> tuple[Index, ...]:
    return tuple(
        Index(columns, unique=kind == "unique")
        for columns, kind in _by_columns(section, "indexes", {"enabled": "enabled", "unique": "unique"}).items()
    )


def _on_conflict(section: Section) -> Mapping[tuple[str, ...], OnConflict]:
    return _by_columns(section, "on_conflict", _ACTIONS)


def _by_columns(section: Section, key: str, allowed: Mapping[str, T]) -> dict[tuple[str, ...], T]:
    """A map whose keys are references to columns."""
    below = section.section(key)
    found: dict[tuple[str, ...], T] = {}
    first = next(iter(allowed.values()))
    for name in below.names():
        try:
            columns = parse_column_ref(name)
        except ValueError as error:
            below.problem(name, str(error))
            continue
        if columns in found:
            below.problem(name, "these columns stand here twice")
        found[columns] = below.choice(name, allowed, first)
    return found


def _accept_the_rest(section: Section) -> None:
    """Keys of the Spice runtime that have nothing to set here; the dataset itself reads `ready_state`."""
    section.has("ready_state")
    section.without_effect("metrics")
    section.out_of_scope(*_SNAPSHOTS)
    for key in _TUNING:
        if section.has(key):
            section.warn(key, "this has no effect here")
    if section.word("write_mode", "write_through", "write_back") == "write_back":
        section.problem("write_mode", "write_back is not available in this version")
