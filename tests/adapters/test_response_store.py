"""Stores of responses: one suite over memory and file."""

import gc
import random
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from caraway.caching.responses.sqlite import SqliteStore
from caraway.caching.responses.store import Held, MemoryStore, size_of
from caraway.core.freshness_keys import key_of
from caraway.model import HttpRequest
from support.response_store import MIB, key, stored


@pytest.fixture(params=["memory", "file"])
def opened(request, tmp_path):
    @asynccontextmanager
    async def opened(max_bytes=MIB):
        if request.param == "memory":
            store = MemoryStore(max_bytes)
        else:
            store = SqliteStore(tmp_path / "folder" / "responses.db", max_bytes, dataset="d", emit=pytest.fail)
        yield store
        await store.aclose()

    return opened


async def test_what_was_put_is_found(opened):
    async with opened() as store:
        assert await store.find(key(), ()) is None
        answer = stored(bytes(range(256)) * 100, status=404)
        await store.put(key(), answer)
        assert await store.find(key(), ()) == answer
        assert await store.find(key(1), ()) is None
        assert await store.find(key(0, "you"), ()) is None
        assert store.held == Held(size_of(answer), 1)


async def test_another_answer_takes_the_place_of_the_one_before(opened):
    async with opened() as store:
        await store.put(key(), stored(b"one" * 1000))
        await store.put(key(), stored(b"two"))
        assert (await store.find(key(), ())).body == b"two"
        assert store.held == Held(size_of(stored(b"two")), 1)


async def test_variants_lie_side_by_side(opened):
    async with opened() as store:
        for language in ("en", "de", None):
            request = (("accept-language", language),) if language else ()
            await store.put(key(), stored(str(language).encode(), vary=("accept-language",), request=request))
        for language in ("en", "de"):
            found = await store.find(key(), (("accept-language", language), ("x", "y")))
            assert found.body == language.encode()
        assert (await store.find(key(), ())).body == b"None"
        assert await store.find(key(), (("accept-language", "fr"),)) is None
        assert store.held.items == 3


async def test_the_newest_answer_says_what_all_vary_by(opened):
    async with opened() as store:
        for value in "12":
            await store.put(key(), stored(vary=("a",), request=(("a", value),)))
        await store.put(key(1), stored(vary=("a",), request=(("a", "1"),)))
        newest = stored(vary=("a", "b"), request=(("a", "1"), ("b", "1")))
        await store.put(key(), newest)
        assert store.held.items == 2
        assert await store.find(key(), (("a", "1"), ("b", "1"))) == newest
        assert await store.find(key(), (("a", "1"),)) is None
        assert await store.find(key(1), (("a", "1"),)) is not None


async def test_what_is_confirmed_keeps_its_body(opened):
    async with opened() as store:
        await store.put(key(), stored(b"long" * 1000))
        fresh = stored(b"long" * 1000, headers=(("x", "new"),), received=1772366500.0, initial_age=0.0)
        await store.put(key(), fresh, same_body=True)
        assert await store.find(key(), ()) == fresh
        assert store.held == Held(size_of(fresh), 1)


async def test_what_is_confirmed_is_stored_whole_where_it_was_let_go_or_replaced(opened):
    async with opened() as store:
        await store.put(key(), stored(b"one"), same_body=True)
        assert (await store.find(key(), ())).body == b"one"
        await store.put(key(), stored(b"two"))
        await store.put(key(), stored(b"one", headers=()), same_body=True)
        assert await store.find(key(), ()) == stored(b"one", headers=())
        varied = stored(b"one", vary=("a",), request=(("a", "1"),))
        await store.put(key(), varied, same_body=True)
        assert await store.find(key(), (("a", "1"),)) == varied
        assert store.held == Held(size_of(varied), 1)


async def test_what_is_removed_is_gone_and_only_that(opened):
    async with opened() as store:
        bodies = (None, b"a", b"b")
        keys = [
            key_of(who, HttpRequest("GET", f"https://a.example/{n}", (), b))
            for who in "ab"
            for n in "12"
            for b in bodies
        ]
        for each in keys:
            await store.put(each, stored())
        await store.remove(keys[0])
        assert [await store.find(each, ()) is not None for each in keys] == [False, *[True] * 11]
        await store.remove(keys[0][:16])
        assert [await store.find(each, ()) is not None for each in keys] == [*[False] * 3, *[True] * 9]
        await store.remove(b"\xff" * 16)
        assert store.held == Held(9 * size_of(stored()), 9)


async def test_the_least_recently_used_goes_first(opened):
    each = size_of(stored(bytes(20_000)))
    async with opened(5 * each) as store:
        for number in range(5):
            await store.put(key(number), stored(bytes(20_000)))
        await store.find(key(0), ())
        await store.put(key(1), stored(bytes(20_000)), same_body=True)
        for number in (5, 6):
            await store.put(key(number), stored(bytes(20_000)))
        assert [number for number in range(7) if await store.find(key(number), ())] == [0, 1, 4, 5, 6]
        assert store.held == Held(5 * each, 5, evictions=2)


async def test_an_answer_larger_than_the_bound_ends_the_one_before_and_touches_no_other(opened):
    async with opened(100_000) as store:
        await store.put(key(0), stored())
        await store.put(key(1), stored())
        await store.put(key(1), stored(bytes(100_000)))
        assert await store.find(key(0), ())
        assert await store.find(key(1), ()) is None
        assert (store.held.items, store.held.evictions) == (1, 0)


async def test_one_of_exactly_the_bound_is_kept(opened):
    for slack, items in ((0, 1), (-1, 0)):
        async with opened(size_of(stored(bytes(50_000))) + slack) as store:
            await store.put(key(slack), stored(bytes(50_000)))
            assert store.held.items == items


async def test_a_confirmed_answer_that_has_grown_counts_with_what_it_is_now(opened):
    async with opened(100_000) as store:
        for number in range(3):
            await store.put(key(number), stored(bytes(20_000)))
        grown = stored(bytes(20_000), headers=(("x", "y" * 50_000),))
        await store.put(key(2), grown, same_body=True)
        assert await store.find(key(2), ()) == grown
        assert store.held == Held(size_of(grown) + size_of(stored(bytes(20_000))), 2, evictions=1)


@pytest.mark.parametrize("seed", range(3))
async def test_it_does_what_a_simple_model_does(opened, seed):
    chance = random.Random(seed)
    model, size = {}, 0  # in the order of use
    async with opened(30_000) as store:
        for _ in range(150):
            number, value = chance.randrange(6), chance.choice("12")
            place = key(number), (("a", value),)
            match chance.randrange(4):
                case 0:
                    assert await store.find(*place) == model.get(place)
                    if place in model:
                        model[place] = model.pop(place)
                case 1 | 2:
                    answer = stored(chance.randbytes(chance.randrange(12_000)), vary=("a",), request=place[1])
                    await store.put(place[0], answer)
                    model.pop(place, None)
                    model[place] = answer
                    while sum(map(size_of, model.values())) > 30_000:
                        del model[next(iter(model))]
                case 3:
                    await store.remove(place[0])
                    model = {each: answer for each, answer in model.items() if each[0] != place[0]}
            size = sum(map(size_of, model.values()))
            assert (store.held.size_bytes, store.held.items) == (size, len(model))
        for place, answer in model.items():
            assert await store.find(*place) == answer


async def test_memory_that_is_counted_is_memory_that_is_held():
    chance, store = random.Random(1), MemoryStore(2 * MIB)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1200):
            headers = tuple(
                (f"x-header-{chance.random()}", f"value {chance.random()}") for _ in range(chance.randrange(12))
            )
            await store.put(key(number), stored(chance.randbytes(chance.choice([20, 500, 5000])), headers=headers))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert store.held.evictions > 100
    assert 0.85 < held / store.held.size_bytes <= 1.1
