"""Bytes accounted are bytes held, and no more of them than allowed."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from caraway.caching.results.chunks import joined, owned, pack, unpack, weight
from caraway.caching.results.entry import Entry
from caraway.caching.results.memo import Known, Memo
from caraway.caching.results.sizes import held
from caraway.caching.results.store import Store, charged
from caraway.core.results_cache import Standing
from caraway.model import CacheReport, CacheStatus, FlightMessage, ResultFormat
from support.cached import cached, get
from support.fake_planner import FakePlanner, Script, ask

MIB = 1024**2
FILL = Path(__file__).parents[1] / "support" / "fill_cache.py"


def filled(max_size: int, encoding: str = "none") -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(FILL), str(max_size), encoding], capture_output=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_a_thousand_mixed_results_take_what_is_accounted():
    found = filled(512 * MIB)
    assert found["items"] == 1050
    assert found["accounted"] > 150 * MIB
    assert 0.9 < found["grown"] / found["accounted"] < 1.1


def test_never_more_than_allowed_and_a_tenth():
    found = filled(64 * MIB)
    assert found["items"] < 1000
    assert 50 * MIB < found["most_accounted"] <= 64 * MIB
    assert found["most_grown"] < 1.1 * 64 * MIB


# --- the store -------------------------------------------------------------------------------------------------------


def entry(key: bytes, size: int, at: float = 0.0) -> Entry:
    from caraway.caching.results.body import Body

    body = Body(FlightMessage(b"schema", b""), (bytes(size),), 1)
    return Entry(key, ask("a"), body, None, (), at, Standing(at), {CacheStatus.HIT: CacheReport()})


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.mark.parametrize("policy", ["lru", "tiny_lfu"])
@pytest.mark.parametrize("seed", range(5))
def test_the_store_never_holds_more_than_it_may(policy, seed):
    chance, store, capacity = random.Random(seed), Store(100_000, policy), 100_000
    for step in range(2000):
        match chance.choice(["put", "put", "used", "drop", "expire"]):
            case "put":
                made = entry(key(chance.randrange(100)), chance.choice([10, 500, 9_000, 60_000, 120_000]), step)
                kept = store.put(made)
                assert (store.get(made.key) is made) is kept
            case "used":
                store.used(key(chance.randrange(200)))
            case "drop":
                store.drop(key(chance.randrange(100)), "invalidated")
            case _:
                over = step - chance.randrange(5, 200)
                store.expire(lambda standing, over=over: standing.stored_at < over)
                assert all(store.get(key(n)).standing.stored_at >= over for n in range(100) if store.get(key(n)))
        present = [found for n in range(100) if (found := store.get(key(n)))]
        assert store.size == sum(map(charged, present)) <= capacity
        assert len(store) == len(present)
    assert all(store.evictions.values())


def test_lru_lets_go_of_what_was_not_used_for_longest():
    store = Store(4 * charged(entry(key(0), 1000)), "lru")
    for number in range(4):
        store.put(entry(key(number), 1000))
    for number in (0, 2):
        store.used(key(number))
    for number in (4, 5):
        assert store.put(entry(key(number), 1000))
    assert [number for number in range(6) if store.get(key(number))] == [0, 2, 4, 5]
    assert store.evictions == {"size": 2, "expired": 0, "invalidated": 0}


def test_tiny_lfu_keeps_what_is_asked_for_often():
    store = Store(10 * charged(entry(key(0), 1000)), "tiny_lfu")
    for number in range(10):
        store.put(entry(key(number), 1000))
    for number in [*range(10)] * 5:
        store.used(key(number))
    for number in range(100, 200):
        store.used(key(number))
        store.put(entry(key(number), 1000))
    assert all(store.get(key(number)) for number in range(10))
    for _ in range(12):
        store.used(key(300))
    assert store.put(entry(key(300), 1000))


def test_what_is_larger_than_all_is_not_kept():
    store = Store(10_000, "lru")
    store.put(entry(key(1), 1000))
    assert not store.put(entry(key(2), 20_000))
    assert store.get(key(1))


def test_the_memo_is_bounded():
    memo = Memo(10_000)
    for number in range(1000):
        memo.put(key(number), Known(("t",), cacheable=True, plan_key=key(number)))
        assert memo.size <= 10_000
    assert memo.get(key(999))
    assert memo.get(key(0)) is None
    memo.put(key(999), Known((), cacheable=False, plan_key=None))
    assert memo.get(key(999)).tables == ()
    alone, size = Memo(10_000), 0
    for _ in range(2):
        alone.put(key(1), Known(("t",), cacheable=True, plan_key=key(1)))
        size = size or alone.size
    assert alone.size == size
    none = Memo(0)
    none.put(key(1), Known((), cacheable=True, plan_key=None))
    assert (none.get(key(1)), none.size) == (None, 0)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (None, 0, 0),
        (ResultFormat.JSON, 0, 0),
        (b"", 33, 48),
        (bytes(1000), 1033, 1072),
        (bytes(MIB), MIB, MIB + 8192),
        ("\u00fc\u4e00" * 500, 2000, 2120),
        ((1, "two", [3.0, {"four": None}]), 400, 700),
        (FlightMessage(b"head", b"body"), 100, 160),
    ],
)
def test_what_a_value_holds(value, least, most):
    assert least <= held(value) <= most


# --- chunks ----------------------------------------------------------------------------------------------------------


def test_owned_chunks_hold_nothing_else():
    buffer = bytearray(MIB)
    assert held(owned(FlightMessage(b"h", memoryview(buffer)[:10]))) < 200
    text = b"text"
    assert owned(text) is text


@pytest.mark.parametrize(
    "chunks",
    [
        (b"abc" * 1000,),
        (FlightMessage(b"head", b"body" * 1000), FlightMessage(b"head" * 200, b""), FlightMessage(b"", b"x" * 500)),
    ],
)
def test_packing_gives_back_what_it_got(chunks):
    packed = pack(chunks)
    assert packed is not None
    assert len(packed.data) < sum(map(weight, chunks)) == packed.unpacked_size
    assert unpack(packed) == chunks


@pytest.mark.parametrize(
    "chunks", [(), (b"",), (b"ab",), (FlightMessage(b"", b""),), (random.Random(1).randbytes(999),)]
)
def test_what_gets_no_smaller_is_left_as_it_is(chunks):
    assert pack(chunks) is None


def test_text_is_joined_messages_are_not():
    messages = [FlightMessage(b"a", b""), FlightMessage(b"b", b"")]
    assert joined(messages) == tuple(messages)
    assert joined([b"a", b"b"]) == (b"ab",)
    assert joined([]) == ()


@pytest.mark.parametrize(("size", "at_once"), [(1000, True), (16 * 1024, True), (16 * 1024 + 1, False), (MIB, False)])
@pytest.mark.parametrize("kind", [ResultFormat.JSON, ResultFormat.IPC])
async def test_packed_answers_are_served_as_they_were(size, at_once, kind):
    body = b"x" * size
    chunks = [body] if kind is ResultFormat.JSON else [FlightMessage(b"", body)]
    cache = cached(FakePlanner(a=Script(chunks)), encoding="zstd")
    query = ask("a", format=kind)
    async with cache.execute(query) as result:
        assert [chunk async for chunk in result] == chunks
    assert cache.statistics().size_bytes < 3500
    async with cache.execute(query) as result:
        assert result.report.status is CacheStatus.HIT
        assert [chunk async for chunk in result] == chunks
    answer = cache.peek(query)
    assert (answer is not None) is at_once
    assert answer is None or list(answer.chunks) == chunks


async def test_cancelled_while_packing_the_answer_is_still_shared():
    engine = FakePlanner(a=Script([bytes(4 * MIB)]))
    cache = cached(engine, encoding="zstd")
    async with trio.open_nursery() as nursery:
        leader = trio.CancelScope()

        async def lead():
            with leader:
                await get(cache, ask("a"))

        async def follow():
            assert len((await get(cache, ask("a")))[1]) == 4 * MIB

        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
    assert len(engine.executions) <= 2
