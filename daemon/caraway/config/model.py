"""A loaded spicepod: frozen dataclasses named after the keys of reference/spicepod.md, defaults as given there.

Durations are float seconds, sizes bytes, names lower-cased where the file did not quote them. Strings inside
`params` may hold secret references (`${secrets:KEY}`), which are resolved on use, never here; since they may hold a
secret itself as well, no repr shows them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from caraway.core.predicate import Predicate
from caraway.model import Index, OnConflict, TimeColumn

Params: TypeAlias = Mapping[str, str]
EMPTY: Params = MappingProxyType({})
_PASSWORD = re.compile(r"(://[^/?#@:]*:)[^/?#]*@")


LOCALPOD = "localpod"
STREAMS_ONLY = frozenset({"ws", "wss"})
"""Connectors of sources that can't be read otherwise."""


class Engine(Enum):
    ARROW = "arrow"
    SQLITE = "sqlite"
    PARQUET = "parquet"  # also spelt `cayenne`


class StorageMode(Enum):
    MEMORY = "memory"
    FILE = "file"
    FILE_CREATE = "file_create"
    FILE_UPDATE = "file_update"


class RefreshMode(Enum):
    FULL = "full"
    APPEND = "append"
    CHANGES = "changes"
    CACHING = "caching"
    SNAPSHOT = "snapshot"
    DISABLED = "disabled"  # no YAML value: `memory:` datasets are written to, not refreshed


class ReadyState(Enum):
    ON_LOAD = "on_load"
    ON_REGISTRATION = "on_registration"
    ON_SCHEMA_RESOLVED = "on_schema_resolved"


class OnZeroResults(Enum):
    RETURN_EMPTY = "return_empty"
    USE_SOURCE = "use_source"


class RefreshOnStartup(Enum):
    AUTO = "auto"
    ALWAYS = "always"


class OnSchemaChange(Enum):
    BLOCK = "block"
    FAIL = "fail"
    APPEND_NEW_COLUMNS = "append_new_columns"
    SYNC_ALL_COLUMNS = "sync_all_columns"


class Access(Enum):
    READ = "read"
    READ_WRITE = "read_write"


@dataclass(frozen=True, slots=True)
class RefreshSql:
    """`SELECT columns FROM self [WHERE predicate]`; `columns` None is `*`."""

    text: str
    columns: tuple[str, ...] | None
    predicate: Predicate | None


@dataclass(frozen=True, slots=True)
class Caching:
    """`caching_*` of acceleration.params, for refresh_mode caching."""

    ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    """Seconds past the ttl; 0: never, inf: however old."""
    max_size: int | None = None
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class Acceleration:
    enabled: bool = True
    engine: Engine = Engine.ARROW
    mode: StorageMode = StorageMode.MEMORY
    refresh_mode: RefreshMode = RefreshMode.FULL
    refresh_check_interval: float | None = None
    refresh_cron: str | None = None
    refresh_sql: RefreshSql | None = None
    refresh_data_window: float | None = None
    refresh_append_overlap: float = 0.0
    refresh_retry_enabled: bool = True
    refresh_retry_max_attempts: int | None = None
    refresh_on_startup: RefreshOnStartup = RefreshOnStartup.AUTO
    refresh_jitter_enabled: bool = False
    refresh_jitter_max: float | None = None
    """None: a tenth of refresh_check_interval."""
    retention_check_enabled: bool = False
    retention_period: float | None = None
    retention_sql: Predicate | None = None
    """The WHERE of `DELETE FROM self WHERE ..`."""
    retention_check_interval: float | None = None
    on_zero_results: OnZeroResults = OnZeroResults.RETURN_EMPTY
    primary_key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    on_conflict: OnConflict = OnConflict.REJECT
    on_conflict_columns: tuple[str, ...] = ()
    """The target as written; must equal the primary key or a unique index."""
    params: Params = field(default_factory=dict, repr=False)
    """Those that the engine itself reads; the common ones are the fields below."""
    acceptable_lag: float | None = None
    """Seconds without proof of being current until an Error; infinity: never; None: 60 for streams, else never."""
    query_federation: bool = True
    caching: Caching = Caching()
    metrics: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ColumnDecl:
    name: str
    type: str | None = None
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FromUri:
    """`from:` split: `spice.ai:http://h:1` is connector `spice.ai`, path `http://h:1`; `text` is what was written."""

    connector: str
    path: str = field(repr=False)
    text: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The text, for those who must not see a password that stands in it."""
        return _PASSWORD.sub(r"\1***@", self.text)


@dataclass(frozen=True, slots=True)
class Dataset:
    name: str
    from_: FromUri
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[ColumnDecl, ...] = ()
    access: Access = Access.READ
    params: Params = field(default_factory=dict, repr=False)
    time_column: TimeColumn | None = None
    time_partition_column: TimeColumn | None = None
    acceleration: Acceleration | None = None
    """None: queried at the source."""
    has_metadata_table: bool = False
    unsupported_type_action: str = "error"
    ready_state: ReadyState = ReadyState.ON_LOAD
    on_schema_change: OnSchemaChange = OnSchemaChange.BLOCK
    replication_enabled: bool = False
    check_availability: str = "auto"
    check_availability_interval: float | None = None
    depends_on: tuple[str, ...] = ()
    metrics: Mapping[str, bool] = field(default_factory=dict)

    @property
    def follows(self) -> bool:
        """Whether a stream feeds it; else it is fetched, written to, or read at its source."""
        keys = self.acceleration
        match keys.refresh_mode if keys is not None else None:
            case RefreshMode.CHANGES:
                return True
            case RefreshMode.APPEND:
                return self.time_column is None or self.from_.connector in STREAMS_ONLY
            case RefreshMode.FULL if self.from_.connector == LOCALPOD and keys is not None:
                return keys.refresh_check_interval is None and keys.refresh_cron is None
            case _:
                return False


@dataclass(frozen=True, slots=True)
class View:
    name: str
    sql: str
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[ColumnDecl, ...] = ()
    acceleration: Acceleration | None = None
    ready_state: ReadyState = ReadyState.ON_LOAD
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogDecl:
    name: str
    from_: FromUri
    params: Params = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class SecretStoreDecl:
    """`secrets: [{from: env, name: env, params: {..}}]`; `selector` is what follows the colon of `from`."""

    name: str
    store: str
    selector: str = ""
    params: Params = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ApiKeyAuth:
    """`keys` as written: text that may hold secret references, then optionally `:ro` or `:rw`."""

    enabled: bool = True
    keys: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    enabled: bool
    certificate: str | None = None
    certificate_file: Path | None = None
    key: str | None = field(default=None, repr=False)
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Cors:
    enabled: bool = False
    allowed_origins: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class QueryLimits:
    memory_limit: int | None = None
    """Bytes; None: 90 % of what the machine or its cgroup allows."""
    temp_directory: Path | None = None
    spill_compression: str = "zstd"
    max_concurrent_queries: int | None = None
    """None: 4 per core; 0: unbounded."""
    timeout: float | None = None
    target_partitions: int | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True)
class FlightLimits:
    max_message_size: int | None = None
    do_put_rate_limit_enabled: bool = True
    ipc_compression: str = "none"


@dataclass(frozen=True, slots=True)
class ResultsCacheConfig:
    enabled: bool = True
    max_size: int = 128 * 1024**2
    item_ttl: float = 1.0
    eviction_policy: str = "lru"
    cache_key_type: str = "plan"
    encoding: str = "none"
    hashing_algorithm: str = "xxh3"
    stale_while_revalidate_ttl: float = 0.0
    warmup: str = "disabled"


@dataclass(frozen=True, slots=True)
class TaskHistory:
    enabled: bool = True
    captured_output: str = "none"
    captured_plan: str = "none"
    min_sql_duration: float | None = None
    min_plan_duration: float | None = None
    retention_period: float = 8 * 3600.0
    retention_check_interval: float = 15 * 60.0


@dataclass(frozen=True, slots=True)
class OtelExporter:
    endpoint: str
    enabled: bool = True
    push_interval: float = 60.0
    metrics: tuple[str, ...] = ()
    headers: Params = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    enabled: bool = True
    user_agent_collection: str = "full"
    properties: Params = field(default_factory=dict)
    metric_prefix: str = ""
    otel_exporter: OtelExporter | None = None


@dataclass(frozen=True, slots=True)
class Tracing:
    zipkin_enabled: bool
    zipkin_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    http_bind_address: str | None = None
    """`runtime.http.bind_address` (seeds); flags override it."""
    flight_bind_address: str | None = None
    metrics_bind_address: str | None = None
    auth: ApiKeyAuth | None = None
    dataset_load_parallelism: int | None = None
    sql_results: ResultsCacheConfig = ResultsCacheConfig()
    params: Params = field(default_factory=dict, repr=False)
    shutdown_timeout: float = 30.0
    tls: Tls | None = None
    cors: Cors = Cors()
    query: QueryLimits = QueryLimits()
    flight: FlightLimits = FlightLimits()
    telemetry: TelemetryConfig = TelemetryConfig()
    task_history: TaskHistory = TaskHistory()
    metrics: Mapping[str, bool] = field(default_factory=dict)
    cpu_cores: float | None = None
    """None: auto."""
    tracing: Tracing | None = None
    mcp_allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    output_level: str = "info"
    ready_state: ReadyState = ReadyState.ON_LOAD


@dataclass(frozen=True, slots=True)
class Spicepod:
    name: str
    version: str
    directory: Path
    """Relative paths in the file are relative to this; `.env` is looked for here."""
    runtime: Runtime = Runtime()
    secrets: tuple[SecretStoreDecl, ...] = (SecretStoreDecl("env", "env"),)
    datasets: tuple[Dataset, ...] = ()
    views: tuple[View, ...] = ()
    catalogs: tuple[CatalogDecl, ...] = ()
    dependencies: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What loaded but deserves a word: deprecated aliases, sections out of scope."""
