"""Where a `spice.ai` dataset is read: endpoint, upstream table and headers (reference/spiceai_connector.md).

Every problem is a ConfigError that begins with the name which the connector guide gives to it.
"""

import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from caraway.core.names import parse_table_ref
from caraway.errors import ConfigError, ConfigProblem

CLOUD_SUFFIX = "-prod-aws-flight.spiceai.io"
LEGACY_CLOUD_HOST = "flight.spiceai.io"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_TLS_SCHEMES = frozenset({"https", "grpc+tls"})
_SCHEMES = ("http://", "https://", "grpc://", "grpc+tls://")
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int
    tls: bool

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """`table` are the parts of its name there; `headers` go with every call; `cloud` endpoints demand a key."""

    endpoint: Endpoint
    table: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    cloud: bool = False


@dataclass(frozen=True, slots=True)
class EndpointParams:
    """What is set of `spiceai_endpoint`, its older name `spiceai_flight_endpoint`, and `spiceai_region`."""

    endpoint: str | None = None
    flight_endpoint: str | None = None
    region: str | None = None


def resolve_upstream(path: str, dataset: str, params: EndpointParams) -> Upstream:
    """What `from: spice.ai:<path>` means for a dataset of this (canonical) name; ConfigError if it means nothing."""
    table, headers = _table_of(path, dataset)
    endpoint = resolve_endpoint(path, params)
    return Upstream(endpoint, table, headers, cloud=endpoint.host.endswith(CLOUD_SUFFIX))


def resolve_endpoint(path: str, params: EndpointParams) -> Endpoint:
    """The explicit endpoint, else the one that the path is, else the cloud's of the region; ConfigError."""
    for key, url in (
        ("spiceai_endpoint", params.endpoint),
        ("spiceai_flight_endpoint", params.flight_endpoint),
        ("from", path if _is_endpoint(path) else None),
    ):
        if url:
            return _in_region(parse_endpoint(url, key), params.region)
    return _cloud_endpoint(_region(params.region))


def parse_endpoint(url: str, key: str = "spiceai_endpoint") -> Endpoint:
    """Host, port and transport of a URL; ConfigError names the parameter, not the value: it may hold a password."""
    parts, port = _split(url, key)
    if parts.scheme not in _TLS_SCHEMES | _DEFAULT_PORTS.keys():
        found = f"{parts.scheme}:// is not" if "://" in url else "without a scheme it is not"
        _fail(key, f"UnsupportedEndpointScheme: {found} supported; use https:// or grpc+tls://, or http:// without TLS")
    if not parts.hostname:
        _fail(key, "InvalidParameterValue: the endpoint names no host; write it as https://host:port")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        _fail(
            key,
            "InvalidParameterValue: an endpoint is scheme, host and port only; the table is named by "
            "`from: spice.ai/<table>`, the key by `spiceai_api_key`",
        )
    port = port or _DEFAULT_PORTS.get(parts.scheme)
    if port is None:
        _fail(key, "InvalidPort: grpc+tls:// has no default port; add one, as in grpc+tls://host:50051")
    return Endpoint(parts.hostname, port, tls=parts.scheme in _TLS_SCHEMES)


def _split(url: str, key: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        _fail(key, "InvalidParameterValue: the endpoint is not a URL; write it as https://host:port")
    return parts, port


def _in_region(endpoint: Endpoint, region: str | None) -> Endpoint:
    if endpoint.host == LEGACY_CLOUD_HOST:
        return _cloud_endpoint(_region(region))
    if endpoint.host.endswith(CLOUD_SUFFIX) and endpoint.host != _region(region) + CLOUD_SUFFIX:
        _fail(
            "spiceai_region",
            f"CloudEndpointRegionMismatch: the endpoint {endpoint.host} is not the one of region {region!r}; set both "
            "to the same region, or leave `spiceai_endpoint` out",
        )
    return endpoint


def _cloud_endpoint(region: str) -> Endpoint:
    return Endpoint(region + CLOUD_SUFFIX, 443, tls=True)


def _region(region: str | None) -> str:
    if not region:
        _fail(
            "spiceai_region",
            "MissingRequiredParameter: region; set `spiceai_region` (such as us-east-1) for the cloud, or "
            "`spiceai_endpoint` for a runtime of your own",
        )
    if not _REGION.fullmatch(region):
        _fail("spiceai_region", f"InvalidRegion: {region!r}; a region is lower-case letters, digits and inner hyphens")
    return region


def _table_of(path: str, dataset: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    if _is_endpoint(path):
        return tuple(dataset.split(".")), ()
    match path.split("/"):
        case [org, app, "datasets", name]:
            return _table_ref(name), (("spiceai-org", _header(org)), ("spiceai-app", _header(app)))
        case _:
            return _table_ref(path), ()


def _table_ref(text: str) -> tuple[str, ...]:
    """As DataFusion reads it: up to three dotted parts; anything else is one name as it stands."""
    if not text:
        _fail("from", "InvalidParameterValue: no upstream table is named; write `from: spice.ai/<table>`")
    try:
        parts = parse_table_ref(text)
    except ValueError:
        return (text,)
    return parts if len(parts) <= 3 else (text,)


def _header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        _fail("from", f"InvalidMetadataValue: {value!r}; organisation and app are plain ASCII text")
    return value


def _is_endpoint(path: str) -> bool:
    return path.startswith(_SCHEMES)


def _fail(key: str, message: str) -> NoReturn:
    raise ConfigError(ConfigProblem(message, key if key == "from" else f"params.{key}"))
