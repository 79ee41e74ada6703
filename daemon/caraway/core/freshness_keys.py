"""What an answer is kept under: who asked, for what, and the headers that the origin says it depends on."""

from __future__ import annotations

from hashlib import blake2b

from caraway.core.http_fields import by_name
from caraway.model import HttpHeaders, HttpRequest

DIGEST_BYTES = 16


def resource_of(namespace: str, url: str) -> bytes:
    """What all keys of a URL begin with, for one who asks: a namespace is a cache of its own."""
    return _digest(namespace, url)


def key_of(namespace: str, request: HttpRequest) -> bytes:
    """RFC 9111's cache key; the answers to a POST are kept by what it carries."""
    content_type = by_name(request.headers).get("content-type", "") if request.body is not None else ""
    return resource_of(namespace, request.url) + _digest(request.method, content_type, request.body or b"")


def flight_of(key: bytes, request: HttpRequest) -> bytes:
    """Equal for requests that are equal to the last header: before the answer, nobody knows which ones matter."""
    return key + _digest(*(part for header in sorted(request.headers) for part in header))


def vary_of(headers: HttpHeaders) -> tuple[str, ...] | None:
    """The names in Vary, sorted; None where it has a `*`, so that no other request gets the answer."""
    names = {name.strip(" \t").lower() for name in by_name(headers).get("vary", "").split(",")} - {""}
    return None if "*" in names else tuple(sorted(names))


def variant_of(vary: tuple[str, ...], headers: HttpHeaders) -> bytes:
    """Equal for requests that agree in what an answer depends on (RFC 9111 4.1); a digest, as values may be secret."""
    values = by_name(headers)
    return _digest(*(part for name in vary for part in (name, "+" + _normal(values[name]) if name in values else "-")))


def _normal(value: str) -> str:
    """Without the blanks around commas, which mean nothing but in a quotation."""
    return value if '"' in value else ",".join(part.strip(" \t") for part in value.split(","))


def _digest(*parts: str | bytes) -> bytes:
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
