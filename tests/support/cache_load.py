"""A caching dataset under load: many keys, stale ones above all, before an origin that is slow."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from support.asking import Asker, Tally, ask_steadily
from support.daemons import Node, running
from support.origin_process import OriginProcess, origin_process
from support.vitals import Vitals, vitals

POD = """
version: v2
kind: Spicepod
name: loaded
runtime: {{caching: {{sql_results: {{enabled: {results}}}}}}}
datasets:
- from: {url}
  name: api
  params:
    allowed_request_paths: /**
    request_query_filters: enabled
    max_retries: 0
    {more}
  acceleration:
    engine: {engine}
    mode: {mode}
    refresh_mode: caching
    params: {{{caching}}}
"""


def pod(
    url: str, *, engine: str = "sqlite", caching: str = "caching_ttl: 1h", results: str = "false", more: str = ""
) -> str:
    """`more` is a line of the source's parameters; the results cache is off, so that the dataset sees each query."""
    mode = "memory" if engine == "arrow" else "file"
    return POD.format(url=url, engine=engine, mode=mode, caching=caching, results=results, more=more)


@contextmanager
def loaded(folder: Path, **options: str) -> Iterator[tuple[Node, OriginProcess]]:
    with origin_process() as origin:
        node = Node(folder, pod(origin.url, **options))
        with running(node):
            node.wait_ready()
            yield node, origin


def of_item(number: int, columns: str = "content") -> str:
    return f"select {columns} from api where request_path = '/item' and request_query = 'n={number}'"


def of_items(numbers: Iterable[int], columns: str = "content") -> str:
    listed = ", ".join(f"'n={number}'" for number in numbers)
    return f"select {columns} from api where request_path = '/item' and request_query in ({listed})"


# --- many keys that are stale ----------------------------------------------------------------------------------------

STALE = "caching_ttl: 1s, caching_stale_while_revalidate_ttl: 1h"


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at a moment."""

    second: float
    daemon: Vitals
    waiting: int
    """Queries that are asked and have no answer yet."""


@dataclass
class Curve:
    """What a load did, second by second; `caching` is what the dataset tells at its end."""

    tally: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    greatest: int = 0
    caching: dict[str, object] = field(default_factory=dict)

    @property
    def growth(self) -> int:
        """Bytes of its own by which the daemon grew, at most."""
        own = [sample.daemon.anonymous for sample in self.samples]
        return max(own) - own[0]


def stale_keys(
    node: Node, origin: OriginProcess, *, rate: int, seconds: float, delay: float, together: int = 1
) -> Curve:
    """Fetch keys until they are stale, then ask `rate` others of them a second of an origin that takes `delay`.

    A query is about so many of them `together`.
    """
    count = int(rate * seconds)
    origin.put("/item", json=[{"n": n, "text": "x" * 200} for n in range(4)])
    fill(node, count)
    time.sleep(1.1)  # the ttl of the youngest
    origin.told("forget")
    origin.put("/item", json=[{"n": 5}], delay=delay)
    curve = Curve()
    queries = [of_items(range(first, first + together)) for first in range(0, count, together)]
    trio.run(_load, node, curve, queries, rate / together)
    curve.greatest = int(origin.seen()["greatest"])
    curve.caching = node.dataset("api")["caching"]
    return curve


def fill(node: Node, count: int, start: int = 0, together: int = 250) -> None:
    """Ask for so many items, some of them a query."""
    for first in range(start, start + count, together):
        node.sql(of_items(range(first, min(first + together, start + count)), "count(*) as n"))


async def _load(node: Node, curve: Curve, queries: list[str], rate: float) -> None:
    async with Asker(node.endpoints["http"]) as asker, trio.open_nursery() as nursery:
        nursery.start_soon(_sample, node, curve)
        await ask_steadily(asker, queries, rate=rate, tally=curve.tally)
        nursery.cancel_scope.cancel()


async def _sample(node: Node, curve: Curve) -> None:
    began = trio.current_time()
    for second in range(10**6):
        await trio.sleep_until(began + second)
        curve.samples.append(Sample(trio.current_time() - began, vitals(node.process.pid), curve.tally.waiting))
