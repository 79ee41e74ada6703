"""The format of `.env` files: `KEY=value` lines, `export`, quotes, comments."""

import re
from collections.abc import Mapping

from caraway.errors import ConfigError

_ASSIGNMENT = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][\w.-]*)[ \t]*=[ \t]*
    (?:(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)")[ \t\r]*(?:\#[^\n]*)?|(?P<plain>(?!['"])[^\n]*))
    (?:\n|\Z)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_COMMENT = re.compile(r"(?:^|[ \t])#")
_NOTHING = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str, source: str) -> Mapping[str, str]:
    """The values of a `.env` text; of a key that stands twice the first counts. ConfigError names the broken line."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _NOTHING.match(text, position) or _ASSIGNMENT.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise ConfigError(f"{source}:{line}: this line is not KEY=VALUE")
        if match.re is _ASSIGNMENT:
            values.setdefault(match["key"], _value(match))
        position = match.end()
    return values


def _value(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), match["double"])
    if match["single"] is not None:
        return str(match["single"])
    return _COMMENT.split(match["plain"], maxsplit=1)[0].strip()
