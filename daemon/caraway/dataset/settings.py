"""What the keys of a dataset mean for its actor."""

import math
from dataclasses import dataclass, replace
from functools import partial

from caraway.config.cron import local_zone, next_fire
from caraway.config.model import Acceleration, Dataset, RefreshMode, RefreshOnStartup, RefreshSql, StorageMode
from caraway.core import row_cache
from caraway.core.predicate import raw_terms
from caraway.core.refresh import Policy
from caraway.core.row_cache import ENTRY_COLUMN
from caraway.core.row_index import Budget
from caraway.core.schedule import NextFire, Schedule, Startup
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import Index, OnConflict

_FETCHING = (RefreshMode.FULL, RefreshMode.APPEND)
_JITTER_SHARE = 0.1
_CACHE_BYTES = {StorageMode.MEMORY: 128 * 1024**2}
_CACHE_FILE_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Settings:
    """`accelerated` is false where the dataset is read at its source; nothing is refreshed or removed then."""

    accelerated: bool
    acceleration: Acceleration
    schedule: Schedule
    policy: Policy

    @property
    def mode(self) -> RefreshMode:
        return self.acceleration.refresh_mode

    @property
    def evicts_every(self) -> float:
        """Seconds between retention checks; infinity: no retention."""
        interval = self.acceleration.retention_check_interval
        return interval if interval is not None and self.acceleration.retention_check_enabled else math.inf

    @property
    def caches(self) -> bool:
        """Whether the answers of an API are kept by request (refresh_mode caching)."""
        return self.accelerated and self.mode is RefreshMode.CACHING

    @property
    def freshness(self) -> row_cache.Policy:
        keys = self.acceleration.caching
        return row_cache.Policy(keys.ttl, keys.stale_while_revalidate, keys.stale_if_error)

    @property
    def budget(self) -> Budget:
        """What cached answers may take: never without a bound, since requests have none."""
        usual = _CACHE_BYTES.get(self.acceleration.mode, _CACHE_FILE_BYTES)
        asked = self.acceleration.caching
        return Budget(asked.max_size or usual, asked.max_items)

    def startup(self, refresh_sql: str | None) -> Startup:
        always = self.acceleration.refresh_on_startup is RefreshOnStartup.ALWAYS
        return Startup(self.mode is RefreshMode.APPEND, always, refresh_sql)


def settings_of(config: Dataset) -> Settings:
    """The settings of a dataset; ConfigError for a refresh mode that there is not, or not for its keys."""
    acceleration = config.acceleration
    if acceleration is None or not acceleration.enabled:
        return Settings(False, Acceleration(refresh_mode=RefreshMode.DISABLED), Schedule(), Policy())
    _check_mode(config, acceleration)
    retries = acceleration.refresh_retry_max_attempts if acceleration.refresh_retry_enabled else 0
    return Settings(True, acceleration, _schedule(acceleration), Policy(retries))


def fetch_mode(text: str | None, usual: RefreshMode) -> RefreshMode:
    """The mode of one refresh by the override of a request; ConfigError for one that does not fetch."""
    if text is None:
        return usual
    allowed = {mode.value: mode for mode in _FETCHING}
    if text not in allowed:
        raise ConfigError(
            ConfigProblem(f"{text!r} is not possible for one refresh; use full or append", "refresh_mode")
        )
    return allowed[text]


def _check_mode(config: Dataset, acceleration: Acceleration) -> None:
    mode = acceleration.refresh_mode
    if config.follows:
        check_streamed(acceleration.refresh_sql, config.name)
    elif mode not in (*_FETCHING, RefreshMode.CACHING, RefreshMode.DISABLED):
        message = f"refresh_mode {mode.value} is not available for dataset {config.name}; use full, append or changes"
        raise ConfigError(ConfigProblem(message, "acceleration.refresh_mode"))


def check_streamed(refresh_sql: RefreshSql | None, dataset: str) -> None:
    """ConfigError for a condition that is the source's to evaluate: here it is asked of rows that have arrived."""
    terms = raw_terms(refresh_sql.predicate) if refresh_sql is not None else ()
    if terms:
        message = f"{', '.join(terms)} can't be evaluated on the rows of a stream (dataset {dataset}); "
        remedy = "compare columns with values, by comparisons, IN, LIKE, IS NULL, AND, OR and NOT"
        raise ConfigError(ConfigProblem(message + remedy, "acceleration.refresh_sql"))


def engine_keys(acceleration: Acceleration) -> Acceleration:
    """The acceleration as its engine is to see it: cached answers are found by entry, whatever their rows hold."""
    if acceleration.refresh_mode is not RefreshMode.CACHING:
        return acceleration
    return replace(acceleration, primary_key=(), on_conflict=OnConflict.REJECT, indexes=(Index((ENTRY_COLUMN,)),))


def stream_conflict(config: Dataset) -> OnConflict:
    """What a stored key does to an arriving row: in a stream the newest word on a key counts, unless it is dropped."""
    acceleration = config.acceleration
    if acceleration is None or acceleration.refresh_mode is RefreshMode.CACHING:
        return OnConflict.REJECT
    asked = acceleration.on_conflict
    if not config.follows or asked is OnConflict.DROP or (asked is OnConflict.REJECT and not acceleration.primary_key):
        return asked
    return OnConflict.UPSERT_LAST


def _schedule(acceleration: Acceleration) -> Schedule:
    if acceleration.refresh_mode is RefreshMode.DISABLED:
        return Schedule()
    interval, pattern = acceleration.refresh_check_interval, acceleration.refresh_cron
    jitter = acceleration.refresh_jitter_max
    if jitter is None:
        jitter = _JITTER_SHARE * (interval or 0.0)
    bare = Schedule(interval, _cron(pattern) if pattern is not None else None)
    return replace(bare, jitter=jitter) if acceleration.refresh_jitter_enabled else bare


def _cron(pattern: str) -> NextFire:
    return partial(next_fire, pattern, zone=local_zone())
