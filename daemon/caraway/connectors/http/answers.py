"""What the head of an answer says of a file: whether it is another one now, where it went, why it did not come."""

from dataclasses import dataclass
from urllib.parse import urljoin

from caraway.core.http_fields import first
from caraway.core.http_urls import place_of, redirection
from caraway.errors import SourceError
from caraway.model import HttpHeaders

_TRANSIENT = frozenset({408, 425, 429})
_LONGEST_WAIT = 86_400


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
    return Validators(first(headers, "etag"), first(headers, "last-modified"), first(headers, "content-length"))


def length_of(headers: HttpHeaders) -> int:
    """The bytes that come, as far as the head tells; 0 where it does not."""
    length = first(headers, "content-length") or ""
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0


def next_address(url: str, status: int, headers: HttpHeaders, dataset: str) -> str | None:
    """Where a redirection leads, which has to be on the same server; None for other answers. SourceError."""
    try:
        return redirection(url, status, headers)
    except ValueError as error:
        there = place_of(urljoin(url, first(headers, "location") or ""))
        raise SourceError(
            f"{dataset}: {place_of(url)} leads to another server, {there}, which might not be meant to get what is "
            "sent with the request.",
            remedy="Write that address into `from`, if it is right.",
            transient=False,
        ) from error


def failure(status: int, headers: HttpHeaders, place: str, dataset: str) -> SourceError:
    """An answer that is no file."""
    transient = status in _TRANSIENT or status >= 500
    retry_after = _seconds(first(headers, "retry-after") or "") if transient else None
    message = f"{dataset}: the server answered {status} for {place}."
    return SourceError(message, remedy=_remedy(status), transient=transient, retry_after=retry_after)


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


def _seconds(text: str) -> float | None:
    """Of a Retry-After in seconds; a date there is left to our own backoff."""
    return float(min(int(text), _LONGEST_WAIT)) if text.isascii() and text.isdigit() and len(text) < 10 else None
