"""What a request allows of caches, read from its Cache-Control (RFC 9111 5.2.1, reference/http_api.md 1.4)."""

import re
from dataclasses import replace

from caraway.model import ANYTHING, Directives

_DIRECTIVE = re.compile(r'(?P<name>[!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:=(?:"(?P<quoted>[^"\\]*)"|(?P<plain>[^\s",=]+)))?')
_PARTS = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_SECONDS = re.compile(r"[0-9]{1,10}")
"""RFC 9111 1.2.2 lets 2^31 stand for all that is longer."""
_LONGEST = 2.0**31


def parse(header: str) -> Directives:
    """The directives that are known and well-formed, the first of equals; whatever else stands there is ignored."""
    found = ANYTHING
    for part in reversed(_PARTS.findall(header)):
        if match := _DIRECTIVE.fullmatch(part.strip()):
            found = _with(found, match["name"].lower(), match["plain"] or match["quoted"])
    return found


def _with(known: Directives, name: str, value: str | None) -> Directives:
    match name, value:
        case "no-cache", None:
            return replace(known, no_cache=True)
        case "only-if-cached", None:
            return replace(known, only_if_cached=True)
        case "max-stale", None:
            return replace(known, max_stale=float("inf"))
        case "max-stale", str() if (seconds := _seconds(value)) is not None:
            return replace(known, max_stale=seconds)
        case "min-fresh", str() if (seconds := _seconds(value)) is not None:
            return replace(known, min_fresh=seconds)
        case _:
            return known


def _seconds(text: str) -> float | None:
    return min(float(text), _LONGEST) if _SECONDS.fullmatch(text) else None
