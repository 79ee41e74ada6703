"""Cache-Control, of requests and of responses (RFC 9111 5.2): what can't be read for sure forbids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from caraway.core.http_fields import TOKEN, by_name
from caraway.model import HttpHeaders

FOREVER = 2.0**31
"""Seconds: what a number too large for 31 bits stands for (RFC 9111 1.2.2)."""

_PIECE = re.compile(r'((?:[^",]|"(?:[^"\\]|\\.)*+")*+)(?:,|\Z)')
_DIRECTIVE = re.compile(rf'(?P<name>{TOKEN})(?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{TOKEN}|)))?')
_ESCAPED = re.compile(r"\\(.)")
_DIGITS = re.compile(r"0*([0-9]+)")


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The directives of a message, by their names in lower case, each with all its values; None: it came without."""

    directives: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    readable: bool = True

    def __contains__(self, name: str) -> bool:
        return name in self.directives

    @property
    def no_store(self) -> bool:
        """A part that can't be read may have been this."""
        return not self.readable or "no-store" in self

    def seconds(self, name: str) -> float | None:
        """The least value of a directive, 0 where one is malformed or missing; None: it is not there."""
        values = self.directives.get(name)
        return None if values is None else min(delta_seconds(value or "") or 0.0 for value in values)

    @property
    def max_stale(self) -> float:
        """How far past its time the request takes an answer: inf for max-stale without a value."""
        return inf if self.directives.get("max-stale") == (None,) else self.seconds("max-stale") or 0.0


def cache_control(headers: HttpHeaders) -> CacheControl:
    """All Cache-Control lines of a message, as one."""
    return parse_cache_control(by_name(headers).get("cache-control", ""))


def parse_cache_control(text: str) -> CacheControl:
    found: dict[str, tuple[str | None, ...]] = {}
    position = 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:  # a quotation without an end
            return CacheControl(readable=False)
        position = piece.end()
        if directive := piece[1].strip(" \t"):
            match = _DIRECTIVE.fullmatch(directive)
            if match is None:
                return CacheControl(readable=False)
            name = match["name"].lower()
            found[name] = (*found.get(name, ()), _value(match))
    return CacheControl(found)


def delta_seconds(text: str) -> float | None:
    """A number of seconds (RFC 9111 1.2.2), None for anything else."""
    match = _DIGITS.fullmatch(text)
    if match is None:
        return None
    return min(FOREVER, float(match[1])) if len(match[1]) <= 10 else FOREVER


def _value(match: re.Match[str]) -> str | None:
    if match["quoted"] is not None:
        return _ESCAPED.sub(r"\1", match["quoted"])
    return match["plain"]
