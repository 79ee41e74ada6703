"""The connectors by name, and what all sources of one kind share; each is imported where a dataset names it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caraway.config.model import Dataset, Spicepod
from caraway.config.params import ConnectorParams
from caraway.daemon.folders import dataset_folder
from caraway.errors import ConfigError
from caraway.flight.client import FlightPool
from caraway.island import Island
from caraway.ports import Connect, Emit, Source
from caraway.secrets import Secrets
from caraway.supervise import Child

if TYPE_CHECKING:
    from caraway.connectors.http.shared import HttpShared, HttpStatistics

WEB = frozenset({"http", "https"})


class Sources:
    """Opens the sources of a pod's datasets, but for those that are part of the daemon itself."""

    def __init__(self, pod: Spicepod, secrets: Secrets, data: Path, island: Island, emit: Emit) -> None:
        self._pod = pod
        self._secrets = secrets
        self._data = data
        self._emit = emit
        self._pool = FlightPool(island)
        self._web = _web(pod, emit)

    def connect(self, config: Dataset) -> Connect:
        """How to open the source of a dataset; ConfigError for a connector that there is not."""
        params = ConnectorParams(config.params, self._secrets, config.name)
        match config.from_.connector:
            case "spice.ai":
                return partial(_open_spice, config, params, self._pool, self._pod)
            case "file":
                return partial(_open_file, config, params, self._pod.directory)
            case "synthetic":
                return partial(_open_synthetic, config, params)
            case "memory":
                return partial(_open_memory, config)
            case "ws" | "wss":
                return partial(_open_websocket, config, params, self._emit, self._pod.directory)
            case "http" | "https":
                return partial(self._open_http, config, params)
            case unknown:  # the loader knows this list
                raise ConfigError(f"dataset {config.name}: no connector {unknown!r}")

    def children(self) -> Iterator[Child]:
        """What has to run beside the datasets, and is let go after them."""
        if self._web is not None:
            yield Child("http", self._web.run, release=self._web.aclose)

    def statistics(self) -> Mapping[str, Mapping[str, float | None]]:
        """Of datasets that are read over HTTP, as `Services.http_sources` tells."""
        if self._web is None:
            return {}
        return {dataset: _flat(found) for dataset, found in self._web.statistics().items()}

    async def _open_http(self, config: Dataset, params: ConnectorParams) -> Source:
        from caraway.connectors.http.open import open_http_source

        assert self._web is not None
        folder = dataset_folder(self._data / "http", config.name)
        return await open_http_source(config, params, directory=self._pod.directory, data=folder, shared=self._web)


def _web(pod: Spicepod, emit: Emit) -> "HttpShared | None":
    if not any(dataset.from_.connector in WEB for dataset in pod.datasets):
        return None
    from caraway.connectors.http.shared import HttpShared

    return HttpShared(emit, pod.runtime.params)


def _flat(found: "HttpStatistics") -> Mapping[str, float | None]:
    cache = {f"response_cache_{name}": value for name, value in asdict(found.cache).items()}
    return {**(asdict(found.control) if found.control is not None else {}), **cache}


async def _open_spice(config: Dataset, params: ConnectorParams, pool: FlightPool, pod: Spicepod) -> Source:
    from caraway.connectors.spice.open import open_spice_source

    limit = pod.runtime.flight.max_message_size
    return await open_spice_source(config, params, pool, directory=pod.directory, max_message_size=limit)


async def _open_file(config: Dataset, params: ConnectorParams, directory: Path) -> Source:
    from caraway.connectors.file.source import open_file_source

    return await open_file_source(config, params, directory=directory)


async def _open_synthetic(config: Dataset, params: ConnectorParams) -> Source:
    from caraway.connectors.synthetic import open_synthetic_source

    return await open_synthetic_source(config, params)


async def _open_memory(config: Dataset) -> Source:
    from caraway.connectors.memory import open_memory_source

    return await open_memory_source(config)


async def _open_websocket(config: Dataset, params: ConnectorParams, emit: Emit, directory: Path) -> Source:
    from caraway.connectors.websocket.open import open_websocket_source

    return await open_websocket_source(config, params, emit, directory=directory)
