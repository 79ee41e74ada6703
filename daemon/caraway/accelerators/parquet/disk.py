"""Durable files, and how a full disk or a broken file becomes a StoreError."""

import errno
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from caraway.errors import StoreError

T = TypeVar("T")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def sync_file(path: Path) -> None:
    """Force a file's contents to the disk."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def store_errors(dataset: str) -> Iterator[None]:
    """Failures of disk, SQLite and Arrow as StoreError; transient where trying again can help."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if _is_full(error):
            raise StoreError(
                f"The disk is full, so dataset {dataset} took nothing new ({error}); what it holds is intact.",
                remedy="Free some space; the next attempt goes on from here.",
            ) from error
        raise StoreError(
            f"The files of dataset {dataset} can't be read or written: {error}.",
            remedy="See that they are there and may be written; after they were removed, restart caraway.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(dataset, error) from error
    except pa.ArrowException as error:
        raise _damaged(dataset, error) from error


def mapped(items: Iterable[T], dataset: str) -> Generator[T, None, None]:
    """The same items, failures to read them as StoreError."""
    with store_errors(dataset):
        yield from items


def _is_full(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL


def _damaged(dataset: str, error: Exception) -> StoreError:
    return StoreError(
        f"The files of dataset {dataset} can't be understood: {error}.",
        remedy="Remove the dataset's folder to load it again from its source.",
        transient=False,
    )
