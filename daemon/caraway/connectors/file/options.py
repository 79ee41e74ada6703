"""The parameters of a `file:` dataset as a FileSpec."""

from pathlib import Path

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.file.spec import VIRTUAL, FileSpec
from caraway.connectors.formats.options import NAMES, declared_types, formats_of, one_of
from caraway.errors import ConfigError, ConfigProblem

_LAST_MODIFIED = "last_modified"


def file_spec(dataset: Dataset, params: ConnectorParams, directory: Path) -> FileSpec:
    """What a dataset says of its files; relative paths are relative to `directory`. ConfigError names the key."""
    path = dataset.from_.path
    if not path:
        raise ConfigError(ConfigProblem("names no path; write file:<path>", f"datasets[{dataset.name}].from"))
    declared = declared_types(dataset)
    suffix = params.text("file_extension", "")
    return FileSpec(
        dataset.name,
        directory / path,
        formats_of(params, declared),
        format=one_of(params, "file_format", NAMES),
        suffix=f".{suffix.lstrip('.')}" if suffix else None,
        virtual=_virtual(dataset),
        declared=declared,
    )


def _virtual(dataset: Dataset) -> tuple[str, ...]:
    """The metadata columns that are enabled, and `last_modified` where it is the time column."""
    enabled = [name for name in VIRTUAL if dataset.metadata.get(name) == "enabled" and name != _LAST_MODIFIED]
    times = (dataset.time_column, dataset.time_partition_column)
    by_time = [_LAST_MODIFIED] if any(column and column.name == _LAST_MODIFIED for column in times) else []
    return (*enabled, *by_time)
