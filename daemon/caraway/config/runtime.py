"""The `runtime:` section (reference/spicepod.md 3)."""

import re
from collections.abc import Mapping
from pathlib import Path

from caraway.config.cache import read_caching
from caraway.config.connectors import RUNTIME_PARAMS
from caraway.config.metrics import read_metrics
from caraway.config.model import (
    ApiKeyAuth,
    Cors,
    FlightLimits,
    OtelExporter,
    QueryLimits,
    ReadyState,
    Runtime,
    TaskHistory,
    TelemetryConfig,
    Tls,
    Tracing,
)
from caraway.config.nodes import did_you_mean
from caraway.config.section import Section

_OUT_OF_SCOPE = ("source_rate_control", "functions", "scheduler")
_LATER = ("telemetry", "task_history", "cpu", "tracing", "mcp")
_LEAST_RETENTION = 60.0
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,127}")
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+|\*?):(\d{1,5})", re.ASCII)
_CORES = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(m?)", re.ASCII)


def read_runtime(section: Section) -> Runtime:
    """All of `runtime:`; what is wrong in it is noted in the section's findings."""
    section.out_of_scope(*_OUT_OF_SCOPE)
    section.without_effect(*_LATER)
    flight_address, flight = _flight(section.section("flight"))
    runtime = Runtime(
        http_bind_address=_http(section.section("http")),
        flight_bind_address=flight_address,
        auth=_auth(section.section("auth")),
        dataset_load_parallelism=section.integer("dataset_load_parallelism", least=1),
        sql_results=read_caching(section),
        params=_params(section),
        shutdown_timeout=section.seconds("shutdown_timeout", 30.0, positive=True),
        tls=_tls(section.section("tls")),
        cors=_cors(section.section("cors")),
        query=_query(section),
        flight=flight,
        telemetry=_telemetry(section.section("telemetry")),
        task_history=_task_history(section.section("task_history")),
        metrics=read_metrics(section),
        cpu_cores=_cpu(section.section("cpu")),
        tracing=_tracing(section.section("tracing")),
        mcp_allowed_hosts=_mcp(section.section("mcp")),
        output_level=section.word("output_level", "info", "verbose", "very_verbose"),
        ready_state=_ready_state(section),
    )
    section.close()
    return runtime


def _params(runtime: Section) -> Mapping[str, str]:
    params = runtime.section("params")
    for name in params.names():
        if name not in RUNTIME_PARAMS:
            params.warn(name, f"this has no effect here{did_you_mean(name, RUNTIME_PARAMS)}")
    return runtime.scalars("params")


def _http(section: Section) -> str | None:
    address = section.parsed("bind_address", _address, None)
    section.close()
    return address


def _flight(section: Section) -> tuple[str | None, FlightLimits]:
    address = section.parsed("bind_address", _address, None)
    limits = FlightLimits(
        max_message_size=section.size("max_message_size"),
        do_put_rate_limit_enabled=section.flag("do_put_rate_limit_enabled", True),
        ipc_compression=section.word("ipc_compression", "none", "lz4_frame", "zstd"),
    )
    section.close(strict=False)
    return address, limits


def _auth(section: Section) -> ApiKeyAuth | None:
    section.out_of_scope("oidc")
    both = [section.section(key) for key in ("api-key", "api_key")]
    section.close()
    if all(spelling.present for spelling in both):
        section.problem("api-key", "this stands here twice, as api-key and as api_key")
    keys = next((spelling for spelling in both if spelling.present), None)
    if keys is None:
        return None
    auth = ApiKeyAuth(enabled=keys.flag("enabled", True), keys=keys.texts("keys"))
    if auth.enabled and keys.is_empty("keys"):
        keys.problem("keys", "no key is listed, so nobody could get in; list keys, or set enabled to false")
    for number, key in enumerate(auth.keys):
        if key in ("", ":ro", ":rw"):
            keys.problem("keys", f"key {number} is empty, so everybody could get in")
    keys.close()
    return auth


def _tls(section: Section) -> Tls | None:
    if not section.present:
        return None
    _enterprise(section)
    tls = Tls(
        enabled=_required_flag(section, "enabled"),
        certificate=section.optional_text("certificate"),
        certificate_file=section.parsed("certificate_file", Path, None),
        key=section.optional_text("key"),
        key_file=section.parsed("key_file", Path, None),
    )
    for inline, file in (("certificate", "certificate_file"), ("key", "key_file")):
        if tls.enabled and section.has(inline) == section.has(file):
            section.problem(inline, f"exactly one of {inline} and {file} is needed")
    section.close()
    return tls


def _enterprise(section: Section) -> None:
    mode = section.word("client_auth_mode", "none", "request", "required")
    if mode != "none" or section.has("client_auth_ca") or section.has("client_auth_ca_file"):
        section.problem("client_auth_mode", "checking client certificates is not available in this version")


def _cors(section: Section) -> Cors:
    cors = Cors(section.flag("enabled", False), section.texts("allowed_origins") or Cors().allowed_origins)
    section.close()
    return cors


def _query(runtime: Section) -> QueryLimits:
    section = runtime.section("query")
    limits = QueryLimits(
        memory_limit=_moved(runtime, section, "memory_limit").size("memory_limit"),
        temp_directory=_moved(runtime, section, "temp_directory").parsed("temp_directory", Path, None),
        spill_compression=section.word("spill_compression", "zstd", "lz4_frame", "uncompressed"),
        max_concurrent_queries=section.integer("max_concurrent_queries"),
        timeout=section.duration("timeout"),
        target_partitions=section.integer("target_partitions", least=1),
        workers=section.integer("workers", 1, least=1) or 1,
    )
    if limits.timeout == 0:
        section.problem("timeout", "this must be greater than zero")
    section.close(strict=False)
    return limits


def _moved(runtime: Section, query: Section, key: str) -> Section:
    """Where a key of `runtime.query` stands: there, or in its deprecated place."""
    if runtime.has(key):
        runtime.warn(key, f"this key is deprecated; use runtime.query.{key}")
        return query if query.has(key) else runtime
    return query


def _telemetry(section: Section) -> TelemetryConfig:
    telemetry = TelemetryConfig(
        enabled=section.flag("enabled", True),
        user_agent_collection=section.word("user_agent_collection", "full", "disabled"),
        properties=section.scalars("properties"),
        metric_prefix=section.parsed("metric_prefix", _prefix, ""),
        otel_exporter=_otel_exporter(section.section("otel_exporter")),
    )
    section.close()
    return telemetry


def _otel_exporter(section: Section) -> OtelExporter | None:
    if not section.present:
        return None
    exporter = OtelExporter(
        endpoint=section.required_text("endpoint"),
        enabled=section.flag("enabled", True),
        push_interval=section.seconds("push_interval", 60.0, positive=True),
        metrics=section.texts("metrics"),
        headers=section.scalars("headers"),
    )
    _check_headers(section, exporter)
    section.close()
    return exporter


def _check_headers(section: Section, exporter: OtelExporter) -> None:
    http = exporter.endpoint.startswith(("http://", "https://")) or "/v1/metrics" in exporter.endpoint
    for name in exporter.headers:
        if not http and not (name.isascii() and name == name.lower()):
            section.problem("headers", f"the key {name!r} must be lower-case ASCII for a gRPC endpoint")


def _task_history(section: Section) -> TaskHistory:
    plans = {word: word for word in ("none", "explain", "explain analyze")}
    history = TaskHistory(
        enabled=section.flag("enabled", True),
        captured_output=section.word("captured_output", "none", "truncated"),
        captured_plan=section.parsed("captured_plan", lambda text: _plan(text, plans), "none"),
        min_sql_duration=section.duration("min_sql_duration"),
        min_plan_duration=section.duration("min_plan_duration"),
        retention_period=section.seconds("retention_period", 8 * 3600.0, least=_LEAST_RETENTION),
        retention_check_interval=section.seconds("retention_check_interval", 15 * 60.0, least=_LEAST_RETENTION),
    )
    section.close()
    return history


def _tracing(section: Section) -> Tracing | None:
    if not section.present:
        return None
    tracing = Tracing(_required_flag(section, "zipkin_enabled"), section.optional_text("zipkin_endpoint"))
    if tracing.zipkin_enabled and not tracing.zipkin_endpoint:
        section.problem("zipkin_endpoint", "this is needed where zipkin_enabled is true")
    section.close()
    return tracing


def _cpu(section: Section) -> float | None:
    cores = section.parsed("cores", _cores, None)
    section.close()
    return cores


def _mcp(section: Section) -> tuple[str, ...]:
    hosts = section.texts("allowed_hosts")
    section.close()
    return hosts or Runtime().mcp_allowed_hosts


def _ready_state(section: Section) -> ReadyState:
    both = (ReadyState.ON_LOAD, ReadyState.ON_REGISTRATION)
    return section.choice("ready_state", {state.value: state for state in both}, ReadyState.ON_LOAD)


def _required_flag(section: Section, key: str) -> bool:
    if not section.has(key):
        section.problem("", f"missing field `{key}`")
    return section.flag(key, False)


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[1]) > 65535:
        raise ValueError(f"found {text!r}, expected host:port such as 127.0.0.1:8090")
    return text


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(
            f"found {text!r}; a metric prefix begins with an ASCII letter, holds letters, digits and _ . - /, "
            "and is at most 128 long"
        )
    return text


def _plan(text: str, allowed: dict[str, str]) -> str:
    if text.lower() not in allowed:
        raise ValueError(f"found {text!r}, allowed: {', '.join(allowed)}")
    return allowed[text.lower()]


def _cores(text: str) -> float | None:
    if text in ("auto", "all"):
        return None
    match = _CORES.fullmatch(text)
    cores = float(match[1]) / (1000 if match[2] else 1) if match else 0.0
    if cores <= 0:
        raise ValueError(f"found {text!r}, expected auto, a number of cores such as 4 or 3.5, or millicores as 3500m")
    return cores
