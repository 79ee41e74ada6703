"""Starts both nodes, shows them until Ctrl-C, stops the edge before the core, and leaves nothing behind."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import outcome
import trio
from rich.live import Live

from caraway.cli.demo.page import News, Row, commands, line, page, row
from caraway.cli.output import console
from caraway.daemon import Daemon, Options, run_daemon
from caraway.ports import Emit
from caraway.telemetry import Log, Telemetry, log_to

ANYWHERE = "127.0.0.1:0"
CORE_PLACEHOLDER = "http://core:50051"
REDRAW_SECONDS = 0.5
LINES_SECONDS = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(options: argparse.Namespace) -> int:
    """Show a core and an edge until the user has seen enough."""
    log = log_to(sys.stderr, verbosity=options.verbosity, env=os.environ) if options.verbosity else None
    with TemporaryDirectory(prefix="caraway-demo-") as folder:
        try:
            trio.run(_run, Path(folder), log)
        finally:
            if log is not None:
                log.flush()
    return 0


async def _run(folder: Path, log: Log | None) -> None:
    news = News()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        if log is not None:
            nursery.start_soon(log.run)
        await nursery.start(_stop_on_signals, stopping)
        ended = await outcome.acapture(_nodes, folder, log, news, stopping)
        nursery.cancel_scope.cancel()
    ended.unwrap()


async def _nodes(folder: Path, log: Log | None, news: News, stopping: trio.Event) -> None:
    """Run the core, and the edge within its time; show both until `stopping`."""
    core_stopping, edge_stopping = trio.Event(), trio.Event()
    core_emit, edge_emit = (Telemetry(news.of(name), *[log] if log else []).emit for name in ("core", "edge"))
    async with trio.open_nursery() as around:
        core: Daemon = await around.start(_node(folder / "core", core_emit, core_stopping, {}))
        address = {CORE_PLACEHOLDER: f"http://{core.endpoints.value.flight}"}
        async with trio.open_nursery() as within:
            edge: Daemon = await within.start(_node(folder / "edge", edge_emit, edge_stopping, address))
            _introduce(edge)
            await _show({"core": core, "edge": edge}, news, stopping)
            edge_stopping.set()
        core_stopping.set()


def _node(
    folder: Path, emit: Emit, stopping: trio.Event, replaced: Mapping[str, str]
) -> Callable[..., Awaitable[None]]:
    """A daemon on free ports of loopback, in a folder that is called as the demo's pod for it."""
    pod = files(__package__).joinpath(f"{folder.name}.yaml").read_text()
    for placeholder, value in replaced.items():
        pod = pod.replace(placeholder, value)
    folder.mkdir()
    (folder / "spicepod.yaml").write_text(pod)
    return partial(run_daemon, Options(folder, http=ANYWHERE, flight=ANYWHERE), emit, stopping=stopping)


def _introduce(edge: Daemon) -> None:
    out = console()
    out.print("A core serves generated data over Arrow Flight; an edge keeps copies of it and answers SQL.")
    out.print("Ask the edge from another terminal:\n")
    for command in commands(_program(), f"http://{edge.endpoints.value.http}"):
        out.print(f"  {command}", soft_wrap=True)
    out.print()


def _program() -> str:
    """How the user calls this program."""
    if shutil.which("caraway"):
        return "caraway"
    return sys.argv[0] if Path(sys.argv[0]).name == "caraway" else f"{sys.executable} -m caraway"


async def _show(nodes: Mapping[str, Daemon], news: News, stopping: trio.Event) -> None:
    if sys.stdout.isatty():
        with Live(console=console(), auto_refresh=False) as live:
            while not stopping.is_set():
                live.update(page(_rows(nodes), news.lines), refresh=True)
                with trio.move_on_after(REDRAW_SECONDS):
                    await stopping.wait()
        return
    told: dict[tuple[str, str], tuple[str, int]] = {}
    while not stopping.is_set():
        for each in _rows(nodes):
            if told.get((each.node, each.dataset)) != (each.state, each.rows):
                told[each.node, each.dataset] = each.state, each.rows
                print(line(each), flush=True)
        with trio.move_on_after(LINES_SECONDS):
            await stopping.wait()


def _rows(nodes: Mapping[str, Daemon]) -> list[Row]:
    now = datetime.now(UTC)
    return [row(name, actor.current(), now) for name, node in nodes.items() for actor in node.datasets.values()]


async def _stop_on_signals(
    stopping: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            stopping.set()
