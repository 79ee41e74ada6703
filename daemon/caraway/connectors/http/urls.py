"""Where an API is: the address in `from`, checked, and the addresses of requests below it."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from caraway.core.http_urls import PORTS

_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_IN_PATH = "/%:@!$&'()*+,;=~"
_IN_QUERY = _IN_PATH + "?[]"


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it may be shown, but for its query; `path` ends as it was written."""

    scheme: str
    netloc: str
    """`host:port`, the usual port left out."""
    path: str = ""
    query: str = ""
    userinfo: str = ""
    """As written, with its `@`; never shown."""

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @property
    def plain(self) -> str:
        """All but who asks."""
        return self.below("", "")

    @property
    def named(self) -> str:
        """All of it."""
        return self.plain.replace("://", f"://{self.userinfo}", 1)

    def at(self, path: str) -> str:
        """A path of its host, whatever the path of the address is."""
        return self.origin + quote(path, safe=_IN_PATH)

    def below(self, path: str, query: str) -> str:
        """Its address with `path` after its own path, and with `query` in place of its own; "" for none.

        What has to be escaped in a URL is, and what is escaped stays so.
        """
        whole = self.path.rstrip("/") + quote(path, safe=_IN_PATH) if path else self.path or "/"
        asked = _LONE_PERCENT.sub("%25", query.removeprefix("?")) if query else self.query
        return f"{self.origin}{whole}?{quote(asked, safe=_IN_QUERY)}" if asked else self.origin + whole

    def __repr__(self) -> str:
        return f"Address({self.origin}{self.path})"

    def __str__(self) -> str:
        return self.origin + self.path


def parse_address(text: str, port: int | None = None) -> Address:
    """The address that `from` names, at `port` (http_port) if given; ValueError does not repeat what may be secret."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("an address has no spaces or other unusual characters; write them as %20 and the like")
    if "${" in text:
        raise ValueError("an address can't refer to secrets, for it is shown; put them into http_password")
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected http://host/path or https://host:port/path")
    try:
        parts = urlsplit(text)
        own = parts.port
    except ValueError as error:
        raise ValueError("its host or port can't be read; a port is a number from 1 to 65535") from error
    if not parts.hostname or own == 0:
        raise ValueError("the address names no host" if own != 0 else "a port is a number from 1 to 65535")
    if parts.fragment:
        raise ValueError("the part from # on is never sent; remove it")
    if {".", ".."} & set(unquote(parts.path).split("/")):
        raise ValueError("its path holds a segment '.' or '..'; write where it leads")
    if port is not None and own not in (None, port):
        raise ValueError(f"it names the port {own}, and http_port {port}; set one of them")
    user, at, _ = parts.netloc.rpartition("@")
    netloc = _netloc(parts.scheme, parts.hostname, port or own)
    return Address(parts.scheme, netloc, parts.path, parts.query, user + at)


def _netloc(scheme: str, host: str, port: int | None) -> str:
    bare = f"[{host}]" if ":" in host else host
    return bare if port in (None, PORTS[scheme]) else f"{bare}:{port}"
