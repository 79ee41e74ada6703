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
    tells of changes as they happen.
    """

    params: frozenset[str] = frozenset()
    prefix: str = ""
    sql: bool = False
    streams: bool = False
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
_WEBSOCKETS = ConnectorKind(frozenset(_WEBSOCKET.split()), prefix="ws_", streams=True, refresh_mode=RefreshMode.APPEND)
AVAILABLE = {
    "spice.ai": ConnectorKind(frozenset(_SPICE.split()), prefix="spiceai_", sql=True, streams=True),
    "file": ConnectorKind(frozenset(_FILE.split())),
    "synthetic": ConnectorKind(frozenset({"rows", "rate", "seed", "start"})),
    "memory": ConnectorKind(refresh_mode=RefreshMode.DISABLED),
    LOCALPOD: ConnectorKind(streams=True),
    "ws": _WEBSOCKETS,
    "wss": _WEBSOCKETS,
}

_LATER = """
    abfs adbc clickhouse databricks debezium delta_lake dremio duckdb dynamodb elasticsearch flightsql ftp gcs git
    github glue graphql http https iceberg imap kafka mongodb mssql mysql nfs odbc oracle postgres s3 scylladb
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
