"""What can go wrong with a file, in words for who owns it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from caraway.errors import SourceError

DECLARE = "if a value has another type than the first rows, declare the column's type under the dataset's `columns`"


@contextmanager
def understanding(file: object, dataset: str) -> Iterator[None]:
    """What a format says of a malformed file as SourceError that names it; it may be whole the next time."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SourceError(
            f"{dataset}: {file} is malformed: {str(error).rstrip('.')}.",
            remedy=f"Repair or remove the file; {DECLARE}.",
        ) from error
