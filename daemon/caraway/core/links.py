"""The Link header (RFC 8288 section 3): which address is the next one."""

import re
from collections.abc import Iterator

_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAMETER = re.compile(r"""\s*;\s*([^\s=;,"]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?""")
_ESCAPED = re.compile(r"\\(.)")


def next_link(header: str | None) -> str | None:
    """The target of the first link with `rel=next`, as written; what is malformed ends the search."""
    for target, parameters in _links(header or ""):
        # Another anchor says that the link begins elsewhere; only the first `rel` counts (3.2, 3.3).
        if "anchor" not in parameters and "next" in parameters.get("rel", "").lower().split():
            return target
    return None


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    position = 0
    while (found := _TARGET.match(header, position)) is not None:
        parameters: dict[str, str] = {}
        position = found.end()
        while (parameter := _PARAMETER.match(header, position)) is not None:
            name, quoted, bare = parameter.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else bare or ""
            parameters.setdefault(name.lower(), value)
            position = parameter.end()
        yield found[1].strip(), parameters
