"""HTTP requests of one dataset: let through by the rate control of their origin, authenticated, repeated."""

import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import trio

from caraway.connectors.http.transport.control import ControlStatistics, RateControls
from caraway.connectors.http.transport.failures import ExchangeError
from caraway.connectors.http.transport.oauth import Tokens
from caraway.connectors.http.transport.options import TransportOptions
from caraway.connectors.http.transport.wire import Answer, Wire
from caraway.core.http_retry import Answered, Outcome, Unanswered, cooldown, pause, retry_after
from caraway.core.http_urls import origin_of, place_of
from caraway.core.rate_control import Verdict, verdict
from caraway.errors import SourceError
from caraway.model import HttpHeaders, HttpRequest, HttpResponse, Secret

if TYPE_CHECKING:
    import httpcore2

T = TypeVar("T", Answer, HttpResponse)
Attempt: TypeAlias = Callable[[AsyncExitStack, HttpRequest], Awaitable[T]]

MAX_BODY = 64 * 1024**2
_PROBE = f"/__caraway_health_check_{secrets.token_hex(8)}"
"""Nobody's path, and the same for as long as we run: a failure that lasts is told in the same words."""


def _now() -> datetime:
    return datetime.now(UTC)


class Transport:
    """Requests of one `dataset` to its origin, and to no other; `max_body` bounds what `send` holds of an answer.

    Nothing is connected before the first request.
    """

    def __init__(
        self,
        options: TransportOptions,
        controls: RateControls,
        dataset: str,
        *,
        max_body: int = MAX_BODY,
        wall: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
        backend: "httpcore2.AsyncNetworkBackend | None" = None,
    ) -> None:
        self._options = options
        self._max_body = max_body
        self._wall = wall
        self._chance = chance
        self._wire = Wire(options, backend)
        self._tokens = Tokens(options.oauth, self._send_unbound) if options.oauth is not None else None
        usual = options.client_timeout if controls.acquire_timeout is None else controls.acquire_timeout
        self._patience = usual if options.acquire_timeout is None else options.acquire_timeout
        self._control = controls.of(options.origin)
        self._control.join(self, dataset, options.limits)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """As `ports.Send`: the whole answer of the last attempt, any status. Redirections are answers too.

        SourceError where that attempt had none, or where the rate control lets none through in time.
        """
        async with AsyncExitStack() as stack:
            return await self._persist(stack, request, self._whole)

    @asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[Answer]:
        """As `send`, with a body that is read as it comes; what breaks off in the body is not repeated.

        `client_timeout` bounds the wait for the head, and for each piece of the body. Leaving the context early closes
        the connection; until then the answer counts as one of the concurrent requests.
        """
        async with AsyncExitStack() as stack:
            yield await self._persist(stack, request, self._begun)

    async def probe(self) -> None:
        """Ask the API once whether it is there; SourceError if it is not.

        With `health_probe` a 2xx is expected there; else any answer at a path that is not there will do.
        """
        path = self._options.health_probe
        async with self._exchange(HttpRequest("GET", self._options.origin + (path or _PROBE))) as answer:
            if path is not None and not 200 <= answer.status < 300:
                raise SourceError(
                    f"The health probe {place_of(self._options.origin + path)} answered {answer.status}.",
                    remedy="Check the API's health, and health_probe, which has to name a path that answers 2xx.",
                    code="UnhealthyEndpoint",
                )

    def statistics(self) -> ControlStatistics:
        """Of the origin, all its datasets together."""
        return self._control.statistics()

    async def aclose(self) -> None:
        """Close its connections; its limits hold no longer."""
        self._control.leave(self)
        await self._wire.aclose()

    # --- attempts

    async def _persist(self, stack: AsyncExitStack, request: HttpRequest, attempt: Attempt[T]) -> T:
        """What the last attempt gave, which may be open on the stack; nothing is left of those before."""
        began, number = trio.current_time(), 0
        while True:
            number += 1
            try:
                result: T | ExchangeError = await attempt(stack, request)
            except ExchangeError as error:
                result = error
            elapsed, outcome = trio.current_time() - began, self._outcome(result)
            policy, chance = self._options.retry, self._chance()
            wait = pause(request.method, outcome, policy, chance, attempt=number, elapsed=elapsed)
            if wait is None:
                if isinstance(result, ExchangeError):
                    raise result
                return result
            await stack.aclose()
            await trio.sleep(wait)

    def _outcome(self, result: Answer | HttpResponse | ExchangeError) -> Outcome:
        if isinstance(result, ExchangeError):
            return Unanswered(result.fault)
        return Answered(result.status, retry_after(result.headers, self._wall()))

    async def _whole(self, _: AsyncExitStack, request: HttpRequest) -> HttpResponse:
        async with self._exchange(request) as answer:
            return await self._read(answer)

    async def _begun(self, stack: AsyncExitStack, request: HttpRequest) -> Answer:
        return await stack.enter_async_context(self._exchange(request))

    async def _send_unbound(self, request: HttpRequest) -> HttpResponse:
        """To the token server: without turns and credentials of the API."""

        async def attempt(_: AsyncExitStack, request: HttpRequest) -> HttpResponse:
            async with self._wire.exchange(request) as answer:
                return await self._read(answer)

        async with AsyncExitStack() as stack:
            return await self._persist(stack, request, attempt)

    async def _read(self, answer: Answer) -> HttpResponse:
        body = await answer.read(self._max_body)
        return HttpResponse(answer.status, answer.headers, body, answer.age)

    @asynccontextmanager
    async def _exchange(self, request: HttpRequest) -> AsyncIterator[Answer]:
        """One attempt; with another token once more, where the API did not accept the one it was shown."""
        if origin_of(request.url) != self._options.origin:
            raise ValueError(f"{place_of(request.url)} is not at {self._options.origin}")
        token = await self._tokens.get() if self._tokens is not None else None
        async with self._turn(request, token) as answer:
            if token is None or self._tokens is None or answer.status != 401 or not self._tokens.may_renew(token):
                yield answer
                return
        token = await self._tokens.renew(token)
        async with self._turn(request, token) as answer:
            if answer.status == 401:
                self._tokens.in_vain(token)
            yield answer

    @asynccontextmanager
    async def _turn(self, request: HttpRequest, token: Secret | None) -> AsyncIterator[Answer]:
        async with self._control.turn(self._patience) as turn:
            try:
                async with self._wire.exchange(replace(request, headers=self._headers(request, token))) as answer:
                    turn.verdict = verdict(answer.status)
                    self._cool(answer)
                    yield answer
            except ExchangeError:
                turn.verdict = Verdict.FAILED
                raise

    def _cool(self, answer: Answer) -> None:
        seconds = cooldown(answer.status, answer.headers, self._wall())
        if seconds:
            self._control.cool(seconds)

    def _headers(self, request: HttpRequest, token: Secret | None) -> HttpHeaders:
        """The request's own, the dataset's where it names none; credentials are the dataset's alone."""
        fixed = [(name, value.reveal()) for name, value in self._options.headers]
        if token is not None and self._options.oauth is not None:
            fixed.append(self._options.oauth.credentials(token))
        kept = {name for name, _ in fixed} & {"authorization", self._options.oauth and self._options.oauth.header}
        own = [line for line in request.headers if line[0] not in kept]
        named = {name for name, _ in own}
        return (*own, *(line for line in fixed if line[0] not in named))

    def __repr__(self) -> str:
        return f"<Transport to {self._options.origin}>"
