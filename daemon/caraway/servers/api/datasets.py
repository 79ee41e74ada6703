"""Datasets: list, detail, refresh, PATCH (reference/http_api.md 3 to 5)."""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
from starlette.requests import Request

from caraway.config.model import RefreshMode
from caraway.core.duration import parse_duration
from caraway.errors import ConfigError, QueryError, SourceError, StoreError
from caraway.model import RefreshOverrides
from caraway.servers.api.bodies import Bodies
from caraway.servers.api.describing import detail, is_accelerated, listed
from caraway.servers.api.reply import Reply, ReplyError, flag, json, message, rows
from caraway.servers.services import DatasetHandle

OVERRIDES = ("refresh_sql", "refresh_mode", "refresh_jitter_max")


class DatasetRoutes:
    """Handlers over the daemon's datasets."""

    def __init__(self, datasets: Mapping[str, DatasetHandle], bodies: Bodies) -> None:
        self._datasets = datasets
        self._bodies = bodies

    async def list(self, request: Request) -> Reply:
        with_status = flag("status", request.query_params.get("status"))
        source = request.query_params.get("source")
        wanted = request.query_params.get("format", "json")
        columns = ["from", "name", "replication_enabled", "acceleration_enabled", *["status"] * with_status]
        handles = (handle for handle in self._datasets.values() if source in {None, handle.config.from_.connector})
        now = datetime.now(UTC)
        return rows(wanted, columns, (listed(handle, now, with_status=with_status) for handle in handles))

    async def detail(self, request: Request) -> Reply:
        return json(200, detail(self._find(request), datetime.now(UTC)))

    async def refresh(self, request: Request) -> Reply:
        handle = self._accelerated(request)
        async with self._bodies.read(request.receive) as body:
            overrides = _overrides(body)
        try:
            handle.request_refresh(overrides)
        except ConfigError as error:
            return message(400, str(error))
        except (QueryError, SourceError, StoreError) as error:
            return message(500, str(error))
        return message(201, f"Dataset refresh triggered for {request.path_params['name']}.")

    async def patch(self, request: Request) -> Reply:
        handle = self._accelerated(request)
        async with self._bodies.read(request.receive) as body:
            sql = _object(body, ("refresh_sql",)).get("refresh_sql")
        if sql is None:
            return Reply(200, b"", None)
        try:
            handle.set_refresh_sql(_string("refresh_sql", sql))
        except ConfigError as error:
            return message(400, f"Request failed. {error}")
        return Reply(200, b"", None)

    def _find(self, request: Request) -> DatasetHandle:
        return find(self._datasets, request.path_params["name"])

    def _accelerated(self, request: Request) -> DatasetHandle:
        handle = self._find(request)
        if not is_accelerated(handle):
            name = request.path_params["name"]
            raise ReplyError(message(400, f"Dataset {name} does not have acceleration enabled"))
        return handle


def find(datasets: Mapping[str, DatasetHandle], name: str) -> DatasetHandle:
    """The dataset of this name, in whatever case; 404 if there is none."""
    handle = datasets.get(name) or datasets.get(name.lower())
    if handle is None:
        alike = (known for key, known in datasets.items() if key.lower() == name.lower())
        handle = next(alike, None)
    if handle is None:
        raise ReplyError(message(404, f"Dataset {name} not found"))
    return handle


def _overrides(body: bytes) -> RefreshOverrides:
    if not body.strip():
        return RefreshOverrides()
    values = _object(body, OVERRIDES)
    texts = {key: _string(key, value) for key, value in values.items() if value is not None}
    mode = texts.get("refresh_mode")
    if mode is not None and mode not in {known.value for known in RefreshMode}:
        allowed = ", ".join(known.value for known in RefreshMode)
        raise ReplyError(message(400, f"refresh_mode {mode[:40]!r} is not known; it is one of {allowed}."))
    return RefreshOverrides(texts.get("refresh_sql"), mode, _duration(texts.get("refresh_jitter_max")))


def _duration(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise ReplyError(message(400, f"refresh_jitter_max: {error}")) from error


def _string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ReplyError(message(400, f"{key} is a string."))
    return value


def _object(body: bytes, keys: tuple[str, ...]) -> dict[str, object]:
    """The JSON object of a body; 400 where it isn't one or has other keys."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ReplyError(message(400, f"The body is not JSON: {error}.")) from error
    if not isinstance(value, dict):
        raise ReplyError(message(400, "The body is a JSON object."))
    unknown = ", ".join(sorted(value.keys() - set(keys)))[:200]
    if unknown:
        raise ReplyError(message(400, f"Unknown keys: {unknown}. Known here: {', '.join(keys)}."))
    return value
