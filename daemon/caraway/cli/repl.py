"""The SQL shell: history, completion, statements over several lines."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from caraway.cli.client import Client
from caraway.cli.errors import CliError
from caraway.cli.output import console, plain
from caraway.cli.results import fetch, print_answer
from caraway.cli.sql import explained
from caraway.cli.statements import split

BANNER = """Welcome to the caraway SQL REPL! Type 'help' for help.

show tables;  -- list available tables
"""
HELP = """A statement ends with a semicolon and may have several lines.
  show tables;              the tables
  describe <table>;         the columns of one
  help, exit                this text, and the way out (or Ctrl-D)
Ctrl-C cancels a running query, or clears the line. Tab completes tables and columns."""
LEAVE = frozenset({"exit", "quit", ".exit", ".quit", "\\q"})
KEYWORDS = """SELECT FROM WHERE GROUP BY ORDER LIMIT OFFSET HAVING DISTINCT AS JOIN LEFT RIGHT FULL INNER CROSS ON USING
UNION ALL EXCEPT INTERSECT WITH CASE WHEN THEN ELSE END AND OR NOT IN LIKE ILIKE BETWEEN IS NULL ASC DESC COUNT SUM AVG
MIN MAX CAST DATE_TRUNC SHOW TABLES DESCRIBE EXPLAIN ANALYZE VALUES EXISTS INTERVAL""".split()  # noqa: SIM905
COLUMNS_SQL = "select table_schema, table_name, column_name from information_schema.columns"


def repl(client: Client, cache_control: str = "") -> int:
    """Read and run statements until the user leaves, each with the Cache-Control that is given."""
    out = console()
    out.print(BANNER)
    names = Names()
    session: PromptSession[str] = PromptSession(
        "sql> ",
        history=_history(os.environ),
        lexer=PygmentsLexer(SqlLexer),
        completer=names,
        complete_while_typing=False,
        multiline=True,
        prompt_continuation="  -> ",
        key_bindings=_bindings(),
    )
    while True:
        try:
            names.learn(client)
            text = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return 0
        if _word(text) in LEAVE:
            return 0
        if _word(text) == "help":
            out.print(HELP)
        else:
            _run_all(client, text, cache_control)


def _run_all(client: Client, text: str, cache_control: str) -> None:
    """Run the statements of one entry; the first failure ends it."""
    complete, rest = split(text)
    try:
        for statement in [*complete, rest] if rest else complete:
            print_answer(fetch(client, statement, cache_control))
    except CliError as error:
        console().print(plain(explained(error)), style="red")
    except KeyboardInterrupt:
        console().print("Cancelled.", style="red")


def is_complete(text: str) -> bool:
    """Whether Enter runs the text: it ends with a semicolon, or is empty or a word of the shell."""
    return not split(text)[1] or _word(text) in LEAVE | {"help"}


def _word(text: str) -> str:
    return text.strip().rstrip(";").strip().lower()


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return bindings


def _history(env: Mapping[str, str]) -> History:
    """A file in the user's state folder, readable for the user alone; none where that can't be written."""
    folder = Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "caraway"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "sql_history"
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class Names(Completer):
    """Completes tables, columns and keywords; after `table.` the columns of that table."""

    def __init__(self) -> None:
        self._columns: dict[str, list[str]] = {}

    def learn(self, client: Client) -> None:
        """Ask for the tables that there are now; without an answer the old ones stay."""
        try:
            rows = _names_at(client)
        except CliError:
            return
        self._columns = {}
        for schema, table, column in rows:
            self._columns.setdefault(table if schema == "public" else f"{schema}.{table}", []).append(column)

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002  whoever asks, gets the same
    ) -> Iterable[Completion]:
        found = _WORD.search(document.text_before_cursor)
        word = found.group() if found is not None else ""
        table, dot, begun = word.rpartition(".")
        if dot and table.strip('"') in self._columns:
            return _starting(begun, self._columns[table.strip('"')])
        everything = [*self._columns, *(name for names in self._columns.values() for name in names)]
        return _starting(word, [*dict.fromkeys(everything), *(_cased(word, keyword) for keyword in KEYWORDS)])


_WORD = re.compile(r"""(?:"[^"]*"\.)?(?:"[^"]*|[\w.]*)$""")
_BARE = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*|[A-Z_]+")


def _starting(word: str, names: Iterable[str]) -> Iterable[Completion]:
    begun = word.lstrip('"').lower()
    return [Completion(_quoted(name), -len(word)) for name in names if name.lower().startswith(begun)]


def _quoted(name: str) -> str:
    """As SQL takes it: a name that isn't plain lower case stands in quotes."""
    return name if _BARE.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _cased(word: str, keyword: str) -> str:
    """A keyword in the case that the user types in."""
    return keyword.lower() if word.islower() else keyword


def _names_at(client: Client) -> list[tuple[str, str, str]]:
    with client.ask(COLUMNS_SQL, "application/json") as response:
        response.read()
        return [(row["table_schema"], row["table_name"], row["column_name"]) for row in response.json()]
