"""The parameters of files, which all connectors of files share."""

from collections.abc import Mapping

import pyarrow as pa

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.config.sqltypes import type_of
from caraway.connectors.formats.base import COMPRESSED, Format
from caraway.connectors.formats.csv import Csv
from caraway.connectors.formats.jsonlines import JsonLines
from caraway.connectors.formats.parquet import Parquet

NAMES: Mapping[str, str] = {
    **{name: name for name in ("parquet", "csv", "tsv", "json")},
    "pq": "parquet",
    "jsonl": "json",
    "ndjson": "json",
}
"""What `file_format` may say, and which format that is."""
_CODECS = {"gzip": "gzip", "gz": "gzip", "bzip2": "bz2", "bz2": "bz2", "zstd": "zstd", "uncompressed": "uncompressed"}


def formats_of(params: ConnectorParams, declared: Mapping[str, pa.DataType]) -> dict[str, Format]:
    """Each format as the parameters say that its files are written; ConfigError for a wrong one."""
    codec = one_of(params, "file_compression_type", _CODECS) or "detect"
    return {
        "parquet": Parquet(),
        "csv": _csv(params, "csv", codec, declared),
        "tsv": _csv(params, "tsv", codec, declared),
        "json": JsonLines(codec, declared),
    }


def declared_types(dataset: Dataset) -> dict[str, pa.DataType]:
    """The types that the dataset's `columns` declare."""
    return {column.name: type_of(column.type.lower()) for column in dataset.columns if column.type}


def one_of(params: ConnectorParams, name: str, allowed: Mapping[str, str]) -> str | None:
    """The meaning of a parameter with few values, None where it is not set."""
    text = params.text(name, "")
    if text and text.lower() not in allowed:
        raise params.wrong(name, f"found {text!r}; allowed: {', '.join(allowed)}")
    return allowed[text.lower()] if text else None


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
