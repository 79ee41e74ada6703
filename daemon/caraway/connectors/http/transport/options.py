"""How a dataset's API is asked, as its `params` say (reference/http_connector.md, docs/spicepod.md)."""

import re
import ssl
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from caraway.config.params import ConnectorParams
from caraway.connectors.http.transport.headers import Headers, basic_header, read_headers
from caraway.connectors.http.transport.limits import read_acquire_timeout, read_limits
from caraway.connectors.http.transport.oauth import OAuth, read_oauth
from caraway.connectors.http.transport.tls import read_tls
from caraway.core.http_retry import Backoff, RetryPolicy
from caraway.core.http_urls import origin_of
from caraway.core.rate_control import NO_LIMITS, Limits

CLIENT_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
POOL_IDLE_TIMEOUT = 90.0
POOL_MAX_IDLE = 10
USUAL_RETRIES = 3
MOST_RETRIES = 100
MOST_IDLE = 1000
LONGEST_PROBE = 2048
_JITTER = re.compile(r"0?\.\d{1,9}|[01](\.0{1,9})?", re.ASCII)
_PATH = re.compile(r"/[!-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Durations in seconds; no repr shows a secret. `acquire_timeout` None is not set."""

    origin: str
    """`scheme://host:port`; requests go there alone."""
    client_timeout: float = CLIENT_TIMEOUT
    connect_timeout: float = CONNECT_TIMEOUT
    pool_max_idle: int = POOL_MAX_IDLE
    pool_idle_timeout: float = POOL_IDLE_TIMEOUT
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = NO_LIMITS
    acquire_timeout: float | None = None
    headers: Headers = ()
    """Sent with each request that does not name them itself."""
    oauth: OAuth | None = None
    tls: ssl.SSLContext | None = None
    health_probe: str | None = None
    """A path that must answer 2xx; None: one that is not there, and may answer anything."""


async def read_transport(params: ConnectorParams, url: str, *, directory: Path = Path()) -> TransportOptions:
    """How a dataset at `url` is asked: its `from` with `http_port` applied, which may name a user.

    Relative paths start at `directory`. ConfigError names the parameter.
    """
    address = urlsplit(url)
    headers = read_headers(params)
    oauth = read_oauth(params, headers)
    return TransportOptions(
        origin_of(url),
        _positive(params, "client_timeout", CLIENT_TIMEOUT),
        _positive(params, "connect_timeout", CONNECT_TIMEOUT),
        params.integer("pool_max_idle_per_host", POOL_MAX_IDLE, least=0, most=MOST_IDLE),
        _positive(params, "pool_idle_timeout", POOL_IDLE_TIMEOUT),
        _retry(params),
        read_limits(params),
        read_acquire_timeout(params),
        (*headers, *basic_header(params, address, headers)),
        oauth,
        await read_tls(params, directory, secure=address.scheme == "https" or (oauth is not None and oauth.secure)),
        _probe(params),
    )


def _retry(params: ConnectorParams) -> RetryPolicy:
    method = params.text("retry_backoff_method", Backoff.FIBONACCI.value).lower()
    if method not in [one.value for one in Backoff]:
        allowed = ", ".join(one.value for one in Backoff)
        raise params.wrong("retry_backoff_method", f"{method!r}; allowed: {allowed}")
    jitter = params.text("retry_jitter", "0.3")
    if not _JITTER.fullmatch(jitter):
        raise params.wrong("retry_jitter", f"{jitter!r} is not a number from 0 to 1")
    patience = params.duration("retry_max_duration", inf)
    return RetryPolicy(
        params.integer("max_retries", USUAL_RETRIES, least=0, most=MOST_RETRIES),
        Backoff(method),
        patience,
        float(jitter),
    )


def _positive(params: ConnectorParams, name: str, default: float) -> float:
    seconds = params.duration(name, default)
    if not seconds:
        raise params.wrong(name, "this must be greater than zero")
    return seconds


def _probe(params: ConnectorParams) -> str | None:
    path = params.text("health_probe") or None
    if path is not None and (not _PATH.fullmatch(path) or len(path) > LONGEST_PROBE):
        raise params.wrong(
            "health_probe", f"a path starts with / and has no spaces, {LONGEST_PROBE} characters at most"
        )
    return path
