"""Where a WebSocket is: `ws://host:port/path?query`, checked."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

CURSOR = "{cursor}"
"""In the address or the first message: the greatest sequence that is stored."""

_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """`resource` is path and query, which messages do not show: a query may hold what is nobody's business."""

    host: str
    port: int
    secure: bool
    path: str
    resource: str

    @property
    def netloc(self) -> str:
        """`host:port`, an IPv6 host in brackets, the usual port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def _scheme(self) -> str:
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        return f"{self._scheme}://{self.netloc}{self.path}"


def parse_address(text: str) -> Address:
    """The address in a `from`; ValueError says what is wrong with it, without repeating what may be secret."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("an address has no spaces or other unusual characters; write them as %20 and the like")
    if "${" in text:
        raise ValueError("an address can't refer to secrets, for addresses are shown; put them into ws_headers")
    if not text.startswith(("ws://", "wss://")):
        raise ValueError("expected ws://host:port/path or wss://host/path")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ValueError("an address can't hold a user or password, for it is shown; set `Authorization` in ws_headers")
    if not parts.hostname:
        raise ValueError("the address names no host")
    if parts.fragment:
        raise ValueError("the part from # on is never sent; remove it")
    path = parts.path or "/"
    resource = f"{path}?{parts.query}" if parts.query else path
    return Address(parts.hostname, _port(parts), parts.scheme == "wss", path, resource)


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("a port is a number from 1 to 65535")
    return port if port is not None else _PORTS[parts.scheme]
