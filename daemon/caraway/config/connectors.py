"""Which connectors there are, how each refreshes by default, and the parameters that each one reads."""

from dataclasses import dataclass

from caraway.config.model import LOCALPOD, FromUri, RefreshMode
from caraway.config.nodes import did_you_mean
from caraway.config.section import Section
from caraway.core.names import split_from


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """`prefix` is what the runtime demands before a parameter's name; `params` are the full names.

    `sql` says that the source evaluates any condition, not only those that are a predicate here; `streams` that it
    tells of changes as they happen; `requests` that its rows are answers to requests, which refresh_mode caching keeps.
    """

    params: frozenset[str] = frozenset()
    prefix: str = ""
    sql: bool = False
    streams: bool = False
    requests: bool = False
    refresh_mode: RefreshMode = RefreshMode.FULL


_SPICE = """
    spiceai_api_key spiceai_token spiceai_region spiceai_endpoint spiceai_flight_endpoint
    spiceai_tls_ca_certificate_file spiceai_tls_client_certificate_file spiceai_tls_client_key_file
    spiceai_tls_client_certificate spiceai_tls_client_key max_message_size
"""
_FILE = """
    file_format file_extension file_compression_type csv_has_header csv_quote csv_escape csv_delimiter
    tsv_has_header tsv_quote tsv_escape tsv_delimiter
"""
_WEBSOCKET = """
    ws_subprotocol ws_headers ws_first_message ws_sequence_field ws_sequence_start ws_ping_interval
    ws_max_message_size ws_tls_ca_certificate_file
"""
_HTTP = """
    http_port http_username http_password http_headers file_format health_probe
    allowed_request_paths request_query_filters request_body_filters request_header_filters request_header_allowlist
    max_request_query_length max_request_body_bytes max_request_headers_length max_request_partitions
    client_timeout connect_timeout pool_max_idle_per_host pool_idle_timeout
    max_retries retry_backoff_method retry_max_duration retry_jitter
    pagination pagination_next_pointer pagination_link_header pagination_token_param pagination_data_pointer
    pagination_max_pages pagination_data_map_to_array pagination_query_params pagination_page_size
    auth_token_url auth_grant_type http_auth_refresh_token http_auth_client_id http_auth_client_secret auth_scopes
    auth_client_auth auth_header_name
    http_tls_ca_certificate_file http_tls_client_certificate_file http_tls_client_key_file http_tls_client_certificate
    http_tls_client_key
    response_cache_max_size_bytes response_cache_fallback_ttl
    file_extension file_compression_type csv_has_header csv_quote csv_escape csv_delimiter
    tsv_has_header tsv_quote tsv_escape tsv_delimiter
"""
_RATE_CONTROL = """
    max_concurrent_requests requests_per_second_limit requests_per_minute_limit rate_control_jitter_min
    rate_control_jitter_max rate_control_failure_threshold rate_control_window rate_control_acquire_timeout
"""
RUNTIME_PARAMS = frozenset(f"http_{name}" for name in _RATE_CONTROL.split())
"""What `runtime.params` can set for all origins at once."""
_WEB = ConnectorKind(frozenset((_HTTP + _RATE_CONTROL).split()), prefix="http_", requests=True)
_WEBSOCKETS = ConnectorKind(frozenset(_WEBSOCKET.split()), prefix="ws_", streams=True, refresh_mode=RefreshMode.APPEND)
AVAILABLE = {
    "spice.ai": ConnectorKind(frozenset(_SPICE.split()), prefix="spiceai_", sql=True, streams=True),
    "file": ConnectorKind(frozenset(_FILE.split())),
    "synthetic": ConnectorKind(frozenset({"rows", "rate", "seed", "start"})),
    "memory": ConnectorKind(refresh_mode=RefreshMode.DISABLED),
    LOCALPOD: ConnectorKind(streams=True),
    "http": _WEB,
    "https": _WEB,
    "ws": _WEBSOCKETS,
    "wss": _WEBSOCKETS,
}

_LATER = """
    abfs adbc clickhouse databricks debezium delta_lake dremio duckdb dynamodb elasticsearch flightsql ftp gcs git
    github glue graphql iceberg imap kafka mongodb mssql mysql nfs odbc oracle postgres s3 scylladb
    sftp sharepoint sink smb snowflake spark turso unity_catalog
"""
LATER = frozenset(_LATER.split())
"""Connectors that the Spice runtime or a later version knows and this version does not have."""

TYPE_ACTION_CONNECTORS = frozenset({"duckdb", "postgres"})
"""Where unsupported_type_action means something (reference/spicepod.md 4)."""


def read_from(section: Section) -> FromUri:
    """`from:` of a dataset, with a problem noted where its connector is not available."""
    text = section.text("from")
    connector, path = split_from(text)
    if connector not in AVAILABLE:
        section.problem("from", _complaint(connector))
    return FromUri(connector, path, text)


def default_refresh_mode(connector: str) -> RefreshMode:
    return AVAILABLE.get(connector, ConnectorKind()).refresh_mode


def streams(connector: str) -> bool:
    """Whether its sources tell of changes; one that is not known gets no second problem for it."""
    return connector not in AVAILABLE or AVAILABLE[connector].streams


def requests(connector: str) -> bool:
    """Whether refresh_mode caching can keep its answers; one that is not known gets no second problem for it."""
    return connector not in AVAILABLE or AVAILABLE[connector].requests


def evaluates_sql(connector: str) -> bool:
    """Whether a refresh_sql may hold any condition; one that is not known gets no second problem for it."""
    return connector not in AVAILABLE or AVAILABLE[connector].sql


def check_params(section: Section, connector: str) -> None:
    """Warn of the parameters that the connector does not read; it ignores them, as the Spice runtime does."""
    kind = AVAILABLE.get(connector)
    if kind is None:
        return
    params = section.section("params")
    for name in params.names():
        if name not in kind.params:
            params.warn(name, f"the {connector} connector ignores this parameter{_hint(name, kind)}")


def _hint(name: str, kind: ConnectorKind) -> str:
    prefixed = kind.prefix + name
    return f"; did you mean {prefixed!r}?" if prefixed in kind.params else did_you_mean(name, kind.params)


def _complaint(connector: str) -> str:
    there = f"available: {', '.join(AVAILABLE)}"
    if connector in LATER:
        return f"the connector {connector!r} is not available in this version; {there}"
    return f"there is no connector {connector!r}; {there}{did_you_mean(connector, AVAILABLE)}"
