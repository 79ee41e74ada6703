"""Caches before a slow origin, asked by many for many things: who may be answered at once is, and nothing piles up."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trio

from support.asking import Asker, ask_all
from support.cache_load import STALE, fill, loaded, of_item, stale_keys
from support.daemons import Node, wait_for
from support.origin_process import OriginProcess
from support.vitals import MIB, folder_size, vitals

ROWS = [{"n": n, "text": "x" * 200} for n in range(4)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, OriginProcess]]:
    """A daemon without a results cache; the tests ask it for different items."""
    with loaded(tmp_path_factory.mktemp("plain")) as both:
        yield both


def test_many_stale_keys_are_served_at_once_and_fetched_anew_ten_at_a_time(tmp_path: Path) -> None:
    with loaded(tmp_path, caching=STALE) as (node, origin):
        curve = stale_keys(node, origin, rate=250, seconds=2, delay=1, together=25)
        assert curve.tally.statuses == {200: 20}, curve.tally
        assert curve.tally.caches == {"stale": 20}
        assert curve.greatest <= 10
        assert curve.caching["stale"] == 500
        assert curve.caching["revalidations"] + curve.caching["skipped"] == 500
        assert curve.caching["skipped"] > 400
        assert curve.growth < 32 * MIB


DO_GET = "/arrow.flight.protocol.FlightService/DoGet"


async def get_at_once(address: str, sql: str, times: int) -> Counter[bytes]:
    """The bodies of all answers to a ticket that is SQL, which stands in the message's first field."""
    ticket = b"\x0a" + bytes([len(sql) & 127 | 128, len(sql) >> 7]) + sql.encode()
    assert 127 < len(sql) < 2**14
    async with grpc.aio.insecure_channel(address) as channel:
        do_get = channel.unary_stream(DO_GET)

        async def one() -> bytes:
            return b"".join([part async for part in do_get(ticket)])

        return Counter(await asyncio.gather(*(one() for _ in range(times))))


def test_equal_queries_over_flight_make_one_request(plain: tuple[Node, OriginProcess]) -> None:
    one_request(*plain, times=150)


def test_with_a_results_cache_a_thousand_of_them_do(tmp_path: Path) -> None:
    with loaded(tmp_path, results="true") as both:
        one_request(*both, times=1000)


def one_request(node: Node, origin: OriginProcess, times: int) -> None:
    origin.put("/item", json=ROWS, delay=0.5)
    sql = of_item(1).ljust(130)
    answers = asyncio.run(get_at_once(node.endpoints["flight"], sql, times))
    assert list(answers.values()) == [times]
    assert b"xxxx" in next(iter(answers))
    assert [asked["query"] for asked in origin.seen()["requests"]] == ["n=1"]


def test_different_queries_at_once_make_a_request_each_and_leave_nothing(plain: tuple[Node, OriginProcess]) -> None:
    node, origin = plain
    origin.put("/item", json=ROWS)

    async def ask(first: int) -> None:
        queries = [of_item(first + n) for n in range(60)]
        async with Asker(node.endpoints["http"]) as asker:
            tally = await ask_all(asker, queries, at_once=60)
        assert tally.caches == {"fwd=miss": 60}, tally.odd

    asked = origin.count()
    trio.run(ask, 100)
    before = vitals(node.process.pid)
    trio.run(ask, 160)
    assert origin.count() == asked + 120
    wait_for(lambda: vitals(node.process.pid).files <= before.files, "the connections are closed", 10)
    assert vitals(node.process.pid).threads <= before.threads + 1


@pytest.mark.parametrize(
    ("engine", "budget"),
    [
        ("arrow", "caching_max_items: 200"),
        ("sqlite", "caching_max_size: 128KiB"),
        ("parquet", "caching_max_size: 128KiB"),
    ],
)
def test_a_budget_holds_however_many_keys_come(tmp_path: Path, engine: str, budget: str) -> None:
    with loaded(tmp_path, engine=engine, caching=f"caching_ttl: 1h, {budget}") as (node, origin):
        origin.put("/item", json=ROWS)
        fill(node, 200, together=25)
        told = node.dataset("api")["caching"]
        assert told["bytes"] <= 128 * 1024 or told["rows"] <= 200
        assert sum(told["evictions"].values()) == 200 - told["entries"] > 0
        assert stored(node) == told["rows"]
        assert folder_size(node.data) < 8 * MIB


def stored(node: Node) -> int:
    """Rows that are shown where no request is named."""
    return int(str(node.scalar("select count(*) from api")))
