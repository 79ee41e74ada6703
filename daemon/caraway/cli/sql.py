"""`caraway sql`: one statement, a pipe of them, or a shell."""

import argparse
import sys

from caraway.cli.client import UNAUTHORIZED, Client, connect
from caraway.cli.errors import CliError
from caraway.cli.statements import split

AUTHENTICATION_FAILED = "Authentication Failed: Invalid credentials. Verify credentials and try again."


def sql(options: argparse.Namespace) -> int:
    """Run what -c or a pipe says, or open the shell on a terminal."""
    with connect(options) as client:
        if options.statement is None and sys.stdin.isatty() and not (options.json or options.csv):
            from caraway.cli.repl import repl

            return repl(client, cache_control(options))
        text = sys.stdin.read() if options.statement is None else options.statement
        complete, rest = split(text)
        for statement in [*complete, rest] if rest else complete:
            _run(client, statement, options)
    return 0


def cache_control(options: argparse.Namespace) -> str:
    """What is asked of the results cache with each statement; "" is nothing."""
    return "no-cache" if options.cache_control == "no-cache" else ""


def _run(client: Client, statement: str, options: argparse.Namespace) -> None:
    from caraway.cli.results import fetch, pass_through, print_answer

    try:
        if options.json or options.csv:
            pass_through(client, statement, "text/csv" if options.csv else "application/json", cache_control(options))
        else:
            print_answer(fetch(client, statement, cache_control(options)))
    except CliError as error:
        raise explained(error) from error


def explained(error: CliError) -> CliError:
    """A refused key in the words of the SQL shell."""
    return CliError(AUTHENTICATION_FAILED) if str(error) == UNAUTHORIZED else error
