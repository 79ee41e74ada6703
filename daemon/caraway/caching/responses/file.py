"""One SQLite file of responses, bounded by what it takes on disk as well.

It is a cache: commits are not synced (a kill loses none of them, a power cut the last ones), and whatever is wrong with
the file makes it a DamagedError. One connection has the file for itself, until it is closed or its process ends.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from caraway.caching.responses.store import Held, size_of
from caraway.core.freshness import Stored
from caraway.core.freshness_keys import DIGEST_BYTES, variant_of
from caraway.model import HttpHeaders

FORMAT = 1
FIXED_BYTES = 64 * 1024
"""Of a file besides its rows."""
LOG_BYTES = 4 * 1024**2
"""Of the write-ahead log between two checkpoints, but for an answer that is larger."""
_TOUCHED = 1000
"""Reads whose order is remembered before it is written down: a read alone writes nothing."""
_VACUUMED = 256
"""Pages given back at a time."""
_PRAGMAS = (
    "auto_vacuum = incremental",
    "locking_mode = exclusive",
    "journal_mode = wal",
    "synchronous = normal",
    f"journal_size_limit = {LOG_BYTES}",
    "cache_size = -2048",
)
_COLUMNS: dict[str, type] = dict.fromkeys(("key", "variant", "digest"), bytes)
_COLUMNS |= dict.fromkeys(("vary", "head"), str) | dict.fromkeys(("used", "size", "crc"), int) | {"body": bytes}
_OF_ONE = "key = ? and variant = ?"
_ROW = (
    "insert into responses (key, variant, vary, used, size, crc, digest, head, body) values (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_HEAD = "update responses set vary = ?, used = ?, size = ?, crc = ?, head = ? where rowid = ?"
_DAMAGED = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedError(Exception):
    """What the file holds is not what was written."""


class ResponseFile:
    """Every method blocks, and belongs to one thread at a time; after a sqlite3.Error it has to be opened anew."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        from sqlite_utils import Database

        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._max_bytes = max_bytes
        self._touched: dict[int, None] = {}
        self._items = self._bytes = self._used = self._evictions = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        self._db = Database(self._connection)
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def held(self) -> Held:
        return Held(self._bytes, self._items, self._evictions)

    def find(self, key: bytes, headers: HttpHeaders) -> Stored | None:
        found = self._row("select vary from responses where key = ? limit 1", key)
        if found is None:
            return None
        variant = variant_of(tuple(filter(None, found[0].split(","))), headers)
        row = self._row(f"select rowid, crc, head, digest, body from responses where {_OF_ONE}", key, variant)
        if row is None:
            return None
        self._touch(row[0])
        return _stored(variant, row[1:])

    def put(self, key: bytes, stored: Stored, *, same_body: bool) -> None:
        with self._db.atomic():
            self._write_touched()
            if same_body and self._freshen(key, stored):
                return
            self._delete("key = ? and (variant = ? or vary != ?)", key, stored.variant, ",".join(stored.vary))
            size = size_of(stored)
            if size > self._max_bytes:
                return
            self._make_room(size)
            vary, head = ",".join(stored.vary), _head(stored)
            counted = (self._tick(), size, _crc(head), _digest(stored.body))
            self._connection.execute(_ROW, (key, stored.variant, vary, *counted, head, stored.body))
            self._bytes += size
            self._items += 1
        self._shrink()

    def remove(self, prefix: bytes) -> None:
        with self._db.atomic():
            self._delete("key between ? and ?", prefix, prefix + b"\xff" * 2 * DIGEST_BYTES)
        self._shrink()

    def close(self) -> None:
        try:
            self._write_touched()
        finally:
            self._connection.close()

    def _open(self) -> None:
        for pragma in _PRAGMAS:
            self._connection.execute(f"pragma {pragma}")
        if self._number("pragma user_version") not in {0, FORMAT}:
            raise DamagedError("it has another format")
        with self._db.atomic():
            table = self._db["responses"].create(_COLUMNS, pk=("key", "variant"), if_not_exists=True)
            table.create_index(["used", "size"], if_not_exists=True)
            self._connection.execute(f"pragma user_version = {FORMAT}")
        self._items, self._bytes, self._used = self._row(
            "select count(*), coalesce(sum(size), 0), coalesce(max(used), 0) from responses"
        ) or (0, 0, 0)
        with self._db.atomic():
            self._make_room(0)
        self._vacuum(self._number("pragma freelist_count"))

    def _freshen(self, key: bytes, stored: Stored) -> bool:
        """Write all but the body; False where it is not there: another answer came meanwhile, or made this one go."""
        found = f"select rowid, size from responses where {_OF_ONE} and digest = ?"
        row = self._row(found, key, stored.variant, _digest(stored.body))
        if row is None:
            return False
        size, head = size_of(stored), _head(stored)
        self._connection.execute(_HEAD, (",".join(stored.vary), self._tick(), size, _crc(head), head, row[0]))
        self._bytes += size - row[1]
        self._make_room(0)
        return True

    def _make_room(self, size: int) -> None:
        """Let the least recently used go until so many bytes more fit, by our count and on the disk."""
        while self._items and (self._bytes + size > self._max_bytes or self._taken() + size > self._most()):
            oldest = self._row("select rowid from responses order by used limit 1")
            assert oldest is not None
            self._delete("rowid = ?", oldest[0])
            self._evictions += 1

    def _delete(self, where: str, *values: object) -> None:
        gone = self._connection.execute(f"delete from responses where {where} returning size", values).fetchall()
        self._items -= len(gone)
        self._bytes -= sum(size for (size,) in gone)

    def _shrink(self) -> None:
        """Give some free pages back once they are many; the next answers use what is left of them."""
        if self._number("pragma freelist_count") > _VACUUMED + self._number("pragma page_count") // 4:
            self._vacuum(_VACUUMED)

    def _vacuum(self, pages: int) -> None:
        self._connection.executescript(f"pragma incremental_vacuum({pages})")  # `execute` would free one of them

    def _most(self) -> int:
        return self._max_bytes + FIXED_BYTES

    def _taken(self) -> int:
        pages = self._number("pragma page_count") - self._number("pragma freelist_count")
        return pages * self._number("pragma page_size")

    def _touch(self, row: int) -> None:
        self._touched.pop(row, None)
        self._touched[row] = None
        if len(self._touched) >= _TOUCHED:
            with self._db.atomic():
                self._write_touched()

    def _write_touched(self) -> None:
        touched, self._touched = self._touched, {}
        self._connection.executemany(
            "update responses set used = ? where rowid = ?", ((self._tick(), row) for row in touched)
        )

    def _tick(self) -> int:
        self._used += 1
        return self._used

    def _row(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        return row

    def _number(self, sql: str) -> int:
        row = self._row(sql)
        assert row is not None
        return int(row[0])


def is_damage(error: Exception) -> bool:
    """Whether a file is to be put aside for this, rather than tried again."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, DamagedError) or (code is not None and code & 0xFF in _DAMAGED)


def _head(stored: Stored) -> str:
    """All of an answer but its body and its variant."""
    return json.dumps([stored.status, stored.headers, stored.received, stored.initial_age, stored.vary])


def _stored(variant: bytes, row: tuple[Any, ...]) -> Stored:
    crc, head, digest, body = row
    if _crc(head) != crc or _digest(body) != digest:
        raise DamagedError("a stored answer is not what was written")
    status, headers, received, initial_age, vary = json.loads(head)
    return Stored(status, _pairs(headers), body, received, initial_age, tuple(vary), variant)


def _pairs(headers: Iterable[tuple[str, str]]) -> HttpHeaders:
    return tuple((name, value) for name, value in headers)


def _crc(head: str) -> int:
    return zlib.crc32(head.encode())


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()
