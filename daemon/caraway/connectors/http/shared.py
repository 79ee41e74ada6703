"""What the datasets of APIs have in common, and what of each outlives its connections: its response cache."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import trio

from caraway.caching.responses import ResponseCache, open_response_cache
from caraway.connectors.http.source import utc_now
from caraway.connectors.http.transport import ControlStatistics, RateControls, Transport
from caraway.errors import SourceError
from caraway.model import HttpRequest, HttpResponse, ResponseCacheStatistics
from caraway.ports import Emit, Send

CLOSING = 5.0
"""Seconds that closing the connections of a dataset may take."""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """`path` is the file that keeps the responses, None: memory does."""

    max_bytes: int
    fallback_ttl: float = 0.0
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """`control` is of the origin, None while there is no connection to it."""

    control: ControlStatistics | None
    cache: ResponseCacheStatistics


class HttpShared:
    """`runtime` is `runtime.params`, ConfigError names what is wrong in it; `run` lets the caches revalidate."""

    def __init__(self, emit: Emit, runtime: Mapping[str, str], *, wall: Callable[[], datetime] = utc_now) -> None:
        self.controls = RateControls(emit, runtime)
        self.wall = wall
        self._emit = emit
        self._ways: dict[str, Way] = {}
        self._more = trio.Event()

    def way(self, dataset: str, options: CacheOptions) -> "Way":
        """The dataset's way to its API, the same for as long as the daemon runs."""
        if dataset not in self._ways:
            self._ways[dataset] = Way(
                partial(
                    open_response_cache,
                    dataset=dataset,
                    max_bytes=options.max_bytes,
                    fallback_ttl=options.fallback_ttl,
                    path=options.path,
                    wall=self.wall,
                    emit=self._emit,
                )
            )
            self._more.set()
        return self._ways[dataset]

    def statistics(self) -> Mapping[str, HttpStatistics]:
        """By dataset."""
        return {dataset: way.statistics() for dataset, way in self._ways.items()}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        running: set[str] = set()
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                for dataset in self._ways.keys() - running:
                    nursery.start_soon(self._ways[dataset].cache.run)
                    running.add(dataset)
                self._more = trio.Event()
                await self._more.wait()

    async def aclose(self) -> None:
        """Close the caches; no source may be open."""
        for way in self._ways.values():
            await way.cache.aclose()

    def __repr__(self) -> str:
        return f"<HttpShared: {', '.join(self._ways) or 'no datasets'}>"


class Way:
    """A dataset's requests through its cache, over the connection that was opened last."""

    def __init__(self, open_cache: Callable[[Send], ResponseCache]) -> None:
        self.cache = open_cache(self._send)
        self._lane: Lane | None = None

    def enter(self, transport: Transport) -> "Lane":
        """Send by this transport from now on."""
        self._lane = Lane(transport, self)
        return self._lane

    def leave(self, lane: "Lane") -> None:
        self._lane = None if self._lane is lane else self._lane

    def sender(self, namespace: str) -> Send:
        return partial(self.cache.send, namespace=namespace)

    def statistics(self) -> HttpStatistics:
        control = self._lane.transport.statistics() if self._lane is not None else None
        return HttpStatistics(control, self.cache.statistics())

    async def _send(self, request: HttpRequest) -> HttpResponse:
        if self._lane is None:
            raise SourceError("The connection to the API is closed.")
        return await self._lane.send(request)


class Lane:
    """A transport, closed by whoever uses it last: a revalidation may be under way when its source is closed."""

    def __init__(self, transport: Transport, way: Way) -> None:
        self.transport = transport
        self._way = way
        self._users = 0
        self._retired = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        self._users += 1
        try:
            return await self.transport.send(request)
        finally:
            self._users -= 1
            await self._close_if_unused()

    async def aclose(self) -> None:
        self._way.leave(self)
        self._retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._retired and not self._users:
            with trio.move_on_after(CLOSING, shield=True):
                await self.transport.aclose()
