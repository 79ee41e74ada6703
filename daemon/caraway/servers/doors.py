"""The listening servers of a daemon, as children to supervise."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

import trio

from caraway.events import ServerListening
from caraway.island import Island
from caraway.model import Endpoints
from caraway.servers.api.app import create_app
from caraway.servers.flight.server import FlightServer, ServerIdentity
from caraway.servers.flight.streams import FlightStatistics, Streams, put_idle_seconds
from caraway.servers.flight.tables import Tables
from caraway.servers.http1.server import HttpServer
from caraway.servers.identity import ssl_context
from caraway.servers.metrics import create_metrics_app
from caraway.servers.services import Services
from caraway.supervise import Child


class Server(Protocol):
    """What the doors have in common."""

    async def run(self, address: str, *, task_status: trio.TaskStatus[str]) -> None:
        """Serve `host:port` until drained; started with the bound address."""
        ...

    def drain(self, seconds: float) -> None: ...


class Doors:
    """HTTP, Flight and, where it has an address, metrics. A restarted server binds the port that it had."""

    def __init__(
        self, services: Services, island: Island, addresses: Endpoints, *, identity: ServerIdentity | None
    ) -> None:
        self._services = services
        self._island = island
        self._addresses = addresses
        self._identity = identity
        self._drains: dict[str, Callable[[float], None]] = {}
        self._flight_server: FlightServer | None = None

    def children(self, grace: float) -> Iterator[Child]:
        """One a server; asked to stop, each drains for `grace` seconds."""
        makers: dict[str, Callable[[], Server]] = {"http": self._http, "flight": self._flight, "metrics": self._metrics}
        for name, make in makers.items():
            if getattr(self._addresses, name) is not None:
                yield Child(f"{name} server", partial(self._serve, name, make), stop=partial(self._drain, name, grace))

    async def _serve(
        self, name: str, make: Callable[[], Server], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        server = make()
        self._drains[name] = server.drain
        bound = self._services.endpoints
        address: str = getattr(bound.value, name) or getattr(self._addresses, name)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(server.run, address)
            bound.publish(replace(bound.value, **{name: address}))
            self._services.emit(ServerListening(name, address))
            task_status.started()

    def _drain(self, name: str, grace: float) -> None:
        """Nothing to do for a server that never came to listen."""
        if name in self._drains:
            self._drains[name](grace)

    def _http(self) -> HttpServer:
        tls = ssl_context(self._identity) if self._identity is not None else None
        app = create_app(self._services)
        return HttpServer(app, emit=self._services.emit, tls=tls, at_once=app.at_once)

    def _flight(self) -> FlightServer:
        services = self._services
        self._flight_server = FlightServer(
            services.engine,
            services.authenticator,
            self._island,
            limits=services.pod.runtime.flight,
            emit=services.emit,
            identity=self._identity,
            streams=self._streams(),
        )
        return self._flight_server

    def _streams(self) -> Streams:
        views = frozenset(view.name for view in self._services.pod.views)
        return Streams(Tables(self._services.datasets, views), bringing=put_idle_seconds(os.environ))

    def _metrics(self) -> HttpServer:
        app = create_metrics_app(self._services, self._flight_statistics)
        return HttpServer(app, emit=self._services.emit)

    def _flight_statistics(self) -> FlightStatistics | None:
        return None if self._flight_server is None else self._flight_server.statistics()
