"""The SQL shell as a person meets it: on a terminal, with keys."""

import os
import subprocess
import sys

import pytest

from support.daemons import Node, running, wait_for
from support.terminal import Terminal

POD = """
version: v2
kind: Spicepod
name: shell
runtime: {caching: {sql_results: {item_ttl: 1m}}}
datasets:
  - {from: "synthetic:orders", name: orders, params: {rows: "20000"}, acceleration: {enabled: true}}
"""
ENDLESS = "select count(*) from orders a, orders b, orders c where a.id + b.id + c.id > 5;"
CTRL_C, CTRL_D, ENTER, UP, TAB = "\x03", "\x04", "\r", "\x1b[A", "\t"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("shell") / "node", POD, "-v")
    with running(made):
        made.wait_ready()
        yield made
        assert made.stop() == 0


@pytest.fixture
def shell(node, tmp_path):
    command = [sys.executable, "-m", "caraway", "sql", "--data-dir", str(node.data)]
    made = Terminal(command, {**os.environ, "XDG_STATE_HOME": str(tmp_path)}, columns=100)
    try:
        made.expect("sql>")
        yield made
    finally:
        made.close()


def test_a_statement_over_two_lines_and_its_time(shell):
    shell.type("select count(*) as n" + ENTER)
    shell.expect("->")
    shell.type("from orders;" + ENTER)
    text = shell.answer(" 1 row.", "sql>")
    assert "| 20000 |" in text
    assert "Time: 0." in text
    shell.type(CTRL_D)
    assert shell.ended() == 0


def test_what_the_cache_did_stands_beside_the_time(shell):
    for words in ("(cache miss)", "(cache hit)"):
        shell.type("select 4242 as n;" + ENTER)
        assert words in shell.answer(" 1 row.", "sql>")


def test_tab_completes_tables_and_columns(shell):
    shell.type("select max(orders.amo" + TAB)
    shell.expect("amount")
    shell.type(") as most from orders;" + ENTER)
    assert "most" in shell.answer(" 1 row.", "sql>")


def test_errors_are_told_and_the_shell_goes_on(shell):
    shell.type("selec 1;" + ENTER)
    shell.answer("SQL syntax error", "sql>")
    shell.type("select * from nope;" + ENTER)
    shell.answer("Table 'nope' not found", "sql>")
    shell.type("select 40 + 2;" + ENTER)
    assert "42" in shell.answer(" 1 row.", "sql>")
    shell.type("help" + ENTER)
    shell.answer("Ctrl-C cancels", "sql>")
    shell.type("exit" + ENTER)
    assert shell.ended() == 0


def test_ctrl_c_ends_a_query_and_then_a_line_but_not_the_shell(node, shell):
    before = node.work()
    shell.type(ENDLESS + ENTER)
    wait_for(lambda: node.work() > before + 30, "the query runs")
    shell.type(CTRL_C)
    shell.expect("Cancelled.")
    wait_for(lambda: "the caller left" in node.log.read_text(), "the daemon ends the query", 5)
    shell.type(CTRL_C)  # while it may be asking for the names of tables
    shell.expect("sql>")
    shell.type("select 'half a" + CTRL_C)
    shell.expect("sql>")
    shell.type("select 1 + 1 as two;" + ENTER)
    assert "two" in shell.answer(" 1 row.", "sql>")


def test_history_outlives_the_shell(node, shell, tmp_path):
    shell.type("select 7 as remembered;" + ENTER)
    shell.answer(" 1 row.", "sql>")
    shell.type(CTRL_D)
    assert shell.ended() == 0
    history = tmp_path / "caraway/sql_history"
    assert "remembered" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "caraway", "sql", "--data-dir", str(node.data)]
    again = Terminal(command, {**os.environ, "XDG_STATE_HOME": str(tmp_path)}, columns=100)
    try:
        again.expect("sql>")
        again.type(UP)
        again.expect("remembered")
        again.type(ENTER)
        again.expect(" 1 row.")
    finally:
        again.close()


def test_pipes_and_formats(node):
    def ask(*flags: str, text: str = "") -> tuple[int, str, str]:
        command = [sys.executable, "-m", "caraway", "sql", "--data-dir", str(node.data), *flags]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    assert ask("--csv", text="select 1 as a; select 'x,y' as b") == (0, 'a\n1\nb\n"x,y"\n', "")
    assert ask("--json", "-c", "select null as a, 2 as b") == (0, '[{"b":2}]\n', "")
    code, out, _ = ask("-c", "select 1 as a")
    assert (code, "Time:" in out) == (0, False)
    assert ask("-c", "select 1; selec 2; select 3")[0] == 1
    assert ask(text="") == (0, "", "")
