"""The response cache at work: flights, the background, namespaces, clocks and failures, at exact virtual times."""

from datetime import timedelta

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from caraway.caching.responses.cache import ResponseCache
from caraway.caching.responses.file import ResponseFile
from caraway.caching.responses.open import open_response_cache
from caraway.caching.responses.store import MemoryStore
from caraway.core.freshness import Policy
from caraway.errors import SourceError
from caraway.model import HttpResponse
from support.response_cache import BEGINNING, FileStore, Origin, get, post, response, wall

MIB = 1024 * 1024


def cache_before(origin, *, policy=None, **more):
    return ResponseCache(origin.send, MemoryStore(MIB), policy, wall=wall, **more)


def always(*headers, **more):
    return lambda request: response(*headers, **more)


class Turns:
    """Answers one after the other; the last one from then on."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, request):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request) if callable(answer) else answer


async def gather(*calls):
    """What the calls give, run at once; a SourceError is given back as one."""
    results = [None] * len(calls)

    async def run(number, call):
        try:
            results[number] = await call()
        except SourceError as error:
            results[number] = error

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(run, number, call)
    return results


def asking(cache, request, namespace="me"):
    return lambda: cache.send(request, namespace=namespace)


# --- flights ---------------------------------------------------------------------------------------------------------


async def test_a_thousand_equal_misses_are_one_request(autojump_clock):
    origin = Origin(always("cache-control: max-age=60", body=b"x"), delay=1.0)
    cache = cache_before(origin)
    answers = await gather(*[asking(cache, get())] * 1000)
    assert [(answer.body, answer.age) for answer in answers] == [(b"x", 1.0)] * 1000
    assert len(origin.asked) == 1
    assert (cache.statistics().misses, cache.statistics().coalesced) == (1, 999)
    assert trio.current_time() == 1.0


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
async def test_an_answer_that_says_nothing_is_shared_by_those_who_waited_for_it(status, autojump_clock):
    origin = Origin(always(status=status), delay=1.0)
    cache = cache_before(origin)
    answers = await gather(*[asking(cache, get())] * 10)
    assert [answer.status for answer in answers] == [status] * 10
    assert len(origin.asked) == 1
    await cache.send(get(), namespace="me")
    assert len(origin.asked) == 2


@pytest.mark.parametrize(
    "line", ["cache-control: no-store", "cache-control: no-cache", "cache-control: max-age=0", "vary: *"]
)
async def test_an_answer_that_is_for_one_alone_is_fetched_by_each_at_the_same_time(line, autojump_clock):
    origin = Origin(always(line), delay=1.0)
    cache = cache_before(origin)
    await gather(*[asking(cache, get())] * 10)
    assert [at for at, _ in origin.asked] == [0.0, *[1.0] * 9]
    assert cache.statistics().coalesced == 0


async def test_a_failure_is_shared_and_the_next_request_tries_again(autojump_clock):
    origin = Origin(Turns(SourceError("down", remedy="wait", retry_after=7.0), response()), delay=1.0)
    cache = cache_before(origin)
    failures = await gather(*[asking(cache, get())] * 10)
    assert [(str(each), each.retry_after) for each in failures] == [("down wait", 7.0)] * 10
    assert len({id(each) for each in failures}) == 10  # a traceback each
    assert len(origin.asked) == 1
    assert (await cache.send(get(), namespace="me")).status == 200


async def test_requests_that_differ_in_anything_fly_apart(autojump_clock):
    origin = Origin(always("cache-control: max-age=60"), delay=1.0)
    cache = cache_before(origin)
    requests = [get("/a"), get("/b"), get("/a", "accept: x"), get("/a", "accept: y"), post(b"1"), post(b"2"), post(b"")]
    await gather(*(asking(cache, request) for request in requests))
    assert len(origin.asked) == len(requests)
    assert trio.current_time() == 1.0


async def test_namespaces_share_neither_answers_nor_flights(autojump_clock):
    origin = Origin(always("cache-control: max-age=60"), delay=1.0)
    cache = cache_before(origin)
    await gather(*(asking(cache, get(), name) for name in ("a", "b", "a")))
    assert len(origin.asked) == 2
    await gather(*(asking(cache, get(), name) for name in ("a", "b", "c")))
    assert len(origin.asked) == 3


async def test_who_leads_may_leave_and_another_takes_over(autojump_clock):
    origin = Origin(always("cache-control: max-age=60"), delay=2.0)
    cache = cache_before(origin)
    answers = []

    async def follow():
        answers.append(await cache.send(get(), namespace="me"))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as left:
            nursery.start_soon(wait_all_tasks_blocked)
            nursery.start_soon(_later, follow)
            nursery.start_soon(_later, follow)
            await cache.send(get(), namespace="me")
        assert left.cancelled_caught
    assert [answer.status for answer in answers] == [200, 200]
    assert [at for at, _ in origin.asked] == [0.0, 1.0]
    assert trio.current_time() == 3.0
    assert not cache._flights


async def _later(call):
    await trio.sleep(0.5)
    await call()


async def test_who_waits_may_leave_without_ending_the_flight(autojump_clock):
    origin = Origin(always("cache-control: max-age=60"), delay=2.0)
    cache = cache_before(origin)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking(cache, get()))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await cache.send(get(), namespace="me")
    assert len(origin.asked) == 1
    assert trio.current_time() == 2.0


async def test_concurrent_validations_are_one(autojump_clock):
    etag = response('etag: "a"', "cache-control: max-age=5")
    origin = Origin(Turns(etag, response(status=304)), delay=1.0)
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    await trio.sleep(9)
    answers = await gather(*[asking(cache, get())] * 10)
    assert [answer.body for answer in answers] == [b"body"] * 10
    assert len(origin.asked) == 2
    assert (cache.statistics().revalidated, cache.statistics().coalesced) == (1, 9)


# --- validation ------------------------------------------------------------------------------------------------------


async def test_a_304_of_another_answer_makes_it_ask_again_without_a_condition(autojump_clock):
    answers = Turns(
        response('etag: "a"', body=b"old"),
        response('etag: "b"', status=304),
        response('etag: "b"', "cache-control: max-age=9", body=b"new"),
    )
    origin = Origin(answers)
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    assert (await cache.send(get(), namespace="me")).body == b"new"
    assert [dict(request.headers) for _, request in origin.asked] == [{}, {"if-none-match": '"a"'}, {}]
    assert (await cache.send(get(), namespace="me")).body == b"new"
    assert cache.statistics().hits == 1


async def test_a_server_that_says_304_to_everything_is_passed_on(autojump_clock):
    origin = Origin(Turns(response('etag: "a"'), response('etag: "b"', status=304)))
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    assert (await cache.send(get(), namespace="me")).status == 304
    assert len(origin.asked) == 3
    assert cache.statistics().items == 0


async def test_an_answer_that_may_not_be_stored_ends_the_one_before(autojump_clock):
    answers = Turns(response("cache-control: max-age=1", 'etag: "a"'), response("cache-control: no-store"), response())
    origin = Origin(answers)
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    await trio.sleep(1)
    await cache.send(get(), namespace="me")
    assert cache.statistics().items == 0
    await cache.send(get(), namespace="me")
    assert "if-none-match" not in dict(origin.asked[2][1].headers)


async def test_a_post_is_never_sent_with_a_condition(autojump_clock):
    origin = Origin(always("cache-control: max-age=1", 'etag: "a"'))
    cache = cache_before(origin)
    for _ in range(3):
        await cache.send(post(b"q"), namespace="me")
        await trio.sleep(1)
    assert [request.headers for _, request in origin.asked] == [()] * 3


# --- stale -----------------------------------------------------------------------------------------------------------

BEHIND = "cache-control: max-age=10, stale-while-revalidate=20"


async def test_the_window_of_stale_while_revalidate_is_exact(autojump_clock):
    for seconds, asked in ((9.5, []), (10.0, [10.0]), (30.0, [30.0])):
        origin = Origin(always(BEHIND), delay=0.0)
        cache = cache_before(origin)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(cache.run)
            await cache.send(get(), namespace="me")
            await trio.sleep(seconds)
            origin.delay = 1.0
            answer = await cache.send(get(), namespace="me")
            assert answer.age == seconds
            assert trio.current_time() - began == seconds
            await trio.sleep(1)
            assert [at - began for at, _ in origin.asked[1:]] == asked
            assert (await cache.send(get(), namespace="me")).age == (1.0 if asked else seconds + 1)
            nursery.cancel_scope.cancel()


async def test_beyond_the_window_who_asks_waits(autojump_clock):
    origin = Origin(always(BEHIND), delay=1.0)
    cache = cache_before(origin)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        await cache.send(get(), namespace="me")
        await trio.sleep(30)
        assert (await cache.send(get(), namespace="me")).age == 1.0
        assert trio.current_time() == 32.0
        nursery.cancel_scope.cancel()


async def test_without_the_background_task_who_asks_waits_in_the_window_too(autojump_clock):
    origin = Origin(Turns(response(BEHIND), SourceError("down"), response(BEHIND, body=b"new")), delay=1.0)
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    await trio.sleep(14)
    assert (await cache.send(get(), namespace="me")).age == 16.0  # the origin failed, and the window allows it
    assert (await cache.send(get(), namespace="me")).body == b"new"
    assert (cache.statistics().stale, cache.statistics().failures) == (1, 1)


async def test_it_revalidates_once_whoever_asks_and_those_beyond_the_window_join(autojump_clock):
    origin = Origin(always(BEHIND), delay=1.0)
    cache = cache_before(origin)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        await cache.send(get(), namespace="me")
        await trio.sleep(28.5)
        stale = await gather(*[asking(cache, get())] * 100)
        assert {answer.age for answer in stale} == {29.5}
        await wait_all_tasks_blocked()
        origin.delay = 5.0
        await trio.sleep(0.75)
        joined = await gather(*[asking(cache, get())] * 100)
        assert {answer.age for answer in joined} == {1.0}
        assert len(origin.asked) == 2
        statistics = cache.statistics()
        assert (statistics.stale, statistics.coalesced, statistics.revalidations) == (100, 100, 1)
        nursery.cancel_scope.cancel()


async def test_no_more_revalidations_than_may_be_and_the_rest_is_served(autojump_clock):
    origin = Origin(always(BEHIND))
    cache = cache_before(origin, revalidations=3)
    paths = [f"/{number}" for number in range(50)]
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        for path in paths:
            await cache.send(get(path), namespace="me")
        await trio.sleep(15)
        origin.delay = 1.0
        answers = await gather(*(asking(cache, get(path)) for path in paths * 3))
        assert {answer.age for answer in answers} == {15.0}
        assert trio.current_time() == 15.0
        await wait_all_tasks_blocked()
        assert len(origin.asked) == 50 + 3
        assert cache.statistics().skipped == 150 - 9
        await trio.sleep(1)
        assert cache.statistics().revalidations == 3
        await gather(*(asking(cache, get(path)) for path in paths))
        await wait_all_tasks_blocked()
        assert len(origin.asked) == 50 + 6
        nursery.cancel_scope.cancel()


async def test_a_failed_revalidation_costs_nobody_an_answer_and_is_tried_again(autojump_clock):
    origin = Origin(Turns(response(BEHIND), SourceError("down"), response(status=503), response(BEHIND, body=b"new")))
    cache = cache_before(origin)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        await cache.send(get(), namespace="me")
        await trio.sleep(11)
        for _ in range(3):
            assert (await cache.send(get(), namespace="me")).body == b"body"
            await wait_all_tasks_blocked()
        assert (await cache.send(get(), namespace="me")).body == b"new"
        assert cache.statistics().failures == 2
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_background_task_leaves_nobody_waiting(autojump_clock):
    origin = Origin(always(BEHIND))
    cache = cache_before(origin, revalidations=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        for path in ("/a", "/b"):
            await cache.send(get(path), namespace="me")
        await trio.sleep(29)
        origin.delay = 5.0
        await cache.send(get("/a"), namespace="me")  # one is under way
        await wait_all_tasks_blocked()
        await cache.send(get("/b"), namespace="me")  # and one was handed over, no more
        nursery.cancel_scope.cancel()
    await trio.sleep(3)
    answers = await gather(asking(cache, get("/a")), asking(cache, get("/b")))
    assert {answer.age for answer in answers} == {5.0}
    assert not cache._flights
    assert cache._behind == 0


async def test_what_was_handed_over_when_the_background_task_ends_is_free_to_be_asked_again(tmp_path, autojump_clock):
    origin, store = Origin(always(BEHIND)), FileStore(ResponseFile(tmp_path / "r.db", MIB))
    cache = ResponseCache(origin.send, store, wall=wall)
    await cache.send(get(), namespace="me")
    await trio.sleep(15)

    class AskThenCancel:
        def started(self, value=None):
            with pytest.raises(StopIteration):
                cache.send(get(), namespace="me").send(None)  # at once: nobody has taken it on yet
            assert cache._flights
            scope.cancel()

    with trio.CancelScope() as scope:
        await cache.run(task_status=AskThenCancel())
    assert (len(origin.asked), cache._flights, cache._behind) == (1, {}, 0)
    assert (await cache.send(get(), namespace="me")).age == 0.0
    await store.aclose()


async def test_one_task_in_the_background_at_a_time_and_another_one_after_it(autojump_clock):
    cache = cache_before(Origin(always()))
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(cache.run)
            with pytest.raises(RuntimeError):
                await cache.run()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "failure", [SourceError("down"), *(response(status=status) for status in (500, 502, 503, 504))]
)
async def test_the_window_of_stale_if_error_is_exact(failure, autojump_clock):
    origin = Origin(Turns(response("cache-control: max-age=10, stale-if-error=20"), failure))
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    await trio.sleep(30)
    assert (await cache.send(get(), namespace="me")).age == 30.0
    await trio.sleep(0.001)
    [answer] = await gather(asking(cache, get()))
    assert isinstance(answer, SourceError) or answer.status >= 500
    assert (cache.statistics().stale, cache.statistics().failures) == (1, 1 + isinstance(answer, SourceError))


async def test_the_age_is_judged_when_the_failure_is_known(autojump_clock):
    origin = Origin(Turns(response("cache-control: max-age=10, stale-if-error=20"), SourceError("timeout")))
    cache = cache_before(origin)
    await cache.send(get(), namespace="me")
    await trio.sleep(25)
    origin.delay = 10.0
    with pytest.raises(SourceError):
        await cache.send(get(), namespace="me")


# --- clocks ----------------------------------------------------------------------------------------------------------


async def test_a_step_of_the_wall_clock_changes_no_age_of_what_is_stored(autojump_clock):
    step = [timedelta()]
    origin = Origin(always("cache-control: max-age=60"))
    cache = ResponseCache(origin.send, MemoryStore(MIB), wall=lambda: wall() + step[0])
    await cache.send(get(), namespace="me")
    for days in (-400, 400):
        step[0] = timedelta(days=days)
        await trio.sleep(10)
        assert (await cache.send(get(), namespace="me")).age == trio.current_time()
    assert len(origin.asked) == 1


async def test_what_was_stored_before_the_clock_was_set_back_is_validated(autojump_clock):
    origin, store = Origin(always("cache-control: max-age=1000, stale-if-error=1000")), MemoryStore(MIB)
    await ResponseCache(origin.send, store, wall=wall).send(get(), namespace="me")
    origin.answer = Turns(SourceError("down"), response())
    earlier = ResponseCache(origin.send, store, wall=lambda: BEGINNING - timedelta(days=1))
    with pytest.raises(SourceError):
        await earlier.send(get(), namespace="me")
    assert (await earlier.send(get(), namespace="me")).status == 200


async def test_retries_and_waits_before_the_request_was_sent_make_no_answer_old(autojump_clock):
    async def send(request):
        await trio.sleep(30)  # for a rate limit
        await trio.sleep(2)
        return HttpResponse(200, (("cache-control", "max-age=10"),), age=2.0)

    cache = ResponseCache(send, MemoryStore(MIB), wall=wall)
    assert (await cache.send(get(), namespace="me")).age == 2.0
    await trio.sleep(7)
    assert (await cache.send(get(), namespace="me")).age == 9.0


# --- bounds and the rest ---------------------------------------------------------------------------------------------


async def test_a_cache_of_no_bytes_keeps_and_shares_nothing_and_still_tells_ages(autojump_clock):
    origin = Origin(always("cache-control: max-age=60", "age: 5"), delay=1.0)
    cache = open_response_cache(origin.send, dataset="d", max_bytes=0, wall=wall, emit=pytest.fail)
    answers = await gather(*[asking(cache, get())] * 3)
    assert [answer.age for answer in answers] == [6.0] * 3
    assert len(origin.asked) == 3
    assert (cache.statistics().bypassed, cache.statistics().items) == (3, 0)
    await cache.aclose()


async def test_what_is_larger_than_the_bound_is_served_and_not_kept(autojump_clock):
    origin = Origin(always("cache-control: max-age=60", body=bytes(2 * MIB)))
    cache = cache_before(origin)
    for _ in range(2):
        assert len((await cache.send(get(), namespace="me")).body) == 2 * MIB
    assert len(origin.asked) == 2
    assert cache.statistics().size_bytes == 0


async def test_only_if_cached_asks_nobody(autojump_clock):
    origin = Origin(always("cache-control: max-age=60"))
    cache = cache_before(origin)
    request = get("/a", "cache-control: only-if-cached")
    assert (await cache.send(request, namespace="me")).status == 504
    await cache.send(get("/a"), namespace="me")
    assert (await cache.send(request, namespace="me")).status == 200
    assert len(origin.asked) == 1


async def test_the_fallback_is_for_answers_without_a_time(autojump_clock):
    origin = Origin(always())
    cache = open_response_cache(origin.send, dataset="d", max_bytes=MIB, fallback_ttl=10.0, wall=wall, emit=pytest.fail)
    await cache.send(get(), namespace="me")
    await trio.sleep(9.9)
    await cache.send(get(), namespace="me")
    await trio.sleep(0.1)
    await cache.send(get(), namespace="me")
    assert [at for at, _ in origin.asked] == [0.0, 10.0]


async def test_every_request_that_is_answered_is_counted_once(autojump_clock):
    origin = Origin(Turns(response("cache-control: max-age=1", 'etag: "a"'), response(status=304)))
    cache = cache_before(origin, policy=Policy())
    for seconds in (0, 0.5, 1, 0):
        await trio.sleep(seconds)
        await cache.send(get(), namespace="me")
    await cache.send(get("/a", "range: bytes=0-"), namespace="me")
    counted = cache.statistics()
    assert (counted.misses, counted.hits, counted.revalidated, counted.bypassed) == (1, 2, 1, 1)
    assert "hits=2" in repr(cache)
