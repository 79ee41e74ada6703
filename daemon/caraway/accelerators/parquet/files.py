"""The files of a store: their names, and which of them somebody still needs."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caraway.accelerators.parquet.state import State, Tail

PARTS, TAILS, HIDDEN = "parts", "tail", "hidden"


def make_folders(folder: Path) -> None:
    for name in (PARTS, TAILS, HIDDEN):
        (folder / name).mkdir(parents=True, exist_ok=True)


def new_tail(folder: Path, first: int) -> Tail:
    """An open tail for rows from offset `first`; the first commit makes its file."""
    return Tail(folder / TAILS / f"{first:019d}-{secrets.token_hex(4)}.arrows", first, first, 0, 0)


def new_hidden(folder: Path) -> Path:
    return folder / HIDDEN / f"{secrets.token_hex(8)}.arrow"


def remove_garbage(folder: Path, state: State) -> None:
    """Remove what a crash or an earlier run left: every file that the state does not name."""
    for name in (PARTS, TAILS, HIDDEN):
        for path in (folder / name).iterdir():
            if path not in state.files:
                path.unlink()


class Holds:
    """Counts who reads which file, and removes a file when neither the store nor a reader needs it any more.

    Belongs to the task that publishes states.
    """

    def __init__(self, state: State) -> None:
        self._current = state.files
        self._held: Counter[Path] = Counter()

    def moved(self, state: State) -> None:
        """The store went on to another state."""
        before, self._current = self._current, state.files
        self._remove(before - self._current)

    @contextmanager
    def hold(self, state: State) -> Iterator[None]:
        """Keep the files of a state until the context ends."""
        files = state.files
        self._held.update(files)
        try:
            yield
        finally:
            self._held.subtract(files)
            free = frozenset(path for path in files if self._held[path] == 0)
            for path in free:
                del self._held[path]
            self._remove(free - self._current)

    def _remove(self, files: frozenset[Path]) -> None:
        for path in files:
            if path not in self._held:
                path.unlink(missing_ok=True)
