"""What a `file:` dataset says of its files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from caraway.connectors.file.listing import File
from caraway.connectors.formats.base import Format

_MOMENT = pa.timestamp("us", "UTC")
VIRTUAL: Mapping[str, tuple[pa.DataType, Callable[[File], object]]] = MappingProxyType(
    {
        "_location": (pa.string(), lambda file: str(file.path)),
        "_last_modified": (_MOMENT, lambda file: file.mtime // 1000),
        "_size": (pa.uint64(), lambda file: file.size),
        "last_modified": (_MOMENT, lambda file: file.mtime // 1000),
    }
)
"""Columns that a file's metadata can give (reference/spicepod.md 4); a column of that name in the files wins."""


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What a `file:` dataset says of its files; `format` None is told by their names."""

    dataset: str
    where: Path
    formats: Mapping[str, Format]
    format: str | None = None
    suffix: str | None = None
    virtual: tuple[str, ...] = ()
    declared: Mapping[str, pa.DataType] = field(default_factory=dict)
