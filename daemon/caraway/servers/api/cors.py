"""Cross-origin requests (runtime.cors): which header lines an answer needs, and the answer to a preflight."""

from collections.abc import Iterable

from caraway.config.model import Cors
from caraway.servers.api.reply import Reply, header
from caraway.servers.http1.exchange import Scope

Lines = tuple[tuple[bytes, bytes], ...]

VARY: Lines = ((b"vary", b"origin, access-control-request-method, access-control-request-headers"),)
"""On every answer, as Spice has it, whether CORS is on or not."""

METHODS = b"GET, HEAD, POST, PATCH"
MAX_AGE = b"600"


def lines(cors: Cors, origin: bytes | None) -> Lines:
    """What every answer to a request from this origin carries."""
    allowed = _allowed_origin(cors, origin)
    return VARY if allowed is None else (*VARY, (b"access-control-allow-origin", allowed))


def merged(header: Iterable[tuple[bytes, bytes]], more: Lines) -> Lines:
    """An answer's header with more lines, and one Vary of all that it says: some caches read only the first."""
    together = (*header, *more)
    varying = [value for name, value in together if name == b"vary"]
    if len(varying) < 2:
        return together
    return (*(line for line in together if line[0] != b"vary"), (b"vary", b", ".join(varying)))


def preflight(cors: Cors, scope: Scope) -> Reply | None:
    """The answer to a browser that asks first; None for any other request."""
    asked = header(scope, b"access-control-request-method")
    if scope["method"] != "OPTIONS" or asked is None or _allowed_origin(cors, header(scope, b"origin")) is None:
        return None
    wanted = header(scope, b"access-control-request-headers")
    headers: Lines = ((b"access-control-allow-methods", METHODS), (b"access-control-max-age", MAX_AGE))
    if wanted is not None:
        headers = (*headers, (b"access-control-allow-headers", wanted))
    return Reply(200, b"", None, headers)


def _allowed_origin(cors: Cors, origin: bytes | None) -> bytes | None:
    if not cors.enabled or origin is None:
        return None
    if "*" in cors.allowed_origins:
        return b"*"
    return origin if origin.decode("latin-1") in cors.allowed_origins else None
