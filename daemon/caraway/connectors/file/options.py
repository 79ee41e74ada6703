"""The parameters of a `file:` dataset as a FileSpec."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.config.sqltypes import type_of
from caraway.connectors.file.formats import COMPRESSED, Csv, Format, JsonLines, Parquet
from caraway.connectors.file.spec import VIRTUAL, FileSpec
from caraway.errors import ConfigError, ConfigProblem

_FORMATS = {"pq": "parquet", "jsonl": "json", "ndjson": "json"}
_CODECS = {"gzip": "gzip", "gz": "gzip", "bzip2": "bz2", "bz2": "bz2", "zstd": "zstd", "uncompressed": "uncompressed"}
_LAST_MODIFIED = "last_modified"


def file_spec(dataset: Dataset, params: ConnectorParams, directory: Path) -> FileSpec:
    """What a dataset says of its files; relative paths are relative to `directory`. ConfigError names the key."""
    path = dataset.from_.path
    if not path:
        raise ConfigError(ConfigProblem("names no path; write file:<path>", f"datasets[{dataset.name}].from"))
    declared = {column.name: type_of(column.type.lower()) for column in dataset.columns if column.type}
    codec = _one_of(params, "file_compression_type", _CODECS) or "detect"
    formats: dict[str, Format] = {
        "parquet": Parquet(),
        "csv": _csv(params, "csv", codec, declared),
        "tsv": _csv(params, "tsv", codec, declared),
        "json": JsonLines(codec, declared),
    }
    suffix = params.text("file_extension", "")
    return FileSpec(
        dataset.name,
        directory / path,
        formats,
        format=_one_of(params, "file_format", {**{name: name for name in formats}, **_FORMATS}),
        suffix=f".{suffix.lstrip('.')}" if suffix else None,
        virtual=_virtual(dataset),
        declared=declared,
    )


def _csv(params: ConnectorParams, kind: str, codec: str, declared: Mapping[str, pa.DataType]) -> Csv:
    """How CSV or TSV is written; both have the same parameters under their own names."""

    comma = {"csv": ",", "tsv": "\t"}[kind]

    def character(name: str, default: str) -> str:
        text = params.text(f"{kind}_{name}", default).replace("\\t", "\t")
        if len(text) > 1 or not text.isascii():
            raise params.wrong(f"{kind}_{name}", f"found {text!r}; allowed: one ASCII character")
        return text

    return Csv(
        character("delimiter", comma) or comma,
        character("quote", '"') or None,
        character("escape", "") or None,
        params.flag(f"{kind}_has_header", True),
        codec,
        declared,
        tuple(f".{kind}{packed}" for packed in ("", *COMPRESSED)),
    )


def _virtual(dataset: Dataset) -> tuple[str, ...]:
    """The metadata columns that are enabled, and `last_modified` where it is the time column."""
    enabled = [name for name in VIRTUAL if dataset.metadata.get(name) == "enabled" and name != _LAST_MODIFIED]
    times = (dataset.time_column, dataset.time_partition_column)
    by_time = [_LAST_MODIFIED] if any(column and column.name == _LAST_MODIFIED for column in times) else []
    return (*enabled, *by_time)


def _one_of(params: ConnectorParams, name: str, allowed: Mapping[str, str]) -> str | None:
    """The meaning of a parameter with few values, None where it is not set."""
    text = params.text(name, "")
    if text and text.lower() not in allowed:
        raise params.wrong(name, f"found {text!r}; allowed: {', '.join(allowed)}")
    return allowed[text.lower()] if text else None
