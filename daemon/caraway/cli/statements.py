"""Where one SQL statement ends: at a semicolon outside of quotes and comments."""

import re

_PIECE = re.compile(
    r"""
    (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" )
  | (?P<comment> --[^\n]*(?:\n|$) | /\*.*?\*/ )
  | (?P<open> ' | " | /\* )
  | (?P<end> ; )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def split(text: str) -> tuple[list[str], str]:
    """The statements that are complete, without their semicolons, and the rest; comments alone are neither."""
    statements: list[str] = []
    start = 0
    for piece in _PIECE.finditer(text):
        if piece.lastgroup == "open":
            break
        if piece.lastgroup == "end":
            statements.append(text[start : piece.start()].strip())
            start = piece.end()
    rest = text[start:].strip()
    return [statement for statement in statements if not _is_blank(statement)], "" if _is_blank(rest) else rest


def _is_blank(text: str) -> bool:
    return all(piece.lastgroup == "comment" or piece.group().isspace() for piece in _PIECE.finditer(text))
