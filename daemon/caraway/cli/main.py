"""What `caraway` understands. A verb's code is imported when it runs, so that the small ones are quick."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from caraway import __version__
from caraway.cli.errors import CliError

DEFAULT_ADDRESS = "127.0.0.1:8090"
DEFAULT_ENDPOINT = f"http://{DEFAULT_ADDRESS}"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb: 0 it worked, 1 it failed, 2 it was called wrongly (argparse exits with that by itself)."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.verb is None:
        parser.print_help()
        return 0
    module, function = options.handler.split(":")
    try:
        code: int = getattr(import_module(module), function)(options)
        sys.stdout.flush()
    except CliError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `caraway sql .. | head`; what is buffered must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(
        prog="caraway", description="Fresh local copies of remote datasets, served as SQL."
    )
    parser.add_argument("--version", action="version", version=f"caraway {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    _add_daemon_verbs(verbs)
    _add_client_verbs(verbs)
    _verb(verbs, "version", "print the version", "caraway.cli.lists:version").add_argument(
        "--json", action="store_true"
    )
    return parser


_Verbs = argparse._SubParsersAction  # noqa: SLF001  the only name that argparse gives it


def _verb(verbs: "_Verbs[argparse.ArgumentParser]", name: str, does: str, handler: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.set_defaults(handler=handler)
    return parser


def _add_daemon_verbs(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    run = _verb(verbs, "run", "run a spicepod", "caraway.cli.run:run")
    run.add_argument("path", nargs="?", type=Path, default=Path(), metavar="PATH", help="a folder or a file")
    run.add_argument("--http", metavar="ADDR", help="host:port of HTTP, 127.0.0.1:8090; port 0 picks one")
    run.add_argument("--flight", metavar="ADDR", help="host:port of Arrow Flight, 127.0.0.1:50051")
    run.add_argument("--metrics", metavar="ADDR", help="host:port of metrics; off without it")
    run.add_argument("--data-dir", type=Path, metavar="DIR", help="where data is kept; .caraway beside the spicepod")
    run.add_argument("--set-runtime", action="append", default=[], metavar="KEY=VALUE", help="override runtime.KEY")
    run.add_argument("-v", action="count", default=0, dest="verbosity", help="log more; -vv logs all")
    demo = _verb(verbs, "demo", "run a core and an edge on this machine and show them", "caraway.cli.demo.command:demo")
    demo.add_argument("-v", action="count", default=0, dest="verbosity", help="log to the terminal, without the table")
    validate = _verb(verbs, "validate", "check a spicepod", "caraway.cli.validate:validate")
    validate.add_argument("path", nargs="?", type=Path, default=Path(), metavar="PATH", help="a folder or a file")
    validate.add_argument(
        "--set-runtime", action="append", default=[], metavar="KEY=VALUE", help="override runtime.KEY"
    )
    validate.add_argument("--json", action="store_true", help="print JSON")


def _add_client_verbs(verbs: "_Verbs[argparse.ArgumentParser]") -> None:
    sql = _client_verb(verbs, "sql", "ask questions in SQL: as a shell, by -c, or from a pipe", "caraway.cli.sql:sql")
    sql.add_argument("-c", dest="statement", metavar="SQL", help="run this and leave")
    sql.add_argument("--csv", action="store_true", help="print CSV")
    sql.add_argument(
        "--cache-control",
        choices=["cache", "no-cache"],
        default="cache",
        help="whether answers may come out of the results cache",
    )
    _client_verb(verbs, "datasets", "list the datasets and how they fare", "caraway.cli.lists:datasets")
    _client_verb(verbs, "status", "list the servers of the daemon", "caraway.cli.lists:status")
    _client_verb(verbs, "pods", "list the spicepods that run", "caraway.cli.lists:pods")
    refresh = _client_verb(verbs, "refresh", "refresh a dataset now", "caraway.cli.refresh:refresh")
    refresh.add_argument("dataset", metavar="NAME")
    refresh.add_argument("--refresh-sql", metavar="SQL", help="what to load this once")
    refresh.add_argument("--refresh-mode", choices=["full", "append"], help="how to load this once")
    refresh.add_argument("--refresh-jitter-max", metavar="DURATION", help="wait at most so long before it begins")
    refresh.add_argument("--wait", action="store_true", help="wait for its end; the exit code tells the outcome")


def _client_verb(
    verbs: "_Verbs[argparse.ArgumentParser]", name: str, does: str, handler: str
) -> argparse.ArgumentParser:
    parser = _verb(verbs, name, does, handler)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--http-endpoint", "--endpoint", dest="endpoint", metavar="URL", help=f"where the daemon is; {DEFAULT_ENDPOINT}"
    )
    where.add_argument("--data-dir", type=Path, metavar="DIR", help="the daemon that keeps its data there")
    parser.add_argument("--api-key", metavar="KEY", help="instead of SPICE_API_KEY")
    parser.add_argument(
        "--tls-root-certificate-file", type=Path, metavar="PEM", help="speak https and trust this certificate"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
