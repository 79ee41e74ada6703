"""What a format of files says of itself."""

from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from caraway.core.predicate import Predicate

BATCH_ROWS = 65_536
BLOCK_BYTES = 4 * 1024**2
"""How much text is parsed at once; a row must fit into it."""
COMPRESSED = (".gz", ".bz2", ".zst")


class Format(Protocol):
    """How files of a kind are read. Failures are OSError and pyarrow.ArrowException; all functions block."""

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    @property
    def loose(self) -> bool:
        """Whether files may lack columns of others and widen their types, as text without a schema does."""
        ...

    def schema(self, path: Path) -> pa.Schema:
        """The schema of one file; null is the type of a column without a value."""
        ...

    def batches(
        self, path: Path, schema: pa.Schema, predicate: Predicate | None, /
    ) -> Generator[pa.RecordBatch, None, None]:
        """Rows with the columns of `schema` that the file has; the predicate may be used to skip some."""
        ...


def codec_of(chosen: str, path: Path) -> str | None:
    """A codec's name for pyarrow; `detect` goes by the file's ending, also where others come before it."""
    if chosen != "detect":
        return None if chosen == "uncompressed" else chosen
    return {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}.get(path.suffix.lower())
