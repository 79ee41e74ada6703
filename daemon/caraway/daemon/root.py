"""The composition root: a spicepod becomes one supervised daemon. Concrete adapters are named here alone.

ring 0   datasets (quarantined when they keep crashing), the catalog
ring 1   the query actor and its worker
ring 2   servers: they stop first, and drain for up to `runtime.shutdown_timeout`
"""

import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import orjson
import trio

from caraway import __version__
from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec, settle
from caraway.caching.results import ResultsCache
from caraway.config.load import load
from caraway.config.model import Acceleration, Dataset, FromUri, ReadyState, Runtime, Spicepod, View
from caraway.core.names import parse_dataset_name
from caraway.core.readiness import pod_ready
from caraway.daemon.folders import dataset_folder
from caraway.daemon.sources import Sources
from caraway.dataset.actor import DatasetActor
from caraway.dataset.fitting import storage_mode
from caraway.dataset.settings import engine_keys, stream_conflict
from caraway.dataset.shared import Shared, load_permits
from caraway.dataset.spool import Spool
from caraway.dataset.tables import DatasetTables
from caraway.errors import StoreError
from caraway.events import AllReady, ConfigWarned, DaemonStarted, DaemonStopped, DaemonStopping
from caraway.island import Island, open_island
from caraway.latest import Latest
from caraway.model import Endpoints, ViewInfo
from caraway.ports import Connect, Emit, OpenStore, Source
from caraway.query.actor import QueryActor
from caraway.query.view import ViewSource
from caraway.secrets import Secrets, open_store
from caraway.servers.auth import Authenticator
from caraway.servers.doors import Doors
from caraway.servers.identity import read_identity
from caraway.servers.services import Component, Readiness, Services
from caraway.supervise import Child, GiveUp, Ring, bare, supervise

HTTP_ADDRESS = "127.0.0.1:8090"
FLIGHT_ADDRESS = "127.0.0.1:50051"
DATA_DIRECTORY = ".caraway"
"""Beside the spicepod, where `--data-dir` does not say otherwise."""

SPOOL_BYTES = 4 * 1024**3
"""What the answers of sources that are queried right now may take on disk, all together."""


@dataclass(frozen=True, slots=True)
class Options:
    """How `caraway run` was called; an address is `host:port`, port 0 picks one, None is the pod's or the default."""

    pod_path: Path
    http: str | None = None
    flight: str | None = None
    metrics: str | None = None
    data_dir: Path | None = None
    runtime_overrides: tuple[str, ...] = ()
    verbosity: int = 0


async def run_daemon(
    options: Options,
    emit: Emit,
    *,
    stopping: trio.Event | None = None,
    task_status: trio.TaskStatus["Daemon"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a pod until `stopping` is set, or without one until SIGTERM or SIGINT; then drain, commit and return.

    A second signal ends the draining: what is being answered is broken off, what is stored stays whole.
    Started with the daemon once its servers listen. ConfigError, StoreError before that; a bug is raised at the end.
    """
    pod = load(options.pod_path, options.runtime_overrides)
    asked = stopping if stopping is not None else trio.Event()
    with _bare_errors(), _locked(_data_directory(options, pod)) as data:
        async with open_island() as island, trio.open_nursery() as nursery:
            if stopping is None:
                await nursery.start(_stop_on_signals, asked, nursery.cancel_scope)
            await Daemon(pod, options, data, emit, island).run(asked, task_status=task_status)
            nursery.cancel_scope.cancel()


class Daemon:
    """One pod at work. `datasets` are its accelerated and federated tables by name, accelerated views included."""

    def __init__(self, pod: Spicepod, options: Options, data: Path, emit: Emit, island: Island) -> None:
        self.pod = pod
        self.endpoints = Latest(Endpoints())
        self._options = options
        self._data = data
        self._emit = emit
        self._stopping = False
        self._secrets = Secrets({decl.name: open_store(decl.store, decl.params, pod.directory) for decl in pod.secrets})
        self._sources = Sources(pod, self._secrets, data, island, emit)
        self._shared = Shared(
            emit,
            load_permits(pod.runtime.dataset_load_parallelism),
            _spool((pod.runtime.query.temp_directory or data) / "spool"),
        )
        views = [view for view in pod.views if view.acceleration is None]
        self.datasets: Mapping[str, DatasetActor] = {config.name: self._dataset(config) for config in self._configs()}
        self._tables = DatasetTables(self.datasets, [ViewInfo(view.name, view.sql, view.description) for view in views])
        self.query = QueryActor(self._tables, pod.runtime.query, emit)
        limits = pod.runtime.query
        self.results = ResultsCache(self.query, self._tables, pod.runtime.sql_results, emit, timeout=limits.timeout)
        self.services = Services(
            pod=pod,
            engine=self.results,
            datasets=self.datasets,
            endpoints=self.endpoints,
            readiness=self.readiness,
            authenticator=Authenticator(pod.runtime.auth, self._secrets.resolve, emit=emit),
            emit=emit,
            shutting_down=lambda: self._stopping,
            results_cache=self.results.statistics,
            http_sources=self._sources.statistics,
        )
        identity = read_identity(pod.runtime.tls, pod.directory, self._secrets.resolve)
        self._doors = Doors(self.services, island, _addresses(options, pod.runtime), identity=identity)

    async def run(
        self, stopping: trio.Event, *, task_status: trio.TaskStatus["Daemon"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stopping` is set."""
        self._emit(DaemonStarted(self.pod.name, __version__, self.pod.runtime.output_level))
        for warning in self.pod.warnings:
            self._emit(ConfigWarned(warning))
        self.services.authenticator.read_keys()
        grace = self.pod.runtime.shutdown_timeout
        rings = [
            Ring(tuple(self._dataset_children())),
            Ring((Child("query", self.query.run), Child("results cache", self.results.run))),
            Ring(tuple(self._doors.children(grace)), grace),
        ]
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(supervise, rings, stopping=stopping, emit=self._emit))
                self._write_endpoints()
                task_status.started(self)
                nursery.start_soon(self._announce_ready, stopping)
                await stopping.wait()
                self._stopping = True
                self._emit(DaemonStopping(grace))
        finally:
            self._endpoints_file.unlink(missing_ok=True)
        self._emit(DaemonStopped())

    def readiness(self) -> Readiness:
        """What `/v1/ready` answers."""
        components = tuple(
            Component(name, _kind(actor.config), actor.status.value.ready, _detail(actor))
            for name, actor in self.datasets.items()
        )
        states = ((actor.status.value.state, actor.status.value.ready) for actor in self.datasets.values())
        on_load = self.pod.runtime.ready_state is ReadyState.ON_LOAD
        return Readiness(pod_ready(states, on_load=on_load, stopping=self._stopping), components)

    # --- composition -------------------------------------------------------------------------------------------------

    def _configs(self) -> Iterator[Dataset]:
        yield from self.pod.datasets
        yield from (_view_dataset(view) for view in self.pod.views if view.acceleration is not None)

    def _dataset(self, config: Dataset) -> DatasetActor:
        return DatasetActor(config, self._connect(config), self._store(config), self._shared)

    def _connect(self, config: Dataset) -> Connect:
        match config.from_.connector:
            case "localpod":
                return partial(self._open_localpod, config)
            case "view":
                return partial(self._open_view, config)
            case _:
                return self._sources.connect(config)

    async def _open_view(self, config: Dataset) -> Source:
        return ViewSource(self.query, config.name, config.from_.path)

    async def _open_localpod(self, config: Dataset) -> Source:
        from caraway.connectors.localpod import open_localpod_source

        parent = self.datasets[parse_dataset_name(config.from_.path)]  # the loader has seen that it is there
        return await open_localpod_source(config, parent.log, self._emit)

    def _store(self, config: Dataset) -> OpenStore | None:
        acceleration = config.acceleration
        if acceleration is None:
            return None
        return partial(open_accelerator, self._storage(config, acceleration))

    def _storage(self, config: Dataset, acceleration: Acceleration) -> StorageSpec:
        keys = engine_keys(acceleration)
        return StorageSpec(
            name=config.name,
            directory=dataset_folder(self._data / "datasets", config.name),
            engine=acceleration.engine,
            mode=storage_mode(config),
            primary_key=keys.primary_key,
            on_conflict=stream_conflict(config),
            indexes=keys.indexes,
            time=config.time_column,
            params=acceleration.params,
        )

    def _dataset_children(self) -> Iterator[Child]:
        yield Child("catalog", _started(self._tables.run))
        yield from self._sources.children()
        for name, actor in self.datasets.items():
            yield Child(f"dataset {name}", actor.run, GiveUp.QUARANTINE, crashed=actor.crashed, release=actor.aclose)

    # --- what it tells -----------------------------------------------------------------------------------------------

    async def _announce_ready(self, stopping: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_ready, nursery.cancel_scope)
            await stopping.wait()
            nursery.cancel_scope.cancel()

    async def _wait_ready(self, scope: trio.CancelScope) -> None:
        for actor in self.datasets.values():
            await actor.status.wait_until(lambda status: status.ready)
        self._emit(AllReady())
        scope.cancel()

    @property
    def _endpoints_file(self) -> Path:
        return self._data / "endpoints.json"

    def _write_endpoints(self) -> None:
        """Whole or not at all: others wait for the file."""
        draft = self._endpoints_file.with_suffix(".new")
        draft.write_bytes(orjson.dumps(asdict(self.endpoints.value)))
        draft.replace(self._endpoints_file)


def _data_directory(options: Options, pod: Spicepod) -> Path:
    """Absolute, for query workers open the same files from a working directory of their own."""
    return (options.data_dir or pod.directory / DATA_DIRECTORY).absolute()


def _addresses(options: Options, runtime: Runtime) -> Endpoints:
    """Where to listen: flags before the pod before the defaults."""
    return Endpoints(
        http=options.http or runtime.http_bind_address or HTTP_ADDRESS,
        flight=options.flight or runtime.flight_bind_address or FLIGHT_ADDRESS,
        metrics=options.metrics or runtime.metrics_bind_address,
    )


def _view_dataset(view: View) -> Dataset:
    """An accelerated view as a dataset whose source is its SQL."""
    return Dataset(
        name=view.name,
        from_=FromUri("view", view.sql, f"view:{view.name}"),
        description=view.description,
        acceleration=view.acceleration,
        ready_state=view.ready_state,
    )


def _kind(config: Dataset) -> str:
    return "view" if config.from_.connector == "view" else "dataset"


def _detail(actor: DatasetActor) -> str:
    status = actor.status.value
    return f"{status.state.value}: {status.problem.message}" if status.problem is not None else status.state.value


def _started(run: Callable[[], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A child that serves from the beginning."""

    async def child(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await run()

    return child


async def _stop_on_signals(
    stopping: trio.Event, all_of_it: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stopping.is_set():
                all_of_it.cancel()
            stopping.set()


@contextmanager
def _bare_errors() -> Iterator[None]:
    try:
        yield
    except BaseExceptionGroup as group:
        raise bare(group) from group


def _spool(folder: Path) -> Spool:
    """With a spare folder in memory, which the next daemon gives back."""
    return Spool(folder, SPOOL_BYTES, spare=lambda: settle(StorageSpec("spool", folder)).directory)


@contextmanager
def _locked(data: Path) -> Iterator[Path]:
    """The data directory, for this daemon alone: two on one directory would destroy each other's files."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"Another caraway uses the data directory {data}.",
                remedy="Stop it, or give this one another --data-dir.",
                transient=False,
            ) from error
        lock.write(str(os.getpid()))
        lock.flush()
        yield data
