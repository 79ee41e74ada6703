"""`from: file:<path>`: Parquet, CSV and JSON lines on a local disk; a file, a folder or a glob."""

from pathlib import Path

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.file.options import file_spec
from caraway.connectors.file.source import FileSource


async def open_file_source(dataset: Dataset, params: ConnectorParams, *, directory: Path) -> FileSource:
    """The source of a `file:` dataset of the pod in `directory`; ConfigError for a wrong parameter."""
    return FileSource(file_spec(dataset, params, directory))


__all__ = ["FileSource", "open_file_source"]
