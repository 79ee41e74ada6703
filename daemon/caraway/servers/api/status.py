"""Is it up, is it ready, what runs: reference/http_api.md 7 to 9."""

import trio
from starlette.requests import Request

from caraway.servers.api.reply import Reply, ReplyError, flag, rows, text
from caraway.servers.http1.exchange import Receive, Scope, Send
from caraway.servers.services import Component, Services

PROBE_SECONDS = 1.0

HEALTHY = Reply(200, b"ok\n")
READY = Reply(200, b"ready")
NOT_READY = Reply(503, b"not ready")

GATES = ("min_ready_executors", "min_ready_executors_percent")


async def health(scope: Scope, receive: Receive, send: Send) -> None:
    await HEALTHY(scope, receive, send)


class ReadyRoute:
    """GET /v1/ready: 200 once every component was ready, 503 before and while the daemon stops."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Reply:
        readiness = self._services.readiness()
        ready = readiness.ready and not self._services.shutting_down()
        if not scope["query_string"]:
            return READY if ready else NOT_READY
        parameters = Request(scope).query_params
        for gate in GATES:
            if parameters.get(gate, "0") != "0":
                raise ReplyError(text(400, f"{gate} is for cluster schedulers; this is a single daemon."))
        if "verbose" not in parameters or not flag("verbose", parameters["verbose"] or "true"):
            return READY if ready else NOT_READY
        lines = [*map(_line, readiness.components), "ready" if ready else "not ready"]
        return text(200 if ready else 503, "\n".join(lines) + "\n")


def _line(component: Component) -> str:
    mark = "+" if component.ready else "-" if component.detail.startswith("Error") else " "
    return f"[{mark}] {component.kind} {component.name}" + (f": {component.detail}" if component.detail else "")


class StatusRoute:
    """GET /v1/status: the servers, their addresses, and whether they answer."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, request: Request) -> Reply:
        endpoints = self._services.endpoints.value
        listed = [
            _row("http", endpoints.http, up=True),
            _row("flight", endpoints.flight, up=await connects(endpoints.flight)),
            _row("metrics", endpoints.metrics, up=await connects(endpoints.metrics)),
        ]
        # Spice takes OTLP on its Flight port; here nothing takes it yet, and this says so.
        listed.append(_row("opentelemetry", None, up=False))
        return rows(request.query_params.get("format", "json"), ["name", "endpoint", "status"], listed)


def _row(name: str, endpoint: str | None, *, up: bool) -> dict[str, object]:
    status = "Disabled" if endpoint is None else "Ready" if up else "Error"
    return {"name": name, "endpoint": endpoint or "N/A", "status": status}


async def connects(endpoint: str | None) -> bool:
    """Whether something accepts connections there within a second."""
    if endpoint is None:
        return False
    host, _, port = endpoint.rpartition(":")
    with trio.move_on_after(PROBE_SECONDS):
        try:
            async with await trio.open_tcp_stream(host.strip("[]"), int(port)):
                return True
        except OSError:
            return False
    return False
