"""HTTP requests of a dataset: pooled connections, retries, rate control, authentication."""

from caraway.connectors.http.transport.control import ControlStatistics, RateControls
from caraway.connectors.http.transport.limits import read_default_limits
from caraway.connectors.http.transport.options import TransportOptions, origin_of, read_transport
from caraway.connectors.http.transport.transport import MAX_BODY, Transport

__all__ = [
    "MAX_BODY",
    "ControlStatistics",
    "RateControls",
    "Transport",
    "TransportOptions",
    "origin_of",
    "read_default_limits",
    "read_transport",
]
