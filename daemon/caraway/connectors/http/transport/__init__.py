"""HTTP requests of a dataset: pooled connections, retries, rate control, authentication."""

from pathlib import Path

from caraway.config.params import ConnectorParams
from caraway.connectors.http.transport.control import ControlStatistics, RateControls
from caraway.connectors.http.transport.options import TransportOptions, read_transport
from caraway.connectors.http.transport.transport import MAX_BODY, Transport

__all__ = [
    "MAX_BODY",
    "ControlStatistics",
    "RateControls",
    "Transport",
    "TransportOptions",
    "open_transport",
    "read_transport",
]


async def open_transport(
    params: ConnectorParams,
    url: str,
    controls: RateControls,
    dataset: str,
    *,
    directory: Path = Path(),
    max_body: int = MAX_BODY,
) -> Transport:
    """The transport of a dataset at `url` (see `read_transport`); nothing is connected yet. ConfigError.

    `max_body` bounds what is held of one answer, decoded; `directory` is where relative paths start.
    """
    return Transport(await read_transport(params, url, directory=directory), controls, dataset, max_body=max_body)
