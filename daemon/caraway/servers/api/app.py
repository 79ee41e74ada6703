"""The API as one ASGI application: the border that every request passes, then its route."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import Route, Router

from caraway.model import Principal
from caraway.servers.api import cors
from caraway.servers.api.bodies import Bodies
from caraway.servers.api.datasets import DatasetRoutes
from caraway.servers.api.pods import PodRoutes
from caraway.servers.api.reply import PRINCIPAL, Reply, ReplyError, header, message, text
from caraway.servers.api.rows import RowRoutes
from caraway.servers.api.sql import PATH as SQL
from caraway.servers.api.sql import SqlRoute, values_of
from caraway.servers.api.status import ReadyRoute, StatusRoute, health
from caraway.servers.http1.at_once import Ready
from caraway.servers.http1.exchange import ROUTE, Application, Message, Receive, Scope, Send
from caraway.servers.http1.parser import Head
from caraway.servers.services import Services

OPEN = frozenset({"/health", "/v1/ready"})
"""Answered without a key, and while the daemon stops."""

READ = frozenset({"GET", "HEAD"})

Handler = Callable[[Request], Awaitable[Reply]]


def create_app(services: Services) -> "Api":
    """The API over the daemon's Services. A bug in a handler goes up to the server's request border."""
    return Api(services)


class Api:
    """An ASGI application. Routes asked often stand in a dictionary, as ASGI too; Starlette finds the others."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._cors = services.pod.runtime.cors
        bodies = Bodies()
        self._sql = SqlRoute(services.engine, bodies)
        self._hot: dict[str, tuple[frozenset[str], Application]] = {
            SQL: (frozenset({"POST"}), self._sql),
            "/health": (READ, health),
            "/v1/ready": (READ, ReadyRoute(services)),
        }
        self._router = _router(services, bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the API speaks http, not {scope['type']}")
        lines = cors.lines(self._cors, header(scope, b"origin"))

        async def send_with_lines(event: Message) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = cors.merged(event.get("headers", ()), lines)
            await send(event)

        try:
            await self._pass_border(scope)
            await self._route(scope, receive, send_with_lines)
        except ReplyError as error:
            await error.reply(scope, receive, send_with_lines)

    def at_once(self, head: Head, body: bytes) -> Ready | None:
        """See http1.at_once: cached answers to SQL, for whom the border lets pass."""
        if head.path != SQL or head.method != "POST" or self._services.shutting_down():
            return None
        headers = values_of(head.headers)
        principal = self._principal(headers.get(b"x-api-key"))
        if principal is None:
            return None
        return self._sql.at_once(headers, body, principal, cors.lines(self._cors, headers.get(b"origin")))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path not in self._hot:
            await self._router(scope, receive, send)
            return
        methods, app = self._hot[path]
        scope[ROUTE] = path
        if scope["method"] not in methods:
            raise ReplyError(_wrong_method(methods))
        await app(scope, receive, send)

    async def _pass_border(self, scope: Scope) -> None:
        """Preflights, keys and shutdown, in this order."""
        asked = cors.preflight(self._cors, scope)
        if asked is not None:
            raise ReplyError(asked)
        if scope["path"] in OPEN:
            return
        principal = self._principal(header(scope, b"x-api-key"))
        if principal is None:
            raise ReplyError(Reply(401, b"Unauthorized"))
        if self._services.shutting_down():
            raise ReplyError(text(503, "caraway is shutting down."))
        scope[PRINCIPAL] = principal

    def _principal(self, key: bytes | None) -> Principal | None:
        return self._services.authenticator.admit(None if key is None else key.decode("utf-8", "surrogateescape"))


def _router(services: Services, bodies: Bodies) -> Router:
    datasets = DatasetRoutes(services.datasets, bodies)
    rows = RowRoutes(services.datasets, bodies)
    pods = PodRoutes(services.pod)
    dataset = "/v1/datasets/{name}"
    return Router(
        [
            _read("/v1/datasets", datasets.list),
            _read(dataset, datasets.detail),
            _write(f"{dataset}/acceleration/refresh", POST=datasets.refresh),
            _write(f"{dataset}/acceleration", PATCH=datasets.patch),
            _write(f"{dataset}/rows", POST=rows.insert, DELETE=rows.delete),
            _read("/v1/status", StatusRoute(services)),
            _read("/v1/spicepods", pods.pods),
            _read("/v1/catalogs", pods.catalogs),
        ],
        redirect_slashes=False,
        default=_not_found,
    )


def _read(template: str, handler: Handler) -> Route:
    return Route(template, _templated(template, handler), methods=["GET"])


def _write(template: str, **handlers: Handler) -> Route:
    """A route that changes something, by method, for which a read-only key won't do."""

    async def guarded(request: Request) -> Reply:
        principal: Principal = request.scope[PRINCIPAL]
        if not principal.write:
            raise ReplyError(message(403, "API key does not allow write access"))
        return await handlers[request.method](request)

    return Route(template, _templated(template, guarded), methods=list(handlers))


def _templated(template: str, handler: Handler) -> Handler:
    async def noted(request: Request) -> Reply:
        request.scope[ROUTE] = template
        return await handler(request)

    return noted


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await text(404, f"There is nothing at {scope['path'][:200]}.")(scope, receive, send)


def _wrong_method(methods: frozenset[str]) -> Reply:
    allowed = ", ".join(sorted(methods))
    return text(405, f"Method not allowed; {allowed} is.", ((b"allow", allowed.encode()),))
