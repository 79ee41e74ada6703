"""HTTP requests of a dataset: pooled connections, retries, rate control, authentication."""

from caraway.connectors.http.transport.control import ControlStatistics, RateControls
from caraway.connectors.http.transport.options import TransportOptions, read_transport
from caraway.connectors.http.transport.transport import Transport

__all__ = [
    "ControlStatistics",
    "RateControls",
    "Transport",
    "TransportOptions",
    "read_transport",
]
