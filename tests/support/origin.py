"""An HTTP/1.1 origin for tests: it counts and records what is asked, and answers as it was told.

    async with serving() as origin:
        origin.put("/items", json=[{"id": 1}], etag='"a"', headers={"cache-control": "max-age=60"})
        origin.then("/items", status=503, retry_after=2)  # the next answer alone
        ... origin.url + "/items" ...
        assert origin.count("/items") == 2

A place is `/path`, `/path?query`, or either after a method (`POST /path`); the most exact one that is known counts, and
what is not known is a 404. `origin.send` is a `ports.Send` of the same answers without a socket, for virtual clocks.
`python -m support.origin` in tests/ serves in a process of its own, told by `POST /__origin/<method>` with the
arguments as a JSON object; see `origin_process.py`.
"""

import base64
import gzip as gzipped
import json as jsons
import ssl
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from itertools import count
from urllib.parse import urlencode, urlsplit

import httptools
import trio

from support.origin_wire import Answer, Received, answer, read_request, write

CONTROL = "/__origin/"
Page = Callable[[Received], Answer]
Guard = Callable[[Received], Answer | None]


now = partial(datetime.now, UTC)


class Origin:
    """What is asked of it and what it answers; `wall` gives the Date that it tells."""

    def __init__(self, *, wall: Callable[[], datetime] = now) -> None:
        self.url = "http://origin.test"
        self.requests: list[Received] = []
        self.tokens: set[str] = set()
        self.connections = 0
        """So many were opened so far."""
        self.greatest = 0
        """So many requests waited for their answers at one time."""
        self._waiting = 0
        self._wall = wall
        self._counts: Counter[str] = Counter()
        self._pages: dict[str, Page] = {}
        self._next: dict[str, deque[Answer]] = {}
        self._guards: dict[str, list[Guard]] = {}
        self._gates: dict[str, trio.Event] = {}
        self._arrived = trio.Event()

    # --- what it is told

    def put(self, place: str, **told) -> None:
        """From now on answer so (arguments as of `answer`)."""
        given = answer(**told)
        self.on(place, lambda _: given)

    def then(self, place: str, *, times: int = 1, **told) -> None:
        """Answer so the next times, before what else holds."""
        self._next.setdefault(place, deque()).extend([answer(**told)] * times)

    def on(self, place: str, page: Page) -> None:
        """From now on answer what the function says."""
        self._pages[place] = page

    def hold(self, place: str) -> None:
        """Let requests arrive, and answer them when they are released."""
        self._gates[place] = trio.Event()

    def release(self, place: str) -> None:
        self._gates.pop(place).set()

    def require_basic(self, place: str, user: str, password: str) -> None:
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.guard(place, lambda got: None if got.headers.get("authorization") == f"Basic {word}" else answer(401))

    def require_token(self, place: str, *tokens: str, header: str = "authorization") -> None:
        """A bearer token of these, or one that is in `tokens` when it is asked; another header has the bare token."""

        def admit(got: Received) -> Answer | None:
            sent = got.headers.get(header, "").removeprefix("Bearer " if header == "authorization" else "")
            return None if sent in {*tokens, *self.tokens} else answer(401)

        self.guard(place, admit)

    def limit(self, place: str, requests: int, seconds: float) -> None:
        """More in any such stretch get 429, with the seconds to wait in Retry-After."""
        recent: deque[float] = deque()

        def admit(_: Received) -> Answer | None:
            now = trio.current_time()
            while recent and recent[0] + seconds <= now:
                recent.popleft()
            if len(recent) < requests:
                recent.append(now)
                return None
            return answer(429, retry_after=-int((now - recent[0] - seconds) // 1))

        self.guard(place, admit)

    def guard(self, place: str, guard: Guard) -> None:
        """Ask it first, from now on; what it answers is the answer."""
        self._guards.setdefault(place, []).append(guard)

    def paginate(self, path: str, rows: list, *, size: int = 10, by: str = "link", **told) -> None:
        """`by` link (the header), url or token (in `next` beside `items`), offset (`offset`, `limit`) or page."""

        def page(got: Received) -> Answer:
            asked = got.parameters
            length = int(asked.get("limit", size))
            start = int(asked.get("page", 1)) * length - length if by == "page" else int(asked.get("offset", 0))
            more = start + length < len(rows)
            following = f"{path}?{urlencode({**asked, 'offset': start + length})}"
            shown = rows[start : start + length]
            if by == "link":
                link = {"link": f'<{following}>; rel="next"'} if more else {}
                return answer(json=shown, headers=link, **told)
            if by in ("url", "token"):
                tells = following if by == "url" else str(start + length)
                return answer(json={"items": shown, "next": tells if more else None}, **told)
            return answer(json=shown, **told)

        self.on(path, page)

    def number(self, place: str, *, least: int = 3, **told) -> None:
        """From now on answer with rows that carry the answer's number: `{"version": v, "row": r, "of": rows}`."""
        numbers = count(1)

        def page(_: Received) -> Answer:
            version = next(numbers)
            rows = least + version % 5
            return answer(json=[{"version": version, "row": row, "of": rows} for row in range(rows)], **told)

        self.on(place, page)

    def token_endpoint(
        self, path: str = "/token", *, client_id="client", client_secret="hush", expires_in=3600,
        refresh_token=None, rotate=False, client_auth="basic",
    ) -> None:  # fmt: skip
        """OAuth2 (RFC 6749 4.4 and 6): each token is `token-<n>`, good until `revoke`; rotated ones `refresh-<n>`."""
        issued, refresh = 0, refresh_token

        def grant(got: Received) -> Answer:
            nonlocal issued, refresh
            if _client(got, client_auth) != (client_id, client_secret):
                return answer(401, json={"error": "invalid_client"})
            if got.form.get("grant_type") == "refresh_token":
                if refresh is None or got.form.get("refresh_token") != refresh:
                    return answer(400, json={"error": "invalid_grant"})
            elif got.form.get("grant_type") != "client_credentials":
                return answer(400, json={"error": "unsupported_grant_type"})
            issued += 1
            self.tokens.add(f"token-{issued}")
            given = {"access_token": f"token-{issued}", "token_type": "Bearer", "expires_in": expires_in}
            if rotate:
                refresh = f"refresh-{issued}"
                given["refresh_token"] = refresh
            return answer(json=given)

        self.on(path, grant)

    def revoke(self) -> None:
        """No token that was issued is good any more."""
        self.tokens.clear()

    # --- what it tells

    def count(self, place: str = "") -> int:
        """Requests so far, of a place or in all."""
        return self._counts[place] if place else len(self.requests)

    async def wait_count(self, count: int, place: str = "") -> None:
        """Until so many requests arrived; give it a bound."""
        while self.count(place) < count:
            await self._arrived.wait()

    def forget(self) -> None:
        """Count and record anew."""
        self.requests.clear()
        self._counts.clear()
        self.greatest = self._waiting

    # --- answers

    async def answer(self, got: Received) -> Answer:
        """Count a request, and wait for its answer as it was told to."""
        self.requests.append(got)
        self._counts.update(got.places)
        self._arrived.set()
        self._arrived = trio.Event()
        self._waiting += 1
        self.greatest = max(self.greatest, self._waiting)
        try:
            for place in got.places:
                if place in self._gates:
                    await self._gates[place].wait()
            chosen = self._choose(got)
            await trio.sleep(chosen.delay)
        finally:
            self._waiting -= 1
        dated = {"date": format_datetime(self._wall(), usegmt=True), **chosen.headers}
        return _encoded(_conditional(got, replace(chosen, headers=dated)))

    async def send(self, request):
        """As `ports.Send`: a fault is a SourceError, and no body is coded."""
        from caraway.errors import SourceError
        from caraway.model import HttpResponse

        parts = urlsplit(request.url)
        got = Received(request.method, parts.path or "/", parts.query, dict(request.headers), request.body or b"")
        given = await self.answer(got)
        if given.fault:
            raise SourceError(f"{self.url} answers no more: {given.fault}.", code="ConnectionLost")
        body = gzipped.decompress(given.body) if given.gzip and given.body else given.body
        headers = tuple(line for line in given.lines if line[0] != "content-encoding")
        return HttpResponse(given.status, headers, body, float(given.headers.get("age", 0)))

    def _choose(self, got: Received) -> Answer:
        for place in got.places:
            for guard in self._guards.get(place, ()):
                refused = guard(got)
                if refused is not None:
                    return refused
        for place in got.places:
            if self._next.get(place):
                return self._next[place].popleft()
        for place in got.places:
            if place in self._pages:
                return self._pages[place](got)
        return answer(404, json={"error": "not found"})

    # --- the wire

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection, one after the other."""
        self.connections += 1
        async with stream:
            try:
                while (got := await read_request(stream)) is not None:
                    given = self._control(got) if got.path.startswith(CONTROL) else await self.answer(got)
                    await write(stream, given, bodiless=got.method == "HEAD")
                    if given.fault or given.close or got.headers.get("connection") == "close":
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
                return

    def _control(self, got: Received) -> Answer:
        """The public methods by name, for who is in another process; GET tells what there is to tell."""
        name, told = got.path.removeprefix(CONTROL), jsons.loads(got.body or b"{}")
        if got.method == "GET":
            seen = [{**asdict(one), "body": one.body.decode("latin-1")} for one in self.requests]
            return answer(json={"requests": seen, "connections": self.connections, "greatest": self.greatest})
        if name not in _REMOTE:
            return answer(404)
        return answer(json={"result": getattr(self, name)(**told)})


_REMOTE = frozenset(
    {"put", "then", "hold", "release", "require_basic", "require_token", "limit", "paginate", "number"}
    | {"token_endpoint", "revoke", "count", "forget"}
)


def _client(got: Received, client_auth: str) -> tuple[str | None, str | None]:
    """Who the client of a token endpoint says that it is."""
    if client_auth == "body":
        return got.form.get("client_id"), got.form.get("client_secret")
    scheme, _, word = got.headers.get("authorization", "").partition(" ")
    name, _, secret = base64.b64decode(word).decode().partition(":") if scheme == "Basic" else ("", "", "")
    return name, secret


def _conditional(got: Received, given: Answer) -> Answer:
    """304 where the client has what it would get (RFC 9110 13.2.2)."""
    if given.status != 200 or given.fault or got.method not in ("GET", "HEAD"):
        return given
    wanted, since = got.headers.get("if-none-match"), got.headers.get("if-modified-since")
    if wanted is not None:
        tag = given.headers.get("etag", "")
        same = bool(tag) and tag.removeprefix("W/") in [one.strip().removeprefix("W/") for one in wanted.split(",")]
    else:
        modified = given.headers.get("last-modified")
        same = bool(since and modified) and parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    return replace(given, status=304, body=b"", bomb=0) if same else given


def _encoded(given: Answer) -> Answer:
    body = given.body + bytes(given.bomb)
    if not given.gzip or given.status == 304:
        return replace(given, body=body)
    return replace(
        given, body=gzipped.compress(body, compresslevel=1), headers={**given.headers, "content-encoding": "gzip"}
    )


@asynccontextmanager
async def serving(*, tls=None, client_ca: bytes | None = None, wall=now, port: int = 0):
    """An Origin on loopback. `tls` is an Identity of `PrivateCa.issue`; with `client_ca` clients must show one too."""
    origin = Origin(wall=wall)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        bound = listener.socket.getsockname()[1]
        origin.url = f"{'https' if tls else 'http'}://127.0.0.1:{bound}"
        listeners = [
            listener if tls is None else trio.SSLListener(listener, _context(tls, client_ca), https_compatible=True)
        ]
        await nursery.start(partial(trio.serve_listeners, origin.serve, listeners))
        yield origin
        nursery.cancel_scope.cancel()


def _context(tls, client_ca: bytes | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(tls.certificate + tls.key)
        pem.flush()
        context.load_cert_chain(pem.name)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context


async def _main(port: int) -> None:
    async with serving(port=port) as origin:
        print(origin.url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
