"""A query as a sequence of words, as its parser would see them; strings and quoted names are one word each."""

import re
from collections.abc import Iterator
from typing import NamedTuple

QUOTED, PLACE, PLAIN = "quoted", "place", "plain"
"""A string or a quoted name; a placeholder; a name with its dots, a number, a parenthesis or an operator."""

_WORD = re.compile(
    r"""[\s;]+ | --[^\n]* | /\*.*?\*/
    | (?P<quoted>
        [eE]'(?:[^'\\]|''|\\.)*' | \w*'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<place> \$\w+)
    | (?P<plain> [\w.][\w.$@#]* | [(),\[\]{}] | (?:(?!--|/\*)[^\s\w.'"`$(),;\[\]{}])+ | .)""",
    re.DOTALL | re.VERBOSE,
)
_NESTED_COMMENT = re.compile(r"/\*(?:(?!\*/).)*/\*", re.DOTALL)


class Word(NamedTuple):
    """One of QUOTED, PLACE and PLAIN; these in lower case; `start` and `end` are where it stands in the text."""

    kind: str
    text: str
    start: int
    end: int


def words(sql: str) -> Iterator[Word] | None:
    """The words without blanks, comments and semicolons; None for a text with nested comments, which no regex reads."""
    return None if _NESTED_COMMENT.search(sql) else _words(sql)


def _words(sql: str) -> Iterator[Word]:
    for match in _WORD.finditer(sql):
        if (kind := match.lastgroup) is not None:
            text = match[0]
            yield Word(kind, text.lower() if kind == PLAIN else text, *match.span())
