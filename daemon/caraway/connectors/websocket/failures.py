"""What a WebSocket that fails means to the operator: cause and remedy."""

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from caraway.connectors.websocket.address import Address
from caraway.errors import SourceError

RECHECK_SECONDS = 30.0
"""Least pause after a refusal: rights are granted and paths added at the server without a word."""
CLEAN = frozenset({1000, 1001, 1005})
"""Close codes of a server that is done, is going away or says nothing (RFC 6455 section 7.4.1)."""
_TOO_BIG = 1009
_POLICY = 1008
_BROKEN = 1006

_AGAIN = "It is tried again. If it stays so, look at the server and at proxies in between."


@dataclass(frozen=True, slots=True)
class _Meaning:
    code: str
    what: str
    remedy: str
    retry_after: float | None = RECHECK_SECONDS


_BY_STATUS = {
    401: _Meaning("Unauthorized", "did not accept the credentials", "Check the `Authorization` of ws_headers."),
    403: _Meaning(
        "PermissionDenied",
        "does not permit to read here",
        "Use credentials that have the right in ws_headers, or grant it at the server.",
    ),
    404: _Meaning("NotFound", "has nothing at this path", "Correct the path in `from`."),
    410: _Meaning("NotFound", "has nothing at this path any more", "Correct the path in `from`."),
    429: _Meaning("TooManyRequests", "asks to come later", "It is tried again after the pause that it asks for."),
    503: _Meaning("ServiceUnavailable", "is not available", "It is tried again.", None),
}
_REDIRECTS = _Meaning(
    "Redirected",
    "redirects elsewhere, which is not followed so that credentials stay here",
    "Set `from` to the address that it redirects to.",
)
_FAILS = _Meaning("ServiceUnavailable", "failed", _AGAIN, None)
_NO_WEBSOCKET = _Meaning(
    "NoWebSocket",
    "does not speak WebSocket here",
    "Check address, path and ws_subprotocol; the server's documentation names them.",
)


def rejected(address: Address, status: int, headers: Mapping[bytes, bytes]) -> SourceError:
    """The server answered the handshake with another HTTP status than 101."""
    meaning = _BY_STATUS.get(status) or {3: _REDIRECTS, 5: _FAILS}.get(status // 100, _NO_WEBSOCKET)
    after = headers.get(b"retry-after", b"").strip()
    asked = float(after) if after.isdigit() and len(after) < 6 else None
    return SourceError(
        f"{address} {meaning.what} (HTTP {status}).",
        remedy=meaning.remedy,
        retry_after=asked if asked is not None else meaning.retry_after,
        code=meaning.code,
    )


def closed(address: Address, code: int, reason: str | None, *, silent: float | None) -> SourceError | None:
    """The connection ended with this close code; None where the server was done. `silent`: it was given up then."""
    said = f": {reason[:200]}" if reason and reason.isprintable() else ""
    if silent is not None:
        return SourceError(
            f"{address} was silent for {silent:.0f} s though it was pinged; the connection is taken for dead.",
            remedy=_AGAIN,
            code="ConnectionLost",
        )
    if code in CLEAN:
        return None
    if code == _TOO_BIG:
        return SourceError(
            f"A message of {address} is larger than the limit{said}.",
            remedy="Raise ws_max_message_size, or let the server send smaller messages.",
            code="MessageSizeExceeded",
        )
    if code == _BROKEN:
        return SourceError(f"The connection to {address} broke.", remedy=_AGAIN, code="ConnectionLost")
    remedy = "Check ws_headers and ws_first_message." if code == _POLICY or code >= 4000 else _AGAIN
    return SourceError(f"{address} ended the connection with code {code}{said}.", remedy=remedy, code="Closed")


def unreachable(address: Address, error: OSError | UnicodeError) -> SourceError:
    """No TCP connection came about."""
    return SourceError(
        f"Failed to connect to {address}: {_reason(error)}.",
        remedy=f"Check that the name resolves, that the server listens there, and that no firewall holds back port "
        f"{address.port}.",
        code="UnableToConnectToServer",
    )


def slow(address: Address, seconds: float) -> SourceError:
    """Connecting took too long."""
    return SourceError(
        f"{address} did not complete the handshake within {seconds:.0f} s.",
        remedy="Check that the port speaks WebSocket and that no proxy in between holds it back.",
        code="UnableToConnectToServer",
    )


def untrusted(address: Address, error: BaseException | None) -> SourceError:
    """The TLS handshake failed."""
    said = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "it does not speak TLS"
    return SourceError(
        f"The TLS handshake with {address} failed: {said}.",
        remedy="If the certificate is signed by a private CA, set ws_tls_ca_certificate_file to the CA's PEM file. "
        "Check that the certificate names this host, and that the port speaks TLS.",
        code="UnableToConnectToServer",
    )


def senseless(address: Address) -> SourceError:
    """What came is not HTTP, or not a WebSocket."""
    return SourceError(
        f"{address} answered with something else than a WebSocket handshake, or not at all.",
        remedy=_NO_WEBSOCKET.remedy,
        code=_NO_WEBSOCKET.code,
    )


def _reason(error: BaseException) -> str:
    """Of the last attempt that says something."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, BaseExceptionGroup) else [error.__cause__]
    for cause in (*causes, error):
        match cause:
            case socket.gaierror():
                return f"its name does not resolve ({cause.strerror})"
            case UnicodeError():
                return "its name is not a host name"
            case OSError(errno=int(number)) if number in errno.errorcode:
                return os.strerror(number)
    return str(error)
