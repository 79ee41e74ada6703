"""Responses in a SQLite file: they survive a restart and a kill; a damaged file is put aside, and costs its answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

from caraway import blocking
from caraway.caching.responses.file import DamagedError, ResponseFile, is_damage
from caraway.caching.responses.store import Held
from caraway.core.freshness import Stored
from caraway.events import Event, ResponseCacheFailed, ResponseCacheReset
from caraway.model import HttpHeaders
from caraway.ports import Emit

T = TypeVar("T")


class SqliteStore:
    """A ResponseStore in a file of its own; all that touches it runs in one thread at a time.

    A failure of the disk is told once, until something works again; meanwhile nothing is found and nothing kept.
    """

    def __init__(self, path: Path, max_bytes: int, *, dataset: str, emit: Emit) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._dataset = dataset
        self._emit = emit
        self._limiter = trio.CapacityLimiter(1)
        self._file: ResponseFile | None = None
        self._failing = False
        self._held = Held()

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r}, {self._held!r})"

    @property
    def held(self) -> Held:
        return self._held

    async def find(self, key: bytes, headers: HttpHeaders) -> Stored | None:
        return await self._call(lambda file: file.find(key, headers))

    async def put(self, key: bytes, stored: Stored, *, same_body: bool = False) -> None:
        await self._call(lambda file: file.put(key, stored, same_body=same_body))

    async def remove(self, prefix: bytes) -> None:
        await self._call(lambda file: file.remove(prefix))

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await blocking.call(self._close, limiter=self._limiter)

    async def _call(self, step: Callable[[ResponseFile], T]) -> T | None:
        result, held, event = await blocking.call(self._attempt, step, limiter=self._limiter)
        self._held = held
        told, self._failing = self._failing, isinstance(event, ResponseCacheFailed)
        if event is not None and not (told and self._failing):
            self._emit(event)
        return result

    def _attempt(self, step: Callable[[ResponseFile], T]) -> tuple[T | None, Held, Event | None]:
        """One step on the open file, in the thread; what goes wrong closes it, and the next step opens it again."""
        try:
            if self._file is None:
                self._file = ResponseFile(self._path, self._max_bytes)
            result = step(self._file)
        except (DamagedError, sqlite3.DatabaseError, OSError) as error:
            self._close()
            return None, Held(), self._answer_to(error)
        return result, self._file.held(), None

    def _answer_to(self, error: Exception) -> Event:
        failed = ResponseCacheFailed(self._dataset, str(self._path), str(error))
        if not is_damage(error):
            return failed
        aside = self._path.with_name(self._path.name + ".damaged")
        try:
            self._path.replace(aside)
            self._path.with_name(self._path.name + "-wal").unlink(missing_ok=True)
        except OSError as problem:
            return ResponseCacheFailed(self._dataset, str(self._path), f"{error}; {problem}")
        return ResponseCacheReset(self._dataset, str(aside), str(error))

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(sqlite3.Error):
                file.close()
