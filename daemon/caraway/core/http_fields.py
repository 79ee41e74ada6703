"""Header fields of an HTTP message: their values, and which of them nobody but the connection may set."""

from collections.abc import Mapping

from caraway.model import HttpHeaders

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the word of RFC 9110 5.6.2
"""A regular expression, of names of fields among others."""
OF_THE_CONNECTION = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"}
    | {"accept-encoding", "proxy-connection"}
)
"""Names; who sets one of them can make a server read another request than was sent."""


def first(headers: HttpHeaders, name: str) -> str | None:
    """The value of the first line of a field."""
    return next((value for key, value in headers if key == name), None)


def by_name(headers: HttpHeaders) -> Mapping[str, str]:
    """Each field once, the values of its lines joined (RFC 9110 5.3)."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
