"""Chaos under a caching dataset: its daemon is killed while an origin's answers change and clients ask for them.

Each answer of the origin has several rows, and all of them carry its number: what is stored of one has all its rows,
each once, and none of another; and nobody sees an answer older than one that was seen before.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from support.daemons import Node, running
from support.origin_process import origin_process

POD = """
version: v2
kind: Spicepod
name: killed
runtime: {{caching: {{sql_results: {{enabled: false}}}}}}
datasets:
- from: {url}
  name: api
  params: {{allowed_request_paths: /**, request_query_filters: enabled, max_retries: 0}}
  acceleration:
    engine: {engine}
    mode: file
    refresh_mode: caching
    params: {{caching_ttl: 20ms, caching_stale_while_revalidate_ttl: 1h, caching_stale_if_error: enabled}}
"""
KEYS = 24
ASKERS = 3
STORED = "select request_query as key, content from api"
ONE = STORED + " where request_path = '/v' and request_query = '{}'"
SECONDS = 15.0
"""In which what is stored is answered after a start: less than a fetch may take, and far more than it does."""


@dataclass
class Report:
    """How a run went; `answers` by status, 0 is none."""

    kills: int
    entries: int = 0
    newest: int = 0
    slowest: float = 0.0
    answers: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def versions(rows: Iterable[dict[str, str]], problems: list[str]) -> dict[str, int]:
    """By key the version of the answer that the rows are; what is not whole is a problem."""
    found: dict[str, list[dict[str, int]]] = defaultdict(list)
    for row in rows:
        found[row["key"]].append(json.loads(row["content"]))
    told: dict[str, int] = {}
    for key, contents in found.items():
        first, places = contents[0], sorted(each["row"] for each in contents)
        told[key] = first["version"]
        if places != list(range(first["of"])) or any(each["version"] != first["version"] for each in contents):
            problems.append(f"{key} is not whole: {contents}")
    return told


class Client(threading.Thread):
    """Asks for one key after the other; `seen` is the greatest version that it got of each."""

    def __init__(self, node: Node, report: Report, seed: int) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, int] = {}
        self._node = node
        self._report = report
        self._rng = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        with httpx2.Client(timeout=30) as client:
            while not self._over.is_set():
                self._ask(client, f"k={self._rng.randrange(KEYS)}")

    def stop(self) -> None:
        self._over.set()
        self.join(60)

    def _ask(self, client: httpx2.Client, key: str) -> None:
        try:
            answer = client.post(self._node.url + "/v1/sql", content=ONE.format(key))
        except httpx2.HTTPError:
            self._report.answers[0] += 1
            self._over.wait(0.02)
            return
        self._report.answers[answer.status_code] += 1
        if answer.status_code == 200:
            self._judge(key, answer.json())

    def _judge(self, key: str, rows: list[dict[str, str]]) -> None:
        version = versions(rows, self._report.problems).get(key, 0)
        if version < self.seen.get(key, 0):
            self._report.problems.append(f"{key} went from version {self.seen[key]} back to {version}")
        self.seen[key] = max(version, self.seen.get(key, 0))


def run(folder: Path, engine: str, *, kills: int, seed: int, pause: float = 1.0, gently: bool = False) -> Report:
    """End the daemon `kills` times, at most `pause` seconds after the one before came back, and look at what it kept.

    `gently` is SIGTERM; else it is SIGKILL, and the query worker alone gets one now and then.
    """
    rng, report = random.Random(seed), Report(kills)
    with origin_process() as origin:
        origin.told("number", place="/v")
        node = Node(folder / "node", POD.format(url=origin.url, engine=engine))
        with running(node):
            node.wait_ready()
            clients = [Client(node, report, seed + n) for n in range(ASKERS)]
            for client in clients:
                client.start()
            for _ in range(kills):
                time.sleep(rng.uniform(0.0, pause))
                if not gently and rng.random() < 0.3:
                    _kill_workers(node)
                    time.sleep(rng.uniform(0.0, pause))
                _end(node, report, gently=gently)
                with origin.hanging():
                    node.restart()
                    _look(node, clients, report)
            for client in clients:
                client.stop()
    return report


def _end(node: Node, report: Report, *, gently: bool) -> None:
    if not gently:
        node.kill()
    elif (code := node.stop()) != 0:
        report.problems.append(f"it stopped with exit code {code}")


def _kill_workers(node: Node) -> None:
    for pid in node.family[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _look(node: Node, clients: list[Client], report: Report) -> None:
    """At what is stored, while the origin answers nothing."""
    before = {key: max(client.seen.get(key, 0) for client in clients) for key in (f"k={n}" for n in range(KEYS))}
    began = time.monotonic()
    rows = node.sql(STORED).to_pylist()
    took = time.monotonic() - began
    report.slowest = max(report.slowest, took)
    told = versions(rows, report.problems)
    caching = node.dataset("api")["caching"]
    if (caching["entries"], caching["rows"]) != (len(told), len(rows)):
        report.problems.append(f"the index has {caching}, the store {len(told)} entries of {len(rows)} rows")
    for key, version in before.items():
        if told.get(key, 0) < version:
            report.problems.append(f"{key} was seen at version {version}, and {told.get(key)} is stored")
    report.entries, report.newest = len(told), max(told.values(), default=0)
    if took > SECONDS:
        report.problems.append(f"it took {took:.1f} s to answer what is stored")
