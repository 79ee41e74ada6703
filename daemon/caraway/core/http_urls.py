"""Addresses of HTTP: which server one is of, what of it may be shown, and where an answer may lead."""

import re
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from caraway.core.http_fields import first
from caraway.model import HttpHeaders

PORTS = {"http": 80, "https": 443}
MOST_REDIRECTIONS = 5

_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_UNUSUAL = re.compile(r"[\x00-\x20\x7f\\]")


def origin_of(url: str) -> str:
    """`scheme://host:port` of an absolute address, in lower case; ValueError for one that has none."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("the address names no server")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or PORTS[parts.scheme]}"


def place_of(url: str) -> str:
    """An address without its query and user, which may hold what is nobody's business."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path or '/'}"


def server_of(place: str) -> str:
    """A place without its path."""
    return place[: place.find("/", place.index("://") + 3)]


def join(url: str, target: str) -> str:
    """Where `target`, as the answer of `url` writes it, leads; ValueError unless to the same origin."""
    if _UNUSUAL.search(target):
        raise ValueError("it holds unusual characters")
    joined = urlsplit(urljoin(url, quote(target, safe=_PRINTABLE)))._replace(fragment="")
    if "@" in joined.netloc or origin_of(urlunsplit(joined)) != origin_of(url):
        raise ValueError("it leads to another origin")
    return urlunsplit(joined)


def redirection(url: str, status: int, headers: HttpHeaders) -> str | None:
    """Where an answer of `url` redirects to, None for other answers; ValueError unless to the same origin."""
    location = first(headers, "location")
    return join(url, location) if status in _REDIRECTIONS and location is not None else None
