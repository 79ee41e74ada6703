"""A query's answer from the wire to the terminal: Arrow for tables, the server's own bytes for JSON and CSV."""

import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pyarrow as pa
from rich.text import Text

from caraway.cli.caches import told
from caraway.cli.client import Client
from caraway.cli.errors import CliError
from caraway.cli.output import console
from caraway.cli.tables import render

ARROW = "application/vnd.apache.arrow.stream"
MOST_ROWS = 500
"""How many rows a table shows; a program that wants all of them takes JSON or CSV."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The first rows of an answer, how many there were, the seconds until the last one, and what the caches did."""

    shown: pa.Table
    rows: int
    seconds: float
    caches: Text

    @property
    def timing(self) -> Text:
        time = f"Time: {self.seconds:.4f} seconds. {self.rows} row{'' if self.rows == 1 else 's'}."
        return Text.assemble(time, " ", self.caches) if self.caches else Text(time)


def fetch(client: Client, sql: str, cache_control: str = "") -> Answer:
    """Run one statement; all rows are received and counted, the first MOST_ROWS kept. CliError if it fails."""
    begun = time.perf_counter()
    with client.ask(sql, ARROW, cache_control) as response:
        try:
            with pa.ipc.open_stream(_Body(response)) as reader:
                kept, rows = _kept(reader)
                shown = pa.Table.from_batches(kept, reader.schema)
        except (pa.ArrowException, OSError) as error:
            raise CliError(f"The answer is not Arrow, or ended too early: {error}.") from error
        caches = told(response.headers)
    return Answer(shown, rows, time.perf_counter() - begun, caches)


def print_answer(answer: Answer) -> None:
    """The table, and the time where a person reads it."""
    out = console()
    out.print(render(answer.shown, out.width))
    if answer.rows > answer.shown.num_rows:
        console(stderr=True).print(
            f"{answer.shown.num_rows} of {answer.rows:,} rows are shown; --csv and --json give all."
        )
    if out.is_terminal:
        out.print(Text.assemble("\n", answer.timing, "\n"))


def pass_through(client: Client, sql: str, accept: str, cache_control: str = "") -> None:
    """Write the server's JSON or CSV to standard output as it comes."""
    with client.ask(sql, accept, cache_control) as response:
        last = b""
        for chunk in response.iter_bytes():
            sys.stdout.buffer.write(chunk)
            last = chunk or last
    if last and not last.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _kept(reader: pa.RecordBatchReader) -> tuple[list[pa.RecordBatch], int]:
    kept, rows = [], 0
    for batch in reader:
        if rows < MOST_ROWS:
            kept.append(batch.slice(0, MOST_ROWS - rows))
        rows += batch.num_rows
    return kept, rows


class _Body(io.RawIOBase):
    """A response's body as the file that pyarrow reads from, a chunk at a time."""

    def __init__(self, response: httpx2.Response) -> None:
        self._chunks: Iterator[bytes] = response.iter_bytes()
        self._rest = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer at the end only, as pyarrow takes a short read for it."""
        while size < 0 or len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        given = bytes(self._rest if size < 0 else self._rest[:size])
        del self._rest[: len(given)]
        return given
