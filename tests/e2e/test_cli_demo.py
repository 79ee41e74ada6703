"""`caraway demo` as a person meets it: on a terminal, its printed commands pasted, ended by Ctrl-C."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemons import wait_for

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ROW = re.compile(r"edge +orders +Ready +([\d,]+)")


class Terminal:
    """The demo on a pseudo terminal of 160 columns; `text` is all that it wrote, without escape sequences."""

    def __init__(self, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        os.set_blocking(self._master, False)
        command = [sys.executable, "-m", "caraway", "demo"]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self._written = b""

    @property
    def text(self) -> str:
        try:
            while chunk := os.read(self._master, 65_536):
                self._written += chunk
        except OSError:  # nothing more for now, or the other end is closed
            pass
        return ESCAPE.sub("", self._written.decode(errors="replace")).replace("\r", "")

    def rows(self) -> int:
        """How many orders the edge shows."""
        found = ROW.findall(self.text)
        return int(found[-1].replace(",", "")) if found else 0

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        # A terminal that nobody reads would block the demo: `text` reads it.
        wait_for(lambda: self.text and self.process.poll() is not None, "the demo ends", 40)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path) -> Iterator[Terminal]:
    made = Terminal({**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "160"})
    yield made
    made.close()


def pasted(command: str) -> subprocess.CompletedProcess[str]:
    """Run a printed command; `caraway` is the one under test."""
    words = shlex.split(command)
    if words[0].endswith("caraway"):
        words[0:1] = [sys.executable, "-m", "caraway"]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, input="show tables;", check=False)


def descendants(process: int) -> list[str]:
    """Processes that are still in the session of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == process and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
def test_demo_shows_rows_at_the_edge_and_leaves_nothing(terminal, tmp_path):
    wait_for(lambda: terminal.rows() >= 50_000 or terminal.process.poll() is not None, "rows at the edge", 60)
    assert terminal.process.poll() is None, terminal.text
    curl, sql, refresh = re.findall(r"^  (curl .*|.*caraway (?:sql|refresh) .*)$", terminal.text, re.MULTILINE)

    answer = pasted(curl)
    assert answer.returncode == 0, answer.stderr
    assert {row["region"] for row in json.loads(answer.stdout)} >= {"north", "overseas"}
    tables = pasted(sql)
    assert tables.returncode == 0, tables.stderr
    assert "revenue" in tables.stdout
    refreshed = pasted(refresh)
    assert refreshed.returncode == 0, refreshed.stderr
    assert "Loaded: orders has" in refreshed.stdout

    before = terminal.rows()
    wait_for(lambda: terminal.rows() > before, "the edge follows the core")
    assert terminal.end() == 0, terminal.text
    assert "Traceback" not in terminal.text
    assert list(tmp_path.glob("caraway-demo-*")) == []
    assert descendants(terminal.process.pid) == []


def test_demo_without_a_terminal_prints_lines(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    written = tmp_path / "out.txt"
    with written.open("w") as out:
        demo = subprocess.Popen([sys.executable, "-m", "caraway", "demo"], stdout=out, stderr=out, env=env)
    try:
        wait_for(lambda: "edge.orders: Ready" in written.read_text() or demo.poll() is not None, "a line", 60)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=40) == 0, written.read_text()
    finally:
        demo.kill()
        demo.wait()
    assert "\x1b" not in written.read_text()
    assert list(tmp_path.glob("caraway-demo-*")) == []
