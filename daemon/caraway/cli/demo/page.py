"""What the demo shows of its two nodes: a table for a terminal, lines for anything else."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from caraway.cli.output import cell, plain
from caraway.events import Event, Level, RefreshStarted
from caraway.model import DatasetStatus

TITLES = ("NODE", "DATASET", "STATE", "ROWS", "LAG", "NEXT REFRESH", "")
NEWS = 6
QUESTION = "select region, count(*) as orders, sum(amount) as amount from orders group by region"


@dataclass(frozen=True, slots=True)
class Row:
    """One dataset of one node at one moment; seconds, or None where there is nothing to tell."""

    node: str
    dataset: str
    state: str
    rows: int
    lag: float | None
    next_refresh: float | None
    problem: str

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.node,
            self.dataset,
            self.state,
            f"{self.rows:,}",
            "" if self.lag is None else f"{self.lag:.1f}s",
            "" if self.next_refresh is None else f"in {self.next_refresh:.0f}s",
            self.problem,
        )


def row(node: str, status: DatasetStatus, now: datetime) -> Row:
    """A dataset's status as the page shows it."""
    return Row(
        node=node,
        dataset=status.name,
        state=status.state.value,
        rows=status.snapshot.rows if status.snapshot is not None else 0,
        lag=None if status.proven_at is None else max(0.0, (now - status.proven_at).total_seconds()),
        next_refresh=None if status.next_refresh is None else max(0.0, (status.next_refresh - now).total_seconds()),
        problem=plain(status.problem.message) if status.problem is not None else "",
    )


def page(rows: Iterable[Row], news: Sequence[str]) -> Group:
    """The table of all datasets, and what happened last."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for title in TITLES:
        table.add_column(title, justify="right" if title in {"ROWS", "LAG", "NEXT REFRESH"} else "left", no_wrap=True)
    for each in rows:
        table.add_row(*(cell(text) for text in each.cells))
    told = [Text(plain(line), style="dim", no_wrap=True, overflow="ellipsis") for line in news]
    return Group(table, Text(), *told, Text(), Text("Ctrl-C ends the demo and removes its data.", style="dim"))


def line(each: Row) -> str:
    """The same of one dataset as a line of text."""
    told = [f"{each.node}.{each.dataset}: {each.state}, {each.rows:,} rows"]
    if each.lag is not None:
        told.append(f"lag {each.lag:.1f}s")
    if each.next_refresh is not None:
        told.append(f"next refresh in {each.next_refresh:.0f}s")
    return ", ".join([*told, *([each.problem] if each.problem else [])])


def commands(caraway: str, endpoint: str) -> tuple[str, ...]:
    """What to paste into another terminal to ask the edge."""
    return (
        f'curl -d "{QUESTION}" {endpoint}/v1/sql',
        f"{caraway} sql --http-endpoint {endpoint}",
        f"{caraway} refresh orders --wait --http-endpoint {endpoint}",
    )


class News:
    """The last few events of both nodes that are worth a line."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=NEWS)

    def of(self, node: str) -> "NewsSink":
        """Where the node's telemetry goes to."""
        return NewsSink(node, self._lines)

    @property
    def lines(self) -> Sequence[str]:
        return tuple(self._lines)


class NewsSink:
    """A telemetry sink; the beginning of a refresh is left out, as its end follows at once."""

    def __init__(self, node: str, lines: deque[str]) -> None:
        self._node = node
        self._lines = lines

    def take(self, event: Event) -> None:
        if event.level >= Level.INFO and not isinstance(event, RefreshStarted):
            self._lines.append(f"{datetime.now().astimezone():%H:%M:%S} {self._node}: {event}")
