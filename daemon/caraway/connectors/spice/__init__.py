"""The `spice.ai` connector: another Spice or caraway as a source, over Flight (reference/spiceai_connector.md)."""

from caraway.connectors.spice.open import open_spice_source
from caraway.connectors.spice.source import SpiceSource

__all__ = ["SpiceSource", "open_spice_source"]
