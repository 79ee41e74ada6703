"""Rows of a snapshot in Arrow files; in the worker as in the daemon."""

from collections.abc import Generator, Sequence

import pyarrow as pa

from caraway.accelerators.arrow.files import live, read_file, read_hidden
from caraway.core.predicate import Predicate
from caraway.kernels import filter_batch
from caraway.model import OFFSET_COLUMN, ArrowFiles


def read_files(
    files: ArrowFiles, columns: Sequence[str], predicate: Predicate | None = None, *, limit: int | None = None
) -> Generator[pa.RecordBatch, None, None]:
    """Batches of these columns, then the offset, in log order; mapped, so that only what a filter copies is memory."""
    hidden = read_hidden(files.hidden)
    left = limit
    for path in files.paths:
        for batch in live(read_file(path), hidden):
            rows = filter_batch(batch, predicate).select([*columns, OFFSET_COLUMN])
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if rows.num_rows:
                yield rows
            if left == 0:
                return
