"""`caraway refresh`: one refresh now; with --wait until its end, which the exit code tells."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from caraway.cli.client import Client, connect
from caraway.cli.errors import CliError
from caraway.cli.output import console, plain, print_json

POLL_SECONDS = 0.2
REFRESHING = "Refreshing"
OVERRIDES = ("refresh_sql", "refresh_mode", "refresh_jitter_max")


def refresh(options: argparse.Namespace) -> int:
    """Ask for the refresh, and with --wait follow it."""
    path = f"/v1/datasets/{quote(options.dataset, safe='')}"
    body = {name: value for name in OVERRIDES if (value := getattr(options, name)) is not None}
    with connect(options) as client:
        before = client.get(path) if options.wait else {}
        _say(options, f"Refreshing dataset {options.dataset} ...")
        answer = client.post(f"{path}/acceleration/refresh", body)
        if not options.wait:
            print_json(answer) if options.json else _say(options, str(answer["message"]))
            return 0
        _say(options, str(answer["message"]))
        after = _followed(client, path, before, options)
        if before["status"] == after["status"] == REFRESHING:  # the end of a run that was there before; ours follows it
            before, after = after, _followed(client, path, after, options)
    if options.json:
        print_json(after)
    return _outcome(after, before, options)


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        console().print(plain(text))


def _followed(client: Client, path: str, before: Mapping[str, Any], options: argparse.Namespace) -> Mapping[str, Any]:
    """The dataset after the refresh; a bar shows the rows meanwhile where a person looks."""
    if options.json or not sys.stdout.isatty():
        return _poll(client, path, before, lambda _: None)
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"))
    with Progress(*columns, TimeElapsedColumn(), transient=True) as progress:
        task = progress.add_task(options.dataset, total=before.get("rows") or None, rows="")

        def show(dataset: Mapping[str, Any]) -> None:
            rows = dataset.get("rows_loading") or 0
            rate = dataset.get("rate") or 0.0
            progress.update(task, completed=rows, rows=f"{rows:,} rows  {rate:,.0f} rows/s")

        return _poll(client, path, before, show)


def _poll(
    client: Client, path: str, before: Mapping[str, Any], show: Callable[[Mapping[str, Any]], None]
) -> Mapping[str, Any]:
    while True:
        dataset: Mapping[str, Any] = client.get(path)
        show(dataset)
        if _ended(dataset, before):
            return dataset
        time.sleep(POLL_SECONDS)


def _ended(dataset: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a refresh succeeded, or one attempt failed, since `before`."""
    return dataset["last_refresh"] != before["last_refresh"] or _failed(dataset, before)


def _failed(dataset: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if dataset["last_refresh"] != before["last_refresh"]:
        return False
    return bool(dataset["status"] == "Error" and dataset["failures"] > before["failures"])


def _outcome(after: Mapping[str, Any], before: Mapping[str, Any], options: argparse.Namespace) -> int:
    if not _failed(after, before):
        _say(options, f"Loaded: {options.dataset} has {after['rows'] or 0:,} rows.")
        return 0
    error = after.get("error") or {}
    again = f"The next attempt is at {after['next_refresh']}." if after.get("next_refresh") else "No attempt follows."
    words = (str(error.get("message", "It failed.")), error.get("remedy"), again)
    raise CliError(plain(" ".join(filter(None, words))))
