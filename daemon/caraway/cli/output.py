"""What commands print: tables for people, JSON for programs, and nothing that steers a terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127, *range(128, 160))}
_STYLES = {"Ready": "green", "Refreshing": "cyan", "Initializing": "yellow", "Error": "bold red", "Disabled": "dim"}
_NO_WRAP = 100_000
"""The width of what is not a terminal: nothing is folded for a program that reads it."""


def console(*, stderr: bool = False) -> Console:
    """Standard output for people; colours and folding on a terminal only."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if terminal else _NO_WRAP, highlight=False, markup=False, emoji=False)


def plain(value: object) -> str:
    """Text that is safe to print: what came from elsewhere can't move the cursor or change the title."""
    return str(value).translate(_CONTROL)


def listing(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Columns without a frame, as `spice` prints its lists; a state has its colour."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    return table


def cell(value: object) -> Text:
    text = str(value).lower() if isinstance(value, bool) else plain("" if value is None else value)
    return Text(text, style=_STYLES.get(text, ""))


def print_json(value: object) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def show(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], *, as_json: bool) -> None:
    """Rows of an API answer: as they came, or the `columns` (title to key) of each."""
    if as_json:
        print_json(rows)
    else:
        console().print(listing(list(columns), ([row.get(key) for key in columns.values()] for row in rows)))
