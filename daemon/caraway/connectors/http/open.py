"""From a dataset's `from`, `columns` and `params` to a source: a file, or an API behind its response cache."""

from pathlib import Path

import trio

from caraway.config.model import Dataset, RefreshMode, StorageMode
from caraway.config.params import ConnectorParams
from caraway.connectors.http.files import file_format, open_file_over_http
from caraway.connectors.http.options import read_address, read_api
from caraway.connectors.http.shared import CLOSING, CacheOptions, HttpShared
from caraway.connectors.http.source import Api, HttpSource
from caraway.connectors.http.transport import Transport, TransportOptions, read_transport
from caraway.ports import Source

CACHE_BYTES = 64 * 1024**2


async def open_http_source(
    config: Dataset, params: ConnectorParams, *, directory: Path, data: Path, shared: HttpShared
) -> Source:
    """The source of an `http:` or `https:` dataset of the pod in `directory`; a RequestSource where it is an API.

    `data` is for this dataset alone, and is made when it is needed. ConfigError for a wrong parameter. The API is asked
    once whether it is there (SourceError); in refresh_mode caching, where what is stored is served without it, only
    before the first request, and only if the dataset says where to ask.
    """
    address = read_address(config, params)
    is_file = file_format(config, params) is not None
    options = await read_transport(params, address.named, directory=directory)
    api = None if is_file else read_api(config, params, address, _header_names(options))
    cache = _cache_options(config, params, data)
    transport = Transport(options, shared.controls, config.name, wall=shared.wall)
    try:
        if api is None:
            return await open_file_over_http(config, params, address.plain, wire=transport, directory=data / "files")
        if not _is_caching(config):
            await transport.probe()
    except BaseException:
        with trio.move_on_after(CLOSING, shield=True):
            await transport.aclose()
        raise
    put_off = _is_caching(config) and options.health_probe is not None
    return _source(api, transport, shared, cache, put_off=put_off)


def _source(api: Api, transport: Transport, shared: HttpShared, cache: CacheOptions, *, put_off: bool) -> HttpSource:
    """`put_off`: the probe is still to be asked."""
    way = shared.way(api.dataset, cache)
    lane = way.enter(transport)
    return HttpSource(api, way.sender, lane.aclose, prove=transport.probe if put_off else None, wall=shared.wall)


def _header_names(options: TransportOptions) -> frozenset[str]:
    """Of those that go with each request."""
    names = {name for name, _ in options.headers}
    return frozenset(names | {options.oauth.header} if options.oauth is not None else names)


def _cache_options(config: Dataset, params: ConnectorParams, data: Path) -> CacheOptions:
    size = params.integer("response_cache_max_size_bytes", CACHE_BYTES, least=0)
    stored = config.acceleration is not None and config.acceleration.mode is not StorageMode.MEMORY
    path = data / "responses.sqlite" if stored else None
    return CacheOptions(size, params.duration("response_cache_fallback_ttl", 0.0), path)


def _is_caching(config: Dataset) -> bool:
    return config.acceleration is not None and config.acceleration.refresh_mode is RefreshMode.CACHING
