"""From a dataset's `from` and `params` to a source: endpoint, credentials, transport security, reachability."""

from dataclasses import replace
from pathlib import Path

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.spice.identity import read_tls
from caraway.connectors.spice.reach import verify
from caraway.connectors.spice.source import HEARTBEAT_SECONDS, SpiceSource
from caraway.core.endpoint import EndpointParams, Upstream, resolve_upstream
from caraway.core.stream_words import heartbeat_within
from caraway.errors import ConfigError
from caraway.flight.client import FlightPool
from caraway.flight.connection import Target
from caraway.model import Secret

MAX_MESSAGE_SIZE = 4 * 1024**2


async def open_spice_source(
    dataset: Dataset,
    params: ConnectorParams,
    pool: FlightPool,
    *,
    directory: Path = Path(),
    max_message_size: int | None = None,
) -> SpiceSource:
    """The upstream table behind a dataset, once its endpoint was reached.

    `max_message_size` is the runtime's (runtime.flight), which the parameter of that name overrides. ConfigError for
    parameters, SourceError where the endpoint can't be reached.
    """
    upstream = _upstream(dataset, params)
    if upstream.cloud and _key(params) is None:
        raise params.wrong(
            "spiceai_api_key", "MissingRequiredParameter: api_key or token; the cloud takes no anonymous requests"
        )
    target = Target(
        upstream.endpoint,
        params.size("max_message_size") or max_message_size or MAX_MESSAGE_SIZE,
        await read_tls(params, directory) if upstream.endpoint.tls else None,
    )
    await verify(upstream.endpoint)
    client = pool.client(target, key=lambda: _key(params), headers=upstream.headers)
    window = dataset.acceleration.acceptable_lag if dataset.acceleration is not None else None
    return SpiceSource(client, upstream.table, heartbeat=heartbeat_within(window, HEARTBEAT_SECONDS))


def _upstream(dataset: Dataset, params: ConnectorParams) -> Upstream:
    written = EndpointParams(
        params.text("spiceai_endpoint"), params.text("spiceai_flight_endpoint"), params.text("spiceai_region")
    )
    try:
        return resolve_upstream(dataset.from_.path, dataset.name, written)
    except ConfigError as error:
        place = f"datasets[{dataset.name}]."
        raise ConfigError(*(replace(problem, key=place + problem.key) for problem in error.problems)) from error


def _key(params: ConnectorParams) -> Secret | None:
    """Asked on each use, so that a rotated key needs no restart."""
    for name in ("spiceai_api_key", "spiceai_token"):
        secret = params.secret(name)
        if secret is not None and secret.reveal():
            return secret
    return None
