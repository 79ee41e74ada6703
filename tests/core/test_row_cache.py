import math
import random
from itertools import pairwise, product

import pytest

from caraway.core import row_cache
from caraway.core.row_cache import Policy, Verdict, entry_key, judge, kept_for, silence_after, stands_in, sweeps_every
from caraway.core.row_index import Budget, Entry, Index
from caraway.core.row_shares import ALL, NOTHING, UNKNOWN, Shares, share_of
from caraway.model import Request

FRESH, STALE, EXPIRED = Verdict.FRESH, Verdict.STALE, Verdict.EXPIRED


# --- ages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "swr", "age", "verdict"),
    [
        (10, 5, 0, FRESH),
        (10, 5, 10, FRESH),
        (10, 5, 10.000001, STALE),
        (10, 5, 15, STALE),
        (10, 5, 15.000001, EXPIRED),
        (10, 0, 10.000001, EXPIRED),
        (0, 0, 0, EXPIRED),  # each query asks the source
        (0, 5, 0, STALE),
        (0, 5, 5, STALE),
        (10, 5, math.inf, EXPIRED),
        (10, 5, 10.0000000001, FRESH),  # what floats make of a sum
    ],
)
def test_an_age_is_judged_to_the_microsecond(ttl, swr, age, verdict):
    assert judge(age, Policy(ttl, swr)) is verdict


@pytest.mark.parametrize(
    ("window", "age", "served"),
    [
        (0, 10, False),
        (5, 15, True),
        (5, 15.000001, False),
        (math.inf, 1e9, True),
        (math.inf, math.inf, True),
        (5, math.inf, False),
        (5, 3, True),
    ],
)
def test_what_expired_stands_in_until_its_window_ends(window, age, served):
    assert stands_in(age, Policy(10, 0, window)) is served


@pytest.mark.parametrize(
    ("policy", "kept", "every"),
    [
        (Policy(10, 5, 0), 15, 30),
        (Policy(10, 5, 60), 70, 30),
        (Policy(100, 5, 2), 105, 100),
        (Policy(1000, 0, math.inf), math.inf, 300),
    ],
)
def test_how_long_entries_are_of_use(policy, kept, every):
    assert (kept_for(policy), sweeps_every(policy)) == (kept, every)


@pytest.mark.parametrize(("asked", "silence"), [(None, 1), (0.2, 1), (30, 30), (86_400, 300)])
def test_a_source_is_left_alone_for_as_long_as_it_asks_within_reason(asked, silence):
    assert silence_after(asked) == silence


# --- keys ------------------------------------------------------------------------------------------------------------


def test_requests_that_differ_in_anything_have_keys_of_their_own():
    texts = ("", "a", "1:", "GET", "\udcff")
    requests = [Request(*parts) for parts in [*product(texts, texts, (None, *texts), texts)]]
    keys = {entry_key(namespace, request) for namespace in ("public", "apikey:1", "") for request in requests}
    assert len(keys) == 3 * len(requests)
    assert {len(key) for key in keys} == {32}


def test_a_key_is_the_same_in_each_run():
    key = entry_key("public", Request("/a", "q=1", "body", '{"x":"y"}'))
    assert key == "aa6d3beb5cf75ef2b651a9105b30c711"


def test_only_an_explicitly_empty_post_passes_the_store_by():
    assert not row_cache.is_kept(Request(body=""))
    assert all(row_cache.is_kept(Request(body=body)) for body in (None, " ", "x"))


# --- the index -------------------------------------------------------------------------------------------------------


def entry(number, *, size=100, rows=1, fetched=0.0, namespace="public", digest=b"1"):
    return Entry(f"{number:032x}", namespace, Request(str(number)), fetched, rows, size, digest)


def test_the_least_recently_used_go_first():
    index = Index(Budget(300))
    for number in range(3):
        index.put(entry(number))
    index.use(entry(0).key)
    room = index.room_for([entry(3)])
    assert (room.stored, room.evicted, room.reasons) == ((entry(3),), (entry(1),), ("size",))


def test_the_rows_have_a_bound_of_their_own():
    index = Index(Budget(10_000, rows=5))
    index.put(entry(0, rows=3))
    index.put(entry(1, rows=2))
    room = index.room_for([entry(2, rows=1)])
    assert (room.evicted, room.reasons) == ((entry(0, rows=3),), ("items",))


def test_what_is_larger_than_the_budget_is_refused_and_evicts_nothing():
    index = Index(Budget(300, rows=5))
    index.put(entry(0))
    room = index.room_for([entry(1, size=301), entry(2, rows=6), entry(3)])
    assert (room.stored, len(room.refused), room.evicted) == ((entry(3),), 2, ())


def test_a_leased_entry_and_those_that_arrive_are_not_evicted():
    index = Index(Budget(300))
    for number in range(3):
        index.put(entry(number))
    index.lease([entry(0).key])
    index.lease([entry(0).key])
    index.release([entry(0).key])
    room = index.room_for([entry(number) for number in (1, 3, 4)])
    assert room.stored == (entry(1), entry(3))
    assert room.evicted == (entry(2),)
    assert room.refused == (entry(4),)


def test_a_replaced_entry_makes_room_for_its_successor():
    index = Index(Budget(300))
    for number in range(3):
        index.put(entry(number))
    room = index.room_for([entry(0, size=100), entry(1, size=50), entry(3, size=50)])
    assert (len(room.stored), room.evicted) == (3, ())


def test_a_budget_that_became_less_is_kept_to_without_an_arrival():
    index = Index(Budget(150))
    for number in range(3):
        index.put(entry(number))
    assert [each.request.path for each in index.room_for([]).evicted] == ["0", "1"]


def test_what_leaves_is_not_found_any_more_unless_it_stays():
    index = Index(Budget(300))
    index.put(entry(0))
    index.leave([entry(0).key])
    assert index.find(entry(0).key) is None
    assert index.holds(entry(0).key)
    assert index.room_for([entry(1, size=250)]).stored == ()
    index.stay([entry(0).key])
    assert index.find(entry(0).key) == entry(0)


def test_a_random_life_keeps_its_sums_its_ages_and_its_budget():
    for seed in range(20):
        _random_life(random.Random(seed))


def _random_life(chance):
    budget = Budget(chance.randint(500, 3000), chance.choice([None, 20]))
    index, model, order = Index(budget), {}, []
    for now in range(300):
        arriving = {
            number: entry(
                number,
                size=chance.randint(1, 600),
                rows=chance.randint(1, 6),
                fetched=now - chance.choice([0, 0, 3, math.inf]),
                namespace=f"n{number % 3}",
            )
            for number in {chance.randint(0, 40) for _ in range(chance.randint(0, 4))}
        }
        leased = {entry(number).key for number in chance.sample(range(41), 3)}
        index.lease(leased)
        room = index.room_for(list(arriving.values()))
        assert not leased & {each.key for each in room.evicted}
        assert sorted(map(repr, (*room.stored, *room.refused))) == sorted(map(repr, arriving.values()))
        for each in room.evicted:
            index.drop(each.key)
            order.remove(each.key)
            model.pop(each.key)
        for each in room.stored:
            assert index.put(each) == model.get(each.key)
            order = [key for key in order if key != each.key] + [each.key]
            model[each.key] = each
        index.release(leased)
        if order and chance.random() < 0.5:
            index.use(used := chance.choice(order))
            order = [key for key in order if key != used] + [used]
        assert list(index) == [model[key] for key in order]
        assert (index.size, index.rows) == (sum(e.size for e in model.values()), sum(e.rows for e in model.values()))
        assert index.size <= budget.size
        assert budget.rows is None or index.rows <= budget.rows
        assert index.oldest() == min((e.fetched for e in model.values()), default=None)
        for namespace in ("n0", "n1", "n2"):
            mine = [e for e in model.values() if e.namespace == namespace]
            assert index.count(namespace) == len(mine)
            assert index.oldest(namespace) == min((e.fetched for e in mine), default=None)
        before = now - 5
        old = {e.key for e in model.values() if e.fetched < before}
        assert {e.key for e in index.outlived(before, 1000)} == old
        assert len(index.outlived(before, 1)) == min(1, len(old))


def test_an_answer_that_comes_again_with_the_same_age_takes_no_memory():
    index = Index(Budget(10_000))
    for _ in range(10_000):
        index.put(entry(0, fetched=5.0))
    assert sum(map(len, index._ages.values())) < 100


# --- shares ----------------------------------------------------------------------------------------------------------

KEY = "0a" + "0" * 30
OTHER = "0b" + "0" * 30


def rises(clock, change):
    """Which parts a change makes rise."""
    before = clock.generation.parts
    change(clock)
    return [part for part, (old, new) in enumerate(zip(before, clock.generation.parts, strict=True)) if new > old]


def seen(*changes):
    clock = Shares("e", 0.0)
    for change in changes:
        change(clock)
    return clock


def stored(digest, before=None, key=KEY):
    return lambda clock: clock.stored(key, digest, before, 1.0)


def brought(digest, before=None):
    return lambda clock: clock.brought(KEY, digest, before, 1.0)


EVICTED = lambda clock: clock.evicted(KEY, b"1", 1.0)  # noqa: E731
REMOVED = lambda clock: clock.removed(KEY, 1.0)  # noqa: E731


@pytest.mark.parametrize(
    ("history", "change", "parts"),
    [
        ([], stored(b"1"), [ALL]),  # a new one
        ([stored(b"1")], stored(b"1", b"1"), []),  # the same again
        ([stored(b"1")], stored(b"2", b"1"), [10, ALL]),
        ([], stored(b"1", UNKNOWN), [10, ALL]),  # instead of what an earlier run left
        ([stored(b"1")], EVICTED, [ALL]),
        ([stored(b"1"), EVICTED], stored(b"1"), [ALL]),  # back as it was
        ([stored(b"1"), EVICTED], stored(b"2"), [10, ALL]),
        ([stored(b"1")], REMOVED, [10, ALL]),
        ([stored(b"1"), REMOVED], stored(b"2"), [ALL]),
        ([], brought(NOTHING), []),
        ([brought(NOTHING)], brought(NOTHING), []),
        ([brought(NOTHING)], stored(b"1"), [10, ALL]),
        ([brought(b"1")], brought(b"1"), []),  # not stored
        ([brought(b"1")], brought(b"2"), [10]),
        ([stored(b"1")], brought(b"2", b"1"), [10]),
        ([stored(b"1"), brought(b"2", b"1")], brought(b"2", b"1"), []),
        ([stored(b"1"), brought(b"2", b"1")], stored(b"2", b"1"), [ALL]),
    ],
)
def test_which_shares_a_change_is_told_of(history, change, parts):
    assert rises(seen(*history), change) == parts


def test_what_is_forgotten_counts_as_changed():
    clock = Shares("e", 0.0, ghosts=1)
    clock.evicted(KEY, b"1", 1.0)
    assert rises(clock, lambda clock: clock.evicted(OTHER, b"2", 2.0)) == [10, ALL]
    assert rises(clock, stored(b"3", key=KEY)) == [ALL]


def test_the_time_of_a_change_is_no_part_of_the_comparison():
    clock = seen(stored(b"1"))
    assert clock.generation.changed_at == 1.0
    assert [share_of(key) for key in (KEY, OTHER, "ff" + "0" * 30)] == [10, 11, 255]
    generations = [clock.generation for change in (stored(b"1", b"1"), stored(b"2", b"1")) if change(clock) is None]
    assert [old == new for old, new in pairwise([seen(stored(b"1")).generation, *generations])] == [True, False]
