"""The source of an `http:` dataset whose address is that of a file: fetched whole, and not again while it is the same."""

from pathlib import Path

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.http.streaming import Streaming
from caraway.ports import Source


def file_format(config: Dataset, params: ConnectorParams) -> str | None:
    """The format of the file that the dataset is; None where it is an API. ConfigError for a wrong `file_format`."""
    raise NotImplementedError


async def open_file_over_http(
    config: Dataset, params: ConnectorParams, url: str, *, wire: Streaming, directory: Path
) -> Source:
    """The file at `url`, which has no user information in it and the port of `http_port`.

    `directory` is for downloads of this dataset alone, below the data directory; it is made when it is needed. The
    source closes `wire`.
    """
    raise NotImplementedError
