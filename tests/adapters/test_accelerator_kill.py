"""Stores survive SIGKILL at any instant: what was acknowledged is there, the rest is there whole or not at all.

`arrow` is exempt: it keeps its rows in memory, which ends with the process by design.
"""

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from support import committer
from support.engines import PERSISTENT, EngineUnderTest, rows_of

TESTS = Path(__file__).parent.parent
KILLS = 32


class Victim:
    """The committing process; `run` lets it work for a while and returns what it acknowledged before its death."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pending = b""

    def run(self, first: int, seconds: float, most: int) -> list[int]:
        self._send(first)
        pid = 0
        acknowledged: list[int] = []
        while (line := self._line(seconds if acknowledged else 30.0)) is not None:
            if line.startswith("pid"):
                pid = int(line.split()[1])
            else:
                acknowledged.append(int(line))
                if len(acknowledged) >= most:
                    break
        os.kill(pid, signal.SIGKILL)
        while (line := self._line(30.0)) != "dead":
            assert line is not None
            acknowledged.append(int(line))
        return acknowledged

    def _send(self, first: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first}\n".encode())
        self._process.stdin.flush()

    def _line(self, seconds: float) -> str | None:
        """The next line, or None if there is none for so long."""
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            readable, _, _ = select.select([self._process.stdout], [], [], seconds)
            if not readable:
                return None
            read = os.read(self._process.stdout.fileno(), 4096)
            assert read, "the process ended"
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()


@contextmanager
def victim(engine: str, directory: Path) -> Iterator[Victim]:
    command = [sys.executable, "-m", "support.committer", engine, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TESTS) as process:
        try:
            yield Victim(process)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("name", PERSISTENT)
def test_a_store_survives_being_killed(name: str, tmp_path: Path) -> None:
    engine = EngineUnderTest(name, tmp_path / "orders")
    chance = random.Random(name)
    rows: committer.Rows = {}
    done = 0

    async def stored() -> tuple[int, committer.Rows]:
        async with engine.open(committer.SPEC) as store:
            snapshot = store.snapshot.value
            if snapshot is None:
                return 0, {}
            found = await rows_of(store)
            assert all(row["word"] == f"w{row['tags'][0]}" for row in found)
            assert snapshot.rows == len(found)
            return int(snapshot.cursor or 0), {row["id"]: row["tags"][0] for row in found}

    with victim(name, tmp_path / "orders") as child:
        for _ in range(KILLS):
            acknowledged = child.run(done + 1, chance.uniform(0.0001, 0.02), chance.randint(1, 5))
            assert acknowledged == list(range(done + 1, done + 1 + len(acknowledged)))
            for number in acknowledged:
                rows = committer.applied(rows, number)
            done += len(acknowledged)
            cursor, found = trio.run(stored)
            assert cursor in {done, done + 1}
            if cursor == done + 1:
                done += 1
                rows = committer.applied(rows, done)
            assert list(found.items()) == list(rows.items())
    assert done >= KILLS
