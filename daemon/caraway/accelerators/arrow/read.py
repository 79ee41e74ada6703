"""Rows of a snapshot in Arrow files; in the worker as in the daemon."""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from caraway.accelerators.arrow.files import live, read_file, read_hidden
from caraway.core.predicate import Predicate
from caraway.kernels import keep, mask
from caraway.model import OFFSET_COLUMN, ArrowFiles


def read_files(
    files: ArrowFiles, columns: Sequence[str], predicate: Predicate | None = None, *, limit: int | None = None
) -> Generator[pa.RecordBatch, None, None]:
    """Batches of these columns, then the offset, in log order; mapped, so that only what a filter copies is memory."""
    hidden = read_hidden(files.hidden)
    left = limit
    for path in files.paths:
        for rows in live(_matching(path, columns, predicate), hidden):
            shown = rows if left is None else rows.slice(0, left)
            left = None if left is None else left - shown.num_rows
            if shown.num_rows:
                yield shown
            if left == 0:
                return


def _matching(path: Path, columns: Sequence[str], predicate: Predicate | None) -> Iterator[pa.RecordBatch]:
    """First the columns that are asked for, then the rows: only what is left of both is copied."""
    for batch in read_file(path):
        shown = batch.select([*columns, OFFSET_COLUMN])
        yield shown if predicate is None else keep(shown, mask(batch, predicate))
