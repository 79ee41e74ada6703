"""Rows that clients write: what the documentation shows, many clients at once, a daemon that is killed meanwhile."""

import random
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
import trio

from support.daemons import Node, running, wait_for

ROOT = Path(__file__).parents[2]
POD = """
version: v2
kind: Spicepod
name: intake
datasets:
"""
WRITTEN = """
  - from: memory:{engine}
    name: {engine}
    access: read_write
    columns:
      - {{name: request, type: varchar}}
      - {{name: row, type: int}}
      - {{name: rows, type: int}}
    acceleration: {{engine: {engine}, mode: file}}
"""
ENGINES = ("sqlite", "parquet")
PATH = "/v1/datasets/{}/rows"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are for curl")
def test_the_examples_say_what_is_so(tmp_path):
    text = (ROOT / "docs/writing.md").read_text(encoding="utf-8")
    examples = re.findall(
        r"^\$ (.+)\n((?:[^$`].*\n)*)", "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)), re.MULTILINE
    )
    assert len(examples) == 7
    node = Node(tmp_path / "intake", (ROOT / "spicepods/intake/spicepod.yaml").read_text(encoding="utf-8"))
    with running(node):
        node.wait_ready()
        for command, answer in examples:
            asked = command.replace("127.0.0.1:8090", node.endpoints["http"])
            found = subprocess.run(["bash", "-c", f"{asked} -s"], capture_output=True, text=True, check=True).stdout
            assert re.sub(r'"epoch":"\w+"', '"epoch":".."', found) == answer.strip(), command
        assert node.stop() == 0


def test_a_thousand_clients_at_once_are_answered_from_few_commits(tmp_path):
    node = Node(tmp_path / "intake", POD + "".join(WRITTEN.format(engine=engine) for engine in ENGINES))
    with running(node):
        node.wait_ready()
        trio.run(_post_at_once, node, 1000)
        for place, engine in enumerate(ENGINES):
            found = node.sql(f"select request, count(*) as n from {engine} group by request").to_pylist()
            assert {row["request"]: row["n"] for row in found} == {str(number): 2 for number in range(place, 1000, 2)}
            assert node.dataset(engine)["generation"] < 250, "they share commits"


async def _post_at_once(node, count):
    limits = httpx2.Limits(max_connections=250)
    async with (
        httpx2.AsyncClient(base_url=node.url, timeout=60, limits=limits) as client,
        trio.open_nursery() as nursery,
    ):
        for number in range(count):
            nursery.start_soon(_post, client, ENGINES[number % 2], number)


async def _post(client, engine, number):
    body = [{"request": str(number), "row": row, "rows": 2} for row in range(2)]
    answer = await client.post(PATH.format(engine), json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["rows"] == 2


KILLS, WRITES = 4, 5


class Client:
    """Posts requests of several rows without pause, and remembers those that were acknowledged."""

    def __init__(self, node, engine, name):
        self.node, self.engine, self.name = node, engine, name
        self.sent, self.acknowledged = {}, set()
        self.stopping = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        draw = random.Random(self.name)
        with httpx2.Client(base_url=self.node.url, timeout=30) as http:
            while not self.stopping:
                self.post(http, draw.randint(1, 40))

    def post(self, http, count):
        request = f"{self.name}-{len(self.sent)}"
        self.sent[request] = count
        body = "".join(f'{{"request":"{request}","row":{row},"rows":{count}}}\n' for row in range(count))
        try:
            answer = http.post(PATH.format(self.engine), content=body, headers={"content-type": "application/jsonl"})
        except httpx2.TransportError:
            time.sleep(0.02)
            return
        assert answer.status_code in {201, 503}, answer.text
        if answer.status_code == 201:
            self.acknowledged.add(request)

    def end(self):
        self.stopping = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


def test_a_killed_daemon_has_all_that_it_acknowledged_and_nothing_by_half(tmp_path):
    draw = random.Random(3)
    node = Node(tmp_path / "intake", POD + "".join(WRITTEN.format(engine=engine) for engine in ENGINES))
    with running(node):
        node.wait_ready()
        clients = [Client(node, engine, f"{engine}{number}") for engine in ENGINES for number in range(3)]
        try:
            for _ in range(KILLS):
                before = [len(client.acknowledged) for client in clients]
                wait_for(lambda before=before: all(map(_went_on, clients, before)), "each client is acknowledged")
                time.sleep(draw.uniform(0, 0.1))
                node.kill()
                node.restart()
        finally:
            for client in clients:
                client.end()
        node.wait_ready()
        for engine in ENGINES:
            _check(node, engine, [client for client in clients if client.engine == engine])
        assert node.stop() == 0


def _went_on(client, before):
    return len(client.acknowledged) >= before + WRITES


def _check(node, engine, clients):
    rows = node.sql(f'select request, "row", "rows" from {engine}').to_pylist()
    found = Counter(row["request"] for row in rows)
    sent = {request: count for client in clients for request, count in client.sent.items()}
    acknowledged = {request for client in clients for request in client.acknowledged}
    assert len(acknowledged) >= KILLS * WRITES * len(clients)
    assert found.items() <= sent.items(), "no request is there by half or twice"
    assert acknowledged <= found.keys(), "what was acknowledged is there"
    assert len({(row["request"], row["row"]) for row in rows}) == len(rows)
