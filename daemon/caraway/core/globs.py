"""Patterns of paths: `*` and `?` stay within a segment, `**` is any number of them, `[a-z]` one of these characters.

The Spice runtime documents the same and lets `*` cross slashes nevertheless, which opens more than was meant.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import translate

MOST_CHARACTERS = 2048

_CLASS = re.compile(r"\[[!^]?\]?[^\]]*\]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern of whole paths, which begins with `/`."""

    text: str
    _segments: tuple[re.Pattern[str] | None, ...] = field(repr=False, compare=False)
    """One a segment; None stands for any number of them."""

    def matches(self, path: str) -> bool:
        return path.startswith("/") and _match(self._segments, path[1:].split("/"))


def parse_glob(text: str) -> Glob:
    """The pattern that `text` is; ValueError says what is wrong with it."""
    if not text.startswith("/"):
        raise ValueError(f"the path {text!r} has to start with '/'")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a path of {len(text)} characters is too long; allowed: {MOST_CHARACTERS}")
    if "{" in text or "\\" in text:
        raise ValueError(f"the path {text!r} holds a brace or a backslash; write each alternative as a path of its own")
    segments = text[1:].split("/")
    if ".." in segments:
        raise ValueError(f"the path {text!r} has a segment '..'")
    parsed = [_segment(segment, text) for segment in segments]
    # At the end `**` is one segment or more: `/a/**` is what is below /a, not /a itself.
    return Glob(text, (*parsed, re.compile(".*")) if parsed[-1] is None else tuple(parsed))


def _segment(segment: str, whole: str) -> re.Pattern[str] | None:
    if segment == "**":
        return None
    if "**" in segment:
        raise ValueError(f"in the path {whole!r} '**' is part of a segment; it stands alone between slashes")
    if "[" in _CLASS.sub("", segment):
        raise ValueError(f"in the path {whole!r} a '[' has no ']' in its segment")
    some = "(?=.)" if segment else ""  # `/a/*` is not `/a/`
    return re.compile(some + translate(segment.replace("[^", "[!")))


def _match(segments: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """Each `**` takes as few parts as will do; only the last one met can need more, so the work is bounded."""
    at, part, again = 0, 0, (-1, 0)
    while part < len(parts):
        pattern = segments[at] if at < len(segments) else _NOTHING
        if pattern is None:
            again = at, part
            at += 1
        elif pattern.match(parts[part]):
            at, part = at + 1, part + 1
        elif again[0] < 0:
            return False
        else:
            again = again[0], again[1] + 1
            at, part = again[0] + 1, again[1]
    return at == len(segments)


_NOTHING = re.compile(r"(?!)")
