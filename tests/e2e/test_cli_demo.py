"""`caraway demo` as a person meets it: on a terminal, its printed commands pasted, ended by Ctrl-C."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.daemons import wait_for
from support.terminal import Terminal, descendants

ROW = re.compile(r"edge +orders +Ready +([\d,]+)")


def rows_at_edge(terminal: Terminal) -> int:
    """How many orders the edge shows."""
    found = ROW.findall(terminal.text)
    return int(found[-1].replace(",", "")) if found else 0


@pytest.fixture
def terminal(tmp_path) -> Iterator[Terminal]:
    made = Terminal([sys.executable, "-m", "caraway", "demo"], {**os.environ, "TMPDIR": str(tmp_path)}, columns=160)
    yield made
    made.close()


def pasted(command: str) -> subprocess.CompletedProcess[str]:
    """Run a printed command; `caraway` is the one under test."""
    words = shlex.split(command)
    if words[0].endswith("caraway"):
        words[0:1] = [sys.executable, "-m", "caraway"]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, input="show tables;", check=False)


@pytest.mark.slow
def test_demo_shows_rows_at_the_edge_and_leaves_nothing(terminal, tmp_path):
    wait_for(lambda: rows_at_edge(terminal) >= 50_000 or terminal.process.poll() is not None, "rows at the edge", 60)
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

    before = rows_at_edge(terminal)
    wait_for(lambda: rows_at_edge(terminal) > before, "the edge follows the core")
    terminal.type("\x03")
    assert terminal.ended() == 0, terminal.text
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
