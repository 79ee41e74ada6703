"""Datasets: list, detail, refresh, PATCH (reference/http_api.md 3 to 5)."""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
from starlette.requests import Request

from caraway.config.model import RefreshMode
from caraway.core.duration import parse_duration
from caraway.errors import ConfigError, QueryError, SourceError, StoreError
from caraway.model import DatasetStatus, Problem, RefreshOverrides, Snapshot, State
from caraway.servers.api.bodies import Bodies
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
        return rows(wanted, columns, (_listed(handle, with_status) for handle in handles))

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
        name = request.path_params["name"]
        handle = self._datasets.get(name) or self._datasets.get(name.lower())
        if handle is None:
            alike = (known for key, known in self._datasets.items() if key.lower() == name.lower())
            handle = next(alike, None)
        if handle is None:
            raise ReplyError(message(404, f"Dataset {name} not found"))
        return handle

    def _accelerated(self, request: Request) -> DatasetHandle:
        handle = self._find(request)
        if not _is_accelerated(handle):
            name = request.path_params["name"]
            raise ReplyError(message(400, f"Dataset {name} does not have acceleration enabled"))
        return handle


def _is_accelerated(handle: DatasetHandle) -> bool:
    acceleration = handle.config.acceleration
    return acceleration is not None and acceleration.enabled


def _listed(handle: DatasetHandle, with_status: bool) -> dict[str, object]:
    config, status = handle.config, handle.status.value
    row: dict[str, object] = {
        "from": config.from_.text,
        "name": config.name,
        "replication_enabled": config.replication_enabled,
        "acceleration_enabled": _is_accelerated(handle),
    }
    if with_status:
        row["status"] = status.state.value
        if status.state is State.ERROR and status.problem is not None:
            row["error_message"] = status.problem.message
    return row


def detail(handle: DatasetHandle, at: datetime) -> dict[str, object]:
    """Everything known of a dataset: times in RFC 3339, durations in seconds, `lag` since the newest proof."""
    config, status = handle.config, handle.status.value
    acceleration = config.acceleration if _is_accelerated(handle) else None
    return {
        "name": config.name,
        "source": config.from_.text,
        "engine": acceleration.engine.value if acceleration else None,
        "refresh_mode": acceleration.refresh_mode.value if acceleration else None,
        "status": status.state.value,
        "ready": status.ready,
        "error": _problem(status.problem),
        "lag": None if status.proven_at is None else max(0.0, (at - status.proven_at).total_seconds()),
        **_contents(status.snapshot),
        **_progress(status),
    }


def _problem(problem: Problem | None) -> dict[str, object] | None:
    if problem is None:
        return None
    return {"message": problem.message, "remedy": problem.remedy or None, "since": problem.since}


def _contents(snapshot: Snapshot | None) -> dict[str, object]:
    if snapshot is None:
        return dict.fromkeys(("epoch", "generation", "end_offset", "rows", "bytes", "max_time"))
    newest = snapshot.max_time
    return {
        "epoch": snapshot.epoch,
        "generation": snapshot.generation,
        "end_offset": snapshot.end_offset,
        "rows": snapshot.rows,
        "bytes": snapshot.bytes,
        "max_time": None if newest is None else _instant(newest),
    }


def _instant(nanos: int) -> str | int:
    """RFC 3339 with the precision of a microsecond; the number itself outside of Python's calendar."""
    try:
        return datetime.fromtimestamp(nanos // 10**9, UTC).replace(microsecond=nanos % 10**9 // 1000).isoformat()
    except (ValueError, OverflowError, OSError):
        return nanos


def _progress(status: DatasetStatus) -> dict[str, object]:
    return {
        "last_refresh": status.last_refresh,
        "next_refresh": status.next_refresh,
        "failures": status.failures,
        "rows_loading": status.rows_loading,
        "rate": status.rate,
    }


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
