"""Rows as the box table of Arrow's pretty printer, for people."""

import unicodedata
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from caraway.query.worker.render_csv import display
from caraway.query.worker.render_values import join


def table(names: Sequence[str], columns: Sequence[pa.Array]) -> str:
    """All rows between rules, every cell as wide as the widest of its column; NULL is an empty cell."""
    cells = [pc.fill_null(display(column), "") for column in columns]
    widths = [max(_width(name), _widest(text)) for name, text in zip(names, cells, strict=True)]
    rule = "".join(f"+{'-' * (width + 2)}" for width in widths) + "+\n"
    head = "".join(_lines(names, widths))
    return rule + head + rule + _body(cells, widths) + rule


def _body(cells: Sequence[pa.Array], widths: Sequence[int]) -> str:
    if not cells or not len(cells[0]):
        return ""
    if any(pc.any(pc.match_substring(text, "\n")).as_py() for text in cells):
        rows = zip(*(text.to_pylist() for text in cells), strict=True)
        return "".join(line for row in rows for line in _lines(row, widths))
    padded = [_padded(text, width) for text, width in zip(cells, widths, strict=True)]
    parts = [part for text in padded for part in ("| ", text, " ")]
    return "".join(join(*parts, "|\n").to_pylist())


def _padded(text: pa.Array, width: int) -> pa.Array:
    if _is_ascii(text):
        return pc.ascii_rpad(text, width)
    return pa.array([_pad(value, width) for value in text.to_pylist()], pa.string())


def _widest(text: pa.Array) -> int:
    if not len(text):
        return 0
    if _is_ascii(text) and not pc.any(pc.match_substring(text, "\n")).as_py():
        return int(pc.max(pc.binary_length(text)).as_py())
    return max(_width(line) for value in text.to_pylist() for line in value.split("\n"))


def _is_ascii(text: pa.Array) -> bool:
    return bool(pc.all(pc.string_is_ascii(text)).as_py())


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A row of the table, which takes as many lines as its tallest cell."""
    split = [value.split("\n") for value in row]
    for i in range(max((len(lines) for lines in split), default=1)):
        pieces = (lines[i] if i < len(lines) else "" for lines in split)
        yield "".join(f"| {_pad(piece, width)} " for piece, width in zip(pieces, widths, strict=True)) + "|\n"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
