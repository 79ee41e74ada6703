"""What the head of an answer says of a file: whether it is another one now, where it went, why it did not come."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

from caraway.errors import SourceError
from caraway.model import HttpHeaders

_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
_LONGEST_WAIT = 86_400
_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})


@dataclass(frozen=True, slots=True)
class Validators:
    """By what a server tells one state of a file from the next (RFC 9110 8.8); None where it does not."""

    etag: str | None = None
    modified: str | None = None
    length: str | None = None

    @property
    def conditions(self) -> HttpHeaders:
        """What to ask with for a 304 where nothing changed; nothing where the server can't tell."""
        if self.etag is not None:
            return (("if-none-match", self.etag),)
        return (("if-modified-since", self.modified),) if self.modified is not None else ()

    @property
    def token(self) -> str | None:
        """Another text for each state. The length helps where a file changes twice within a second."""
        if self.etag is not None:
            return f"etag {self.etag}"
        return f"modified {self.modified} {self.length}" if self.modified is not None else None


def validators(headers: HttpHeaders) -> Validators:
    return Validators(_one(headers, "etag"), _one(headers, "last-modified"), _one(headers, "content-length"))


def length_of(headers: HttpHeaders) -> int:
    """The bytes that come, as far as the head tells; 0 where it does not."""
    length = _one(headers, "content-length") or ""
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0


def next_address(url: str, status: int, headers: HttpHeaders, dataset: str) -> str | None:
    """Where a redirection leads, which has to be on the same server; None for other answers. SourceError."""
    location = _one(headers, "location")
    if status not in _REDIRECTIONS or location is None:
        return None
    there = urljoin(url, location)
    if _origin(there) != _origin(url):
        raise SourceError(
            f"{dataset}: {shown(url)} leads to another server, {shown(there)}, which might not be meant to get what is "
            "sent with the request.",
            remedy="Write that address into `from`, if it is right.",
            transient=False,
        )
    return there


def failure(status: int, headers: HttpHeaders, place: str, dataset: str) -> SourceError:
    """An answer that is no file."""
    transient = status in _TRANSIENT or status >= 500
    retry_after = _seconds(_one(headers, "retry-after") or "") if transient else None
    message = f"{dataset}: the server answered {status} for {place}."
    return SourceError(message, remedy=_remedy(status), transient=transient, retry_after=retry_after)


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _remedy(status: int) -> str:
    match status:
        case 401 | 403 | 407:
            return "Check http_username and http_password, http_headers, or what the server lets you read."
        case 404 | 410:
            return "There is no such file; check the address in `from`."
        case 429:
            return "The server limits how often it is asked; refresh less often."
        case _ if status >= 500 or status in _TRANSIENT:
            return "The server has a problem; it is asked again by itself."
        case _:
            return "Check the address in `from`."


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return parts.scheme, parts.hostname, None


def _seconds(text: str) -> float | None:
    """Of a Retry-After in seconds; a date there is left to our own backoff."""
    return float(min(int(text), _LONGEST_WAIT)) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _one(headers: HttpHeaders, name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)
