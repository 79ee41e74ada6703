"""An HTTP exchange as values: what the connector sends, what the response cache keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

HttpHeaders = tuple[tuple[str, str], ...]
"""Names in lower case, in the order of the wire; a name may come twice."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """`url` is absolute, ready to be sent. Headers and body may hold secrets, so no repr shows them."""

    method: str
    url: str
    headers: HttpHeaders = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`body` is decoded of any content coding. `age` is RFC 9111's current_age: seconds since the origin gave it.

    A transport tells of that only how long its exchange took (`ports.Send`).
    """

    status: int
    headers: HttpHeaders = ()
    body: bytes = field(default=b"", repr=False)
    age: float = 0.0

    def header(self, name: str) -> str | None:
        """The values of a header (its name in lower case), joined as RFC 9110 5.3 says; None where it is not there."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None
