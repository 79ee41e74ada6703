"""Cross-origin requests (runtime.cors): which header lines an answer needs, and the answer to a preflight."""

from caraway.config.model import Cors
from caraway.servers.api.reply import Reply, header
from caraway.servers.http1.exchange import Scope

Lines = tuple[tuple[bytes, bytes], ...]

VARY: Lines = ((b"vary", b"origin, access-control-request-method, access-control-request-headers"),)
"""On every answer, as Spice has it, whether CORS is on or not."""

METHODS = b"GET, HEAD, POST, PATCH"
MAX_AGE = b"600"


def lines(cors: Cors, scope: Scope) -> Lines:
    """What every answer to this request carries."""
    allowed = _allowed_origin(cors, scope)
    return VARY if allowed is None else (*VARY, (b"access-control-allow-origin", allowed))


def preflight(cors: Cors, scope: Scope) -> Reply | None:
    """The answer to a browser that asks first; None for any other request."""
    asked = header(scope, b"access-control-request-method")
    if scope["method"] != "OPTIONS" or asked is None or _allowed_origin(cors, scope) is None:
        return None
    wanted = header(scope, b"access-control-request-headers")
    headers: Lines = ((b"access-control-allow-methods", METHODS), (b"access-control-max-age", MAX_AGE))
    if wanted is not None:
        headers = (*headers, (b"access-control-allow-headers", wanted))
    return Reply(200, b"", None, headers)


def _allowed_origin(cors: Cors, scope: Scope) -> bytes | None:
    if not cors.enabled:
        return None
    origin = header(scope, b"origin")
    if origin is None:
        return None
    if "*" in cors.allowed_origins:
        return b"*"
    return origin if origin.decode("latin-1") in cors.allowed_origins else None
