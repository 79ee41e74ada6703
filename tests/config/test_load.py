"""Good pods: every key, every default, every alias with its warning."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from caraway.config.load import load
from caraway.config.model import (
    Acceleration,
    Access,
    ApiKeyAuth,
    Caching,
    CatalogDecl,
    ColumnDecl,
    Cors,
    Dataset,
    Engine,
    FlightLimits,
    FromUri,
    OnSchemaChange,
    OnZeroResults,
    OtelExporter,
    QueryLimits,
    ReadyState,
    RefreshMode,
    RefreshOnStartup,
    RefreshSql,
    ResultsCacheConfig,
    Runtime,
    SecretStoreDecl,
    Spicepod,
    StorageMode,
    TaskHistory,
    TelemetryConfig,
    Tls,
    Tracing,
    View,
)
from caraway.core.predicate import Compare, Literal
from caraway.model import Index, OnConflict, TimeColumn, TimeFormat

FULL = Path(__file__).parent / "full_pod.yaml"
HEAD = "version: v2\nkind: Spicepod\nname: app\n"


def pod(folder: Path, text: str, *overrides: str) -> Spicepod:
    (folder / "spicepod.yaml").write_text(HEAD + text)
    return load(folder, overrides)


LATER = """
    runtime.caching.sql_results.warmup runtime.telemetry runtime.task_history runtime.cpu runtime.tracing
    runtime.mcp datasets[0].has_metadata_table datasets[0].check_availability
    datasets[0].metrics datasets[0].acceleration.params.query_federation datasets[0].acceleration.metrics
"""


def test_what_is_not_done_yet_is_said() -> None:
    said = {warning.split(": ", 1)[1] for warning in load(FULL).warnings}
    unknown = {f"runtime.params.{key}: this has no effect here" for key in ("geo", "on")}
    assert said == unknown | {f"{key}: this has no effect in this version" for key in LATER.split()}


@pytest.mark.parametrize(("written", "seconds"), [("5m", 300.0), ("90", 90.0), ("off", math.inf), ("", None)])
def test_the_acceptable_lag(tmp_path: Path, written: str, seconds: float | None) -> None:
    text = f"datasets: [{{from: 'file:x.csv', name: t, acceleration: {{params: {{acceptable_lag: {written}}}}}}}]"
    acceleration = pod(tmp_path, text).datasets[0].acceleration
    assert acceleration is not None
    assert acceleration.acceptable_lag == seconds


def test_every_key_of_runtime() -> None:
    found = load(FULL)
    assert found.runtime == Runtime(
        http_bind_address="0.0.0.0:8091",
        flight_bind_address="[::1]:0",
        auth=ApiKeyAuth(enabled=False, keys=("a:rw", "${secrets:B}")),
        dataset_load_parallelism=3,
        sql_results=ResultsCacheConfig(
            enabled=False,
            max_size=1024**3,
            item_ttl=10.0,
            eviction_policy="tiny_lfu",
            cache_key_type="sql",
            encoding="zstd",
            hashing_algorithm="siphash",
            stale_while_revalidate_ttl=300.0,
            warmup="on_first_refresh",
        ),
        params={"geo": "us", "http_max_concurrent_requests": "5", "on": "true"},
        shutdown_timeout=90.0,
        tls=Tls(True, certificate_file=Path("cert.pem"), key="${secrets:KEY}"),
        cors=Cors(True, ("http://localhost",)),
        query=QueryLimits(10**9, Path("/var/tmp"), "lz4_frame", 0, 30.0, 2, 2),
        flight=FlightLimits(16_000_000, do_put_rate_limit_enabled=False, ipc_compression="zstd"),
        telemetry=TelemetryConfig(
            enabled=False,
            user_agent_collection="disabled",
            properties={"site": "edge-1"},
            metric_prefix="caraway.",
            otel_exporter=OtelExporter("otel:4317", False, 5.0, ("a", "b"), {"x-key": "1"}),
        ),
        task_history=TaskHistory(False, "truncated", "explain analyze", 0.005, 0.01, 86400.0, 60.0),
        metrics={"dataset_acceleration_ingestion_lag_ms": True, "dataset_load_state": False},
        cpu_cores=3.5,
        tracing=Tracing(True, "http://z:9411/api/v2/spans"),
        mcp_allowed_hosts=("*",),
        output_level="verbose",
        ready_state=ReadyState.ON_REGISTRATION,
    )


def test_the_defaults_are_those_of_the_reference(tmp_path: Path) -> None:
    found = pod(
        tmp_path, "datasets: [{from: spice.ai/a.b, name: x, acceleration: {}}]\nviews: [{name: v, sql: select 1}]\n"
    )
    assert found == Spicepod(
        "app",
        "v2",
        tmp_path,
        datasets=(Dataset("x", FromUri("spice.ai", "a.b", "spice.ai/a.b"), acceleration=Acceleration()),),
        views=(View("v", "select 1"),),
    )
    runtime, acceleration = found.runtime, Acceleration()
    assert (runtime.shutdown_timeout, runtime.sql_results.max_size, runtime.sql_results.item_ttl) == (30.0, 2**27, 1.0)
    assert (runtime.task_history.retention_period, runtime.task_history.retention_check_interval) == (28800.0, 900.0)
    assert (acceleration.engine, acceleration.mode) == (Engine.ARROW, StorageMode.MEMORY)
    assert (acceleration.refresh_mode, acceleration.refresh_retry_enabled) == (RefreshMode.FULL, True)
    assert found.secrets == (SecretStoreDecl("env", "env"),)


def test_every_key_of_a_dataset() -> None:
    found = load(FULL)
    assert found.secrets == (
        SecretStoreDecl("env", "env"),
        SecretStoreDecl("creds", "file", "/run/secrets", {"path": "/run/secrets"}),
        SecretStoreDecl("more", "file", params={"path": "creds"}),
    )
    assert found.datasets[0] == Dataset(
        name="sales.orders",
        from_=FromUri("spice.ai", "https://core.example.com:50051", "spice.ai:https://core.example.com:50051"),
        description="All orders",
        metadata={"owner": "ops", "tags": '["a", "1", null]', "_location": "enabled"},
        columns=(ColumnDecl("id", "bigint not null", "The key", {"json_object": "*"}),),
        access=Access.READ,
        params={"spiceai_api_key": "${creds:KEY}", "max_message_size": "16MB"},
        time_column=TimeColumn("at", TimeFormat.UNIX_MILLIS),
        time_partition_column=TimeColumn("day", TimeFormat.DATE),
        acceleration=Acceleration(
            engine=Engine.SQLITE,
            mode=StorageMode.FILE_UPDATE,
            refresh_mode=RefreshMode.APPEND,
            refresh_check_interval=30.0,
            refresh_sql=RefreshSql(
                "SELECT id, at FROM sales.orders WHERE id > 5", ("id", "at"), Compare("id", ">", Literal(5, "int64"))
            ),
            refresh_data_window=604800.0,
            refresh_append_overlap=300.0,
            refresh_retry_enabled=False,
            refresh_retry_max_attempts=4,
            refresh_on_startup=RefreshOnStartup.ALWAYS,
            refresh_jitter_enabled=True,
            refresh_jitter_max=10.0,
            retention_check_enabled=True,
            retention_period=2592000.0,
            retention_sql=Compare("id", "<", Literal(3, "int64")),
            retention_check_interval=3600.0,
            on_zero_results=OnZeroResults.USE_SOURCE,
            primary_key=("id", "at"),
            indexes=(Index(("b", "c"), unique=True), Index(("d",))),
            on_conflict=OnConflict.UPSERT_LAST,
            on_conflict_columns=("at", "id"),
            params={"sqlite_file": "x.db"},
            acceptable_lag=300.0,
            query_federation=False,
            metrics={"n": True},
        ),
        has_metadata_table=True,
        ready_state=ReadyState.ON_REGISTRATION,
        on_schema_change=OnSchemaChange.APPEND_NEW_COLUMNS,
        replication_enabled=True,
        check_availability="disabled",
        depends_on=("Sales.orders",),
        metrics={"m": False},
    )


def test_what_is_written_to_is_not_refreshed_and_always_stored(tmp_path: Path) -> None:
    text = "datasets: [{from: 'memory:m', name: m, access: read_write, columns: [{name: a, type: int}]%s}]\n"
    plain = pod(tmp_path, text % "").datasets[0]
    assert plain.acceleration == Acceleration(refresh_mode=RefreshMode.DISABLED)
    stored = (
        pod(tmp_path, text % ", acceleration: {engine: sqlite, mode: file, primary_key: a}").datasets[0].acceleration
    )
    assert stored is not None
    assert (stored.refresh_mode, stored.engine, stored.primary_key) == (RefreshMode.DISABLED, Engine.SQLITE, ("a",))


def test_a_conflict_may_drop_on_every_key_at_once(tmp_path: Path) -> None:
    block = "{primary_key: a, indexes: {b: unique}, on_conflict: {a: drop, b: drop}}"
    found = (
        pod(tmp_path, f"datasets: [{{from: synthetic:x, name: x, acceleration: {block}}}]\n").datasets[0].acceleration
    )
    assert found is not None
    assert (found.on_conflict, found.on_conflict_columns) == (OnConflict.DROP, ("a",))


def test_views_take_their_sql_from_the_file_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "v.sql").write_text("select 2\n")
    text = """
    views:
    - {name: V, sql_ref: v.sql, description: d, metadata: {a: b}, columns: [{name: c}], ready_state: on_registration,
       dependsOn: [v], acceleration: {engine: parquet, mode: file, refresh_cron: "0 * * * *"}}
    """
    view = pod(tmp_path, text.replace("\n    ", "\n")).views[0]
    acceleration = Acceleration(engine=Engine.PARQUET, mode=StorageMode.FILE, refresh_cron="0 * * * *")
    assert view == View(
        "v", "select 2\n", "d", {"a": "b"}, (ColumnDecl("c"),), acceleration, ReadyState.ON_REGISTRATION, ("v",)
    )


def test_references_are_read_beside_the_pod_and_relative_to_themselves(tmp_path: Path) -> None:
    for folder, name, text in (
        ("sets/a", "dataset.yaml", "from: synthetic:a\nname: a\ndependsOn: [z]\n"),
        ("sets/b", "dataset.yml", "from: synthetic:b\nname: b\n"),
        ("v", "view.yaml", "name: v\nsql_ref: v.sql\n"),
        ("v", "v.sql", "select 3"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    found = pod(tmp_path, "datasets: [{ref: sets/a, dependsOn: [y]}, {ref: sets/b}]\nviews: [{ref: v}]\n")
    assert [(dataset.name, dataset.depends_on) for dataset in found.datasets] == [("a", ("y", "z")), ("b", ())]
    assert found.views == (View("v", "select 3"),)


def test_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "spicepod.yml").write_text(HEAD.replace("app", "yml"))
    (tmp_path / "other.conf").write_text(HEAD.replace("app", "other"))
    assert load(tmp_path).name == "yml"
    assert load(tmp_path / "other.conf").name == "other"
    (tmp_path / "spicepod.yaml").write_text("\ufeff" + HEAD.replace("v2", "v1"), encoding="utf-8")
    assert (load(tmp_path).name, load(tmp_path).version, load(tmp_path).directory) == ("app", "v1", tmp_path)


def test_overrides_replace_and_add_values_below_runtime(tmp_path: Path) -> None:
    text = "runtime: {task_history: &t {enabled: true, captured_output: none}, query: {workers: 1, timeout: 5s}}\n"
    overrides = (
        "task_history.captured_output=truncated",
        "runtime.query.timeout=10s",
        "query.workers=2",
        "query.workers=3",
        "caching.sql_results.enabled=false",
        "cors.allowed_origins=[a, b]",
        "metrics=",
    )
    runtime = pod(tmp_path, text, *overrides).runtime
    assert runtime.task_history == TaskHistory(captured_output="truncated")
    assert runtime.query == QueryLimits(timeout=10.0, workers=3)
    assert runtime.sql_results == ResultsCacheConfig(enabled=False)
    assert runtime.cors.allowed_origins == ("a", "b")


YAML_1_2 = [
    ("on", "on"),
    ("yes", "yes"),
    ("1:30", "1:30"),
    ("0o17", "0o17"),
    ("1_000", "1_000"),
    ("2026-01-01", "2026-01-01"),
]


@pytest.mark.parametrize(("written", "read"), YAML_1_2)
def test_scalars_are_text_unless_a_key_wants_something_else(tmp_path: Path, written: str, read: str) -> None:
    assert pod(tmp_path, f"metadata: {{a: {written}}}\n").metadata == {"a": read}


def test_anchors_may_repeat_a_block(tmp_path: Path) -> None:
    text = """
datasets:
- {from: synthetic:a, name: a, acceleration: &fast {refresh_check_interval: 5s}}
- {from: synthetic:b, name: b, acceleration: *fast}
"""
    first, second = pod(tmp_path, text).datasets
    assert first.acceleration == second.acceleration == Acceleration(refresh_check_interval=5.0)


def test_catalogs_and_dependencies_are_carried(tmp_path: Path) -> None:
    found = pod(
        tmp_path, "catalogs: [{from: 'spice.ai:x', name: c, params: {spiceai_region: r}}]\ndependencies: [a/b]\n"
    )
    assert found.catalogs == (CatalogDecl("c", FromUri("spice.ai", "x", "spice.ai:x"), {"spiceai_region": "r"}),)
    assert found.dependencies == ("a/b",)


def test_defaults_of_caching_are_those_of_the_user(tmp_path: Path) -> None:
    assert Caching() == Caching(0.0, 0.0, 0.0, None, None)
    assert replace(Caching(), stale_if_error=math.inf) != Caching()


SIDECAR = """
runtime:
  http:
    bind_address: 127.0.0.1:8090 # localhost-only, sidecar talks to the app
datasets:
- from: spice.ai:https://upstream-spice.spiceai.svc.cluster.local:50051
  name: orders
  time_column: updated_at
  params:
    spiceai_api_key: ${secrets:SIDECAR_API_KEY}
    spiceai_tls_ca_certificate_file: /etc/spice/cluster-ca.pem
  acceleration:
    enabled: true
    refresh_mode: append
    refresh_check_interval: 30s
- from: spice.ai:https://core.example.com:50051
  name: historical_orders
"""


def test_a_sidecar_as_users_write_it(tmp_path: Path) -> None:
    found = pod(tmp_path, SIDECAR)
    assert found.warnings == ()
    assert found.runtime.http_bind_address == "127.0.0.1:8090"
    assert found.datasets[1].acceleration is None


def test_what_may_be_a_secret_in_plain_text_is_in_no_repr(tmp_path: Path) -> None:
    text = """
runtime:
  params: {a: hunter2}
  auth: {api-key: {keys: ["hunter2:rw"]}}
  tls: {enabled: true, certificate_file: c, key: hunter2}
  telemetry: {otel_exporter: {endpoint: "http://h", headers: {authorization: hunter2}}}
secrets: [{from: file, params: {path: hunter2}}]
datasets: [{name: a, params: {spiceai_api_key: hunter2}}]
catalogs: [{from: spice.ai, name: c, params: {spiceai_api_key: hunter2}}]
"""
    found = pod(tmp_path, text)
    assert found.datasets[0].params == {"spiceai_api_key": "hunter2"}
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("keys", "primary_key"),
    [
        ("{}", ("id",)),
        ("{refresh_mode: changes}", ("id",)),
        ("{primary_key: n}", ("n",)),
        ("{refresh_mode: append}", ()),
        ("{refresh_check_interval: 1m}", ()),
        ("{refresh_sql: select id from t}", ("id",)),
        ("{refresh_sql: select n from t}", ()),
    ],
)
def test_a_localpod_has_the_key_of_its_parent(tmp_path: Path, keys: str, primary_key: tuple[str, ...]) -> None:
    columns = "columns: [{name: id, type: bigint}, {name: n, type: bigint}]"
    found = pod(
        tmp_path,
        f"""
datasets:
  - {{name: t, from: 'localpod:Middle', acceleration: {keys}}}
  - {{name: middle, from: 'localpod:top', acceleration: {{}}}}
  - {{name: top, from: 'memory:top', {columns}, acceleration: {{primary_key: id}}}}
""",
    )
    assert found.datasets[0].acceleration is not None
    assert found.datasets[0].acceleration.primary_key == primary_key


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://anna:hush@api.test/x?at=@", "https://anna:***@api.test/x?at=@"),
        ("https://anna:hu@sh@api.test", "https://anna:***@api.test"),
        ("https://anna@api.test/a:b@c", "https://anna@api.test/a:b@c"),
        ("spice.ai:http://core.test:50051", "spice.ai:http://core.test:50051"),
    ],
)
def test_a_password_in_from_is_not_shown(text: str, shown: str) -> None:
    assert FromUri("https", "", text).shown == shown
