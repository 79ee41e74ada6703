"""Where and how one dataset is kept: what every engine is opened with, and what all engines decide alike."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeAlias

import pyarrow as pa

from caraway.config.model import Engine, Params, StorageMode
from caraway.errors import ConfigError, ConfigProblem, StoreError, ViolationError
from caraway.model import OFFSET_COLUMN, Index, OnConflict, TableSpec, TimeColumn
from caraway.ports import Accelerator

_SHM = Path("/dev/shm")  # noqa: S108  the kernel's memory file system, in a folder of our own there
_SHM_NEEDED = 512 * 1024**2
"""Containers get 64 MB of /dev/shm unless told otherwise, which is too small to keep datasets in."""


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A dataset's acceleration as an engine needs it; `directory` belongs to this dataset alone."""

    name: str
    directory: Path
    engine: Engine = Engine.ARROW
    mode: StorageMode = StorageMode.MEMORY
    primary_key: tuple[str, ...] = ()
    on_conflict: OnConflict = OnConflict.REJECT
    indexes: tuple[Index, ...] = ()
    time: TimeColumn | None = None
    params: Params = field(default_factory=dict)
    held: "Hold | None" = None
    """In memory mode: while it lives, nobody takes the directory for one that a killed process left."""

    def table(self, schema: pa.Schema) -> TableSpec:
        """The table's description; ConfigError where keys, indexes or the time column name what is not there."""
        problems = [*_duplicates(schema), *self._unknown_columns(schema)]
        if problems:
            raise ConfigError(*(ConfigProblem(f"dataset {self.name}: {problem}", key) for key, problem in problems))
        return TableSpec(self.name, schema, self.primary_key, self.on_conflict, self.indexes, self.time)

    def _unknown_columns(self, schema: pa.Schema) -> list[tuple[str, str]]:
        valid = ", ".join(schema.names)
        named = [("primary_key", "Primary key column", column) for column in self.primary_key]
        named += [("indexes", "Column for index", column) for index in self.indexes for column in index.columns]
        named += [("time_column", "Time column", self.time.name)] if self.time else []
        return [
            (key, f"{what} '{column}' was not found in the schema. Valid columns: {valid}")
            for key, what, column in named
            if column not in schema.names
        ]


class Hold:
    """An exclusive lock on a directory until it is released or the process ends, however it ends.

    BlockingIOError with LOCK_NB where another has it.
    """

    def __init__(self, directory: Path, how: int = 0) -> None:
        self._descriptor: int | None = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | how)
        except OSError:
            self.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


OpenEngine: TypeAlias = Callable[[StorageSpec, pa.Schema | None], Awaitable[Accelerator | None]]
"""Opens a dataset's store in an existing directory; `ports.OpenStore` says what without a schema."""


def _duplicates(schema: pa.Schema) -> list[tuple[str, str]]:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    problems = [("columns", f"column {name!r} is there more than once") for name in twice]
    if OFFSET_COLUMN in schema.names:
        problems.append(("columns", f"column name {OFFSET_COLUMN!r} is reserved"))
    return problems


def settle(storage: StorageSpec) -> StorageSpec:
    """The same storage in the directory that it will use: made, private, and empty in memory mode."""
    if storage.mode is not StorageMode.MEMORY:
        storage.directory.mkdir(parents=True, exist_ok=True)
        return storage
    root = _memory_root()
    directory = root / hashlib.sha256(os.fsencode(storage.directory.absolute())).hexdigest()[:24]
    with Hold(root):  # nobody sweeps between the making of a directory and its lock
        _sweep(root)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        held = Hold(directory)
    return replace(storage, directory=directory, held=held)


def forget(storage: StorageSpec) -> None:
    """Called when a store closes: what memory mode kept is gone, files stay."""
    if storage.mode is StorageMode.MEMORY:
        shutil.rmtree(storage.directory, ignore_errors=True)
        if storage.held is not None:
            storage.held.release()


def _sweep(root: Path) -> None:
    """Give back the memory of stores whose process was killed."""
    for directory in root.iterdir():
        with suppress(BlockingIOError, FileNotFoundError, NotADirectoryError), Hold(directory, fcntl.LOCK_NB):
            shutil.rmtree(directory, ignore_errors=True)


def _memory_root() -> Path:
    base = _SHM if _SHM.is_dir() and shutil.disk_usage(_SHM).free >= _SHM_NEEDED else Path(tempfile.gettempdir())
    root = base / f"caraway-memory-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    owner = root.stat(follow_symlinks=False)
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or root.is_symlink():
        raise StoreError(
            f"{root} is not a private folder of this user, so datasets in memory can't be kept there.",
            remedy="Remove it, or make it yours with mode 0700.",
            transient=False,
        )
    return root


def keeps(storage: StorageSpec, stored: pa.Schema, asked: pa.Schema) -> bool:
    """Whether a stored table serves the schema that is asked for now; if not, it must be created anew.

    Equal schemas and additional nullable columns keep the rows. Any other difference recreates the table in mode
    file_update and is a StoreError in mode file, for the operator to decide; file_create and memory never get here.
    """
    differences = _differences(stored, asked)
    if not differences:
        return True
    if storage.mode is StorageMode.FILE_UPDATE:
        return False
    raise StoreError(
        f"The stored table of dataset {storage.name} does not fit its source any more: {'; '.join(differences)}.",
        remedy="Set acceleration.mode to file_update to load it again, or to file_create to start empty.",
        transient=False,
    )


def _differences(stored: pa.Schema, asked: pa.Schema) -> list[str]:
    gone = [f"column {name!r} is gone" for name in stored.names if name not in asked.names]
    new = [field.name for field in asked if field.name not in stored.names and not field.nullable]
    added = [f"new column {name!r} must not be null" for name in new]
    changed = [
        f"column {old.name!r} is {asked.field(old.name)}, stored as {old}"
        for old in stored
        if old.name in asked.names and not _fits(old, asked.field(old.name))
    ]
    return gone + added + changed


def _fits(old: pa.Field, new: pa.Field) -> bool:
    return bool(old.type == new.type) and (new.nullable or not old.nullable)


def conflict_key(spec: TableSpec) -> tuple[str, ...]:
    """The columns that `on_conflict` is about: the primary key, or else the only unique index."""
    unique = [index.columns for index in spec.indexes if index.unique]
    return spec.primary_key or (unique[0] if len(unique) == 1 else ())


def violation(columns: Sequence[str], dataset: str) -> ViolationError:
    """Names the columns, in the words of the Spice runtime (reference/spicepod.md 6.10)."""
    return ViolationError(
        f"Constraint Violation: Incoming data violates uniqueness constraint on column(s): {', '.join(columns)}"
        f" (dataset {dataset}).",
        remedy="Set on_conflict for these columns, or remove the duplicates at the source.",
        transient=False,
    )
