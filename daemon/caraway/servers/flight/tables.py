"""Which dataset a call is about: the name of a table as SQL would understand it."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from caraway.config.model import Access
from caraway.core.names import parse_table_ref
from caraway.servers.flight.status import Code, RefusalError
from caraway.servers.services import DatasetHandle

CATALOG, SCHEMA = "spice", "public"


class Tables:
    """The datasets of a server by name, and its views, which are no datasets."""

    def __init__(self, datasets: Mapping[str, DatasetHandle], views: Collection[str] = ()) -> None:
        self._datasets = datasets
        self._views = views

    def followed(self, reference: str) -> DatasetHandle:
        """The dataset to subscribe to; RefusalError where there is none, or nothing to follow."""
        name = _canonical(reference)
        handle = self._datasets.get(name)
        if handle is None and name in self._views:
            raise _invalid(f"{name} is a view, which has no log to follow. Subscribe to the datasets that it reads.")
        if handle is None:
            raise _invalid(f"There is no dataset {reference!r} to subscribe to{self._hint(name)}.")
        acceleration = handle.config.acceleration
        if acceleration is None or not acceleration.enabled:
            message = (
                f"Dataset {name} is not accelerated, so it has no log to follow. Set `acceleration.enabled: true`."
            )
            raise _invalid(message)
        return handle

    def written(self, reference: str) -> DatasetHandle:
        """The dataset to write to; RefusalError where there is none, or none that is written to."""
        name = _canonical(reference)
        handle = self._datasets.get(name)
        if handle is None:
            raise _invalid(f"Path doesn't exist or is not writable: no dataset {reference!r}{self._hint(name)}.")
        if handle.config.access is not Access.READ_WRITE:
            message = f"Path doesn't exist or is not writable: dataset {name} does not have `access: read_write`."
            raise _invalid(message)
        return handle

    def _hint(self, name: str) -> str:
        close = get_close_matches(name, self._datasets, n=1)
        return f"; did you mean {close[0]!r}?" if close else ""


def _canonical(reference: str) -> str:
    """`table` or `schema.table` as datasets are named; what cannot be one stays what it is."""
    if not reference:
        raise _invalid("The descriptor's path is empty. Put the name of a dataset into it.")
    try:
        parts = parse_table_ref(reference)
    except ValueError as error:
        raise _invalid(f"{error}.") from error
    if len(parts) == 3 and parts[0] == CATALOG:
        parts = parts[1:]
    if len(parts) == 2 and parts[0] == SCHEMA:
        parts = parts[1:]
    return ".".join(parts)


def _invalid(message: str) -> RefusalError:
    return RefusalError(Code.INVALID_ARGUMENT, message)
