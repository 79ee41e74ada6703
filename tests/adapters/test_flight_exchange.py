"""DoExchange: what subscribers of a dataset are told, and how a subscription ends."""

import json
import random
from dataclasses import replace

import grpc
import pyarrow as pa
import pytest
import trio
import trio.lowlevel

from caraway.core.stream_words import Wish, write_wish
from caraway.errors import StoreError
from caraway.flight.codec import HeaderKind, decode, encode, header_kind
from caraway.flight.flight_pb2 import FlightDescriptor
from caraway.island import open_island
from caraway.model import Append, Delete, Phase, Position, TableSpec, Truncate
from support.fake_log import FakeLog
from support.fake_services import dataset
from support.flight import sample_table
from support.flight_streams import (
    NOTHING,
    SCHEMA,
    SPEC,
    Ended,
    accelerated,
    call,
    channel,
    ending,
    opening,
    path,
    rows,
    serve,
    subscribed,
    until_true,
)

CODE = grpc.StatusCode
BOUND = 10.0
BEAT = 0.05
NESTED = ["kind", "tags", "point", "pairs", "nothing"]
WISH = opening("t", app_metadata=write_wish(Wish(heartbeat=BEAT)))


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def table():
    made = accelerated("t")
    made.log.value.append(rows(1, 2), rows(3))
    return made


@pytest.fixture
async def served(island, table):
    async with trio.open_nursery() as nursery:
        yield await serve(nursery, island, table)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def connection(served):
    async with channel(served) as opened:
        yield opened


def resuming(epoch, offset):
    return opening("t", app_metadata=write_wish(Wish(Position(epoch, offset), BEAT)))


async def until(told, *phases):
    """The arrivals up to the first of one of these phases."""
    found = []
    with trio.fail_after(BOUND):
        async for arrival in told:
            found.append(arrival)
            if arrival.phase in phases:
                break
    return found


async def news(told, last):
    """The ids of live rows, up to the one that ends with `last`."""
    found = []
    while not found or found[-1] != last:
        found += ids(await until(told, Phase.LIVE))
    return found


def ids(found):
    changes = [change for arrival in found for change in arrival.changes if isinstance(change, Append)]
    return [each for change in changes for each in change.rows["id"].to_pylist()]


async def gone(served, *logs):
    """Until nothing is left of any subscription."""
    await until_true(lambda: not served.server.statistics().subscriptions and not any(log.reading for log in logs))


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_a_copy_then_news(served, connection, table):
    async with subscribed(served, connection, WISH) as told:
        copy = await until(told, Phase.SNAPSHOT_END)
        assert copy[0].changes == (Truncate(),)
        assert ids(copy) == [1, 2, 3]
        assert [arrival.cursor for arrival in copy] == [None, None, '{"epoch":"epoch-1","offset":3}']
        table.log.value.append(rows(4))
        *_, live = await until(told, Phase.LIVE)
        assert ids([live]) == [4]
        assert live.cursor == '{"epoch":"epoch-1","offset":4}'
        assert live.mark.end == Position("epoch-1", 4)
        *_, beat = await until(told, Phase.HEARTBEAT)
        assert beat.cursor == live.cursor
        assert served.server.statistics().subscriptions == 1
        assert served.server.statistics().updates_sent == 3


async def test_who_knows_a_place_is_told_what_came_after_it(served, connection, table):
    table.log.value.append(rows(4, 5))
    async with subscribed(served, connection, resuming("epoch-1", 2)) as told:
        assert await news(told, 5) == [3, 4, 5]
    async with subscribed(served, connection, resuming("epoch-1", 5)) as told:
        (beat,) = await until(told, Phase.HEARTBEAT)
        assert beat.cursor == '{"epoch":"epoch-1","offset":5}'


@pytest.mark.parametrize("place", [("epoch-0", 2), ("epoch-1", 1), ("epoch-1", 99)])
async def test_an_unknown_place_means_a_copy(served, connection, table, place):
    table.log.value.retained = 2
    async with subscribed(served, connection, resuming(*place)) as told:
        assert ids(await until(told, Phase.SNAPSHOT_END)) == [1, 2, 3]


async def test_a_new_epoch_means_a_copy(served, connection, table):
    async with subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
        table.log.value.replace("epoch-2", rows(7, 8))
        found = [arrival for arrival in await until(told, Phase.SNAPSHOT_END) if arrival.changes]
        assert found[0].changes == (Truncate(),)
        assert ids(found) == [7, 8]


@pytest.mark.parametrize("strict", [False, True])
async def test_deletes_by_key_have_the_schema_of_the_table(island, nursery, strict):
    """Only the key counts; pyarrow's client takes no second schema."""
    schema = pa.schema([field.with_nullable(not strict) for field in sample_table(1).drop_columns(NESTED).schema])
    table = accelerated("t", TableSpec("t", schema, primary_key=("id",)))
    served = await serve(nursery, island, table)
    async with channel(served) as connection:
        async with subscribed(served, connection, WISH) as told:
            await until(told, Phase.SNAPSHOT_END)
            table.log.value.delete(rows(7, 8).select(["id"]))
            *_, live = await until(told, Phase.LIVE)
            (change,) = live.changes
            assert isinstance(change, Delete)
            assert change.keys["id"].to_pylist() == [7, 8]
            assert live.cursor == '{"epoch":"epoch-1","offset":1}'
        async with call(served, connection, "DoExchange", resuming("epoch-1", 0)) as messages:
            with trio.fail_after(BOUND):
                kinds = [header_kind(decode(await anext(messages)).header) for _ in range(2)]
            assert kinds == [HeaderKind.SCHEMA, HeaderKind.RECORD_BATCH]
    nursery.cancel_scope.cancel()


async def test_deletes_that_cannot_have_it(island, nursery):
    schema = pa.schema([SCHEMA.field("id"), pa.field("tags", pa.list_(pa.string()), nullable=False)])
    table = accelerated("t", TableSpec("t", schema, primary_key=("id",)))
    served = await serve(nursery, island, table)
    async with channel(served) as connection, subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
        table.log.value.delete(rows(7).select(["id"]))
        *_, live = await until(told, Phase.LIVE)
        assert live.changes[0].keys.to_pylist() == [{"id": 7}]
    nursery.cancel_scope.cancel()


async def test_a_client_without_our_words_gets_rows_alone(served, connection, table):
    async with call(served, connection, "DoExchange", opening("t")) as messages:
        kinds = []
        with trio.fail_after(BOUND):
            async for message in messages:
                data = decode(message)
                kinds.append(header_kind(data.header))
                assert data.app_metadata == b""
                if len(kinds) == 3:
                    table.log.value.append(rows(4))
                if len(kinds) == 4:
                    break
    assert kinds == [HeaderKind.SCHEMA] + [HeaderKind.RECORD_BATCH] * 3


async def test_a_large_commit_comes_in_pieces_and_counts_as_one(served, connection, table):
    log, many = table.log.value, 200_000
    async with subscribed(served, connection, resuming("epoch-1", 3)) as told:
        await until(told, Phase.HEARTBEAT)
        log.append(rows(*range(many)))
        *_, live = await until(told, Phase.LIVE)
        assert ids([live]) == list(range(many))
        assert live.cursor == f'{{"epoch":"epoch-1","offset":{many + 3}}}'
    async with call(served, connection, "DoExchange", resuming("epoch-1", 3)) as messages:
        words, size = [], 0
        with trio.fail_after(BOUND):
            async for message in messages:
                data = decode(message)
                size = max(size, len(message))
                words.append(json.loads(data.app_metadata)["caraway"])
                if "offset" in words[-1]:
                    break
    assert len(words) > 5
    assert {word["phase"] for word in words} == {"live"}
    assert size < 1024**2


async def test_a_dataset_that_is_not_loaded_yet(island, nursery):
    table = accelerated("t", log=False)
    served = await serve(nursery, island, table)
    async with channel(served) as connection, subscribed(served, connection, WISH) as told:
        assert all(arrival.mark is None for arrival in await until(told, Phase.HEARTBEAT))
        log = FakeLog(SPEC, loaded=False)
        table.log.publish(log)
        assert all(arrival.mark is None for arrival in await until(told, Phase.HEARTBEAT))
        log.replace("epoch-9", rows(5))
        assert ids(await until(told, Phase.SNAPSHOT_END)) == [5]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reference", [("t",), ("T",), ("public.t",), ("spice", "public", "t"), ('"t"',)])
async def test_names_as_sql_has_them(served, connection, reference):
    first = opening(*reference, app_metadata=write_wish(Wish()))
    async with subscribed(served, connection, first) as told:
        assert ids(await until(told, Phase.SNAPSHOT_END)) == [1, 2, 3]


async def test_every_type_arrives(island, nursery):
    sample = sample_table(5000).combine_chunks().to_batches()[0]
    table = accelerated("t", TableSpec("t", sample.schema))
    table.log.value.append(sample)
    served = await serve(nursery, island, table)
    async with channel(served) as connection, subscribed(served, connection, WISH) as told:
        copy = await until(told, Phase.SNAPSHOT_END)
        batches = [change.rows for arrival in copy for change in arrival.changes if isinstance(change, Append)]
        assert pa.Table.from_batches(batches).equals(pa.table(sample))
    nursery.cancel_scope.cancel()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (None, "before its first message"),
        (b"\xff\xff\xff", "not FlightData"),
        (b"", "no descriptor"),
        (encode(NOTHING, app_metadata=b"x"), "no descriptor"),
        (encode(NOTHING, descriptor=b"\xff"), "can't be read"),
        (encode(NOTHING, descriptor=FlightDescriptor(type="CMD", cmd=b"t").SerializeToString()), "type PATH"),
        (encode(NOTHING, descriptor=FlightDescriptor(path=["t"]).SerializeToString()), "type PATH"),
        (encode(NOTHING, descriptor=path()), "path is empty"),
        (opening("x"), "There is no dataset 'x'"),
        (opening("plane"), "did you mean 'plain'?"),
        (opening("other.public.t"), "There is no dataset"),
        (opening("a b"), "not an identifier"),
        (opening("v"), "v is a view"),
        (opening("plain"), "Dataset plain is not accelerated"),
    ],
)
async def test_what_is_refused(island, nursery, table, first, said):
    served = await serve(nursery, island, table, dataset("plain", accelerated=False), views={"v"})
    messages = () if first is None else (first,)
    async with channel(served) as connection, call(served, connection, "DoExchange", *messages) as told:
        ended = await ending(told)
    assert ended.code is CODE.INVALID_ARGUMENT
    assert said in ended.details
    assert served.finished() == [("DoExchange", "INVALID_ARGUMENT")]
    nursery.cancel_scope.cancel()


async def test_who_may_subscribe(island, nursery, table):
    served = await serve(nursery, island, table, keys=("reader",))
    async with channel(served) as connection:
        async with subscribed(served, connection) as told:
            assert (await ending(told)).code is CODE.UNAUTHENTICATED
        async with subscribed(served, connection, metadata=(("authorization", "Bearer other"),)) as told:
            assert (await ending(told)).code is CODE.UNAUTHENTICATED
        async with subscribed(served, connection, WISH, metadata=(("authorization", "Bearer reader"),)) as told:
            assert ids(await until(told, Phase.SNAPSHOT_END)) == [1, 2, 3]
    nursery.cancel_scope.cancel()


async def test_whoever_says_nothing_is_sent_away(island, nursery, table):
    served = await serve(nursery, island, table, opening=0.05)
    async with channel(served) as connection, call(served, connection, "DoExchange", half_close=False) as told:
        assert (await ending(told)).code is CODE.INVALID_ARGUMENT
    nursery.cancel_scope.cancel()


async def test_there_are_only_so_many(island, nursery, table):
    served = await serve(nursery, island, table, subscriptions=2)
    async with channel(served) as connection:
        async with subscribed(served, connection, WISH) as one, subscribed(served, connection, WISH) as two:
            await until(one, Phase.SNAPSHOT_END)
            await until(two, Phase.SNAPSHOT_END)
            async with subscribed(served, connection, WISH) as three:
                ended = await ending(three)
            assert (ended.code, "2 subscriptions" in ended.details) == (CODE.RESOURCE_EXHAUSTED, True)
        await gone(served)
        async with subscribed(served, connection, WISH) as told:
            await until(told, Phase.SNAPSHOT_END)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_nonsense_is_refused_and_nothing_breaks(served, connection, table, seed):
    chance = random.Random(seed)
    for _ in range(40):
        first = bytearray(chance.choice([WISH, resuming("epoch-1", 2), chance.randbytes(chance.randrange(60))]))
        for _ in range(chance.randrange(4)):
            if first:
                first[chance.randrange(len(first))] = chance.randrange(256)
        async with call(served, connection, "DoExchange", bytes(first)) as told:
            with trio.fail_after(BOUND):
                assert await refusal(told) in {None, CODE.INVALID_ARGUMENT}
    assert served.crashes() == []
    await gone(served, table.log.value)


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_a_closed_log_ends_the_stream(served, connection, table):
    async with subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
        table.log.value.close()
        ended = await ending(told)
    assert ended.code is CODE.UNAVAILABLE
    assert ended.trailers["spiceai-retryable"] == "1"
    assert "reloaded or removed" in ended.details


async def test_a_replaced_log_ends_the_stream(served, connection, table):
    async with subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
        table.log.publish(FakeLog(replace(SPEC, primary_key=("id",))))
        assert (await ending(told)).code is CODE.UNAVAILABLE


async def test_a_log_that_cannot_be_read_ends_the_stream(served, connection, table):
    table.log.value.fails = StoreError("The disk is full of holes.")
    async with subscribed(served, connection, WISH) as told:
        ended = await ending(told)
    assert ended.code is CODE.UNAVAILABLE
    assert "full of holes" in ended.details


async def test_draining_ends_subscriptions_at_once(island, table):
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        served = await serve(nursery, island, table)
        async with channel(served) as connection, subscribed(served, connection, WISH) as told:
            await until(told, Phase.SNAPSHOT_END)
            served.server.drain(60.0)
            ended = await ending(told)
    assert (ended.code, "stopping" in ended.details) == (CODE.UNAVAILABLE, True)
    assert trio.current_time() - began < BOUND
    assert served.finished() == [("DoExchange", "UNAVAILABLE")]


async def test_draining_waits_for_no_stalled_subscriber(island):
    table, began = big_table(), trio.current_time()
    async with trio.open_nursery() as nursery:
        served = await serve(nursery, island, table)
        async with channel(served) as connection, call(served, connection, "DoExchange", WISH, budget=1) as told:
            await anext(told)
            await stalled(served)
            served.server.drain(60.0)
            await until_true(lambda: not table.log.value.reading)
    assert trio.current_time() - began < BOUND


def big_table(name="t"):
    """More than any buffer on the way takes."""
    table = accelerated(name)
    table.log.value.append(*[rows(*range(20_000))] * 400)
    return table


async def stalled(served):
    """Until no more goes out."""
    seen = [-1, 0]

    def still():
        seen.append(served.server.statistics().updates_sent)
        return len(seen) > 50 and seen[-40] == seen[-1]

    await until_true(still)


async def refusal(told):
    """The status of a stream that ends before its first message."""
    try:
        await anext(told)
    except Ended as ended:
        return ended.code


async def test_who_takes_nothing_is_ended_and_holds_nothing(island, nursery):
    table = big_table()
    served = await serve(nursery, island, table, taking=0.3)
    async with channel(served) as connection, call(served, connection, "DoExchange", WISH, budget=1) as told:
        await anext(told)
        await until_true(lambda: not served.server.statistics().subscriptions)
        assert table.log.value.reading == 0
        ended = await ending(told)
    assert ended.code is CODE.DEADLINE_EXCEEDED
    assert "Nothing was taken" in ended.details
    nursery.cancel_scope.cancel()


# --- who leaves ------------------------------------------------------------------------------------------------------


async def test_a_subscriber_that_leaves_leaves_nothing_behind(served, connection, table):
    async with subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
    await gone(served, table.log.value)
    assert served.finished() == [("DoExchange", "CANCELLED")]


async def test_one_that_leaves_amid_a_copy(island, nursery):
    table = big_table()
    served = await serve(nursery, island, table)
    async with channel(served) as connection:
        async with call(served, connection, "DoExchange", WISH, budget=1) as told:
            await anext(told)
            assert table.log.value.reading == 1
        await gone(served, table.log.value)
    nursery.cancel_scope.cancel()


async def test_one_whose_connection_goes(served, table):
    async with channel(served) as connection, subscribed(served, connection, WISH) as told:
        await until(told, Phase.SNAPSHOT_END)
        await served.island.run(connection.close)
        await gone(served, table.log.value)


async def test_a_thousand_that_come_and_go(served, table):
    async def come_and_go(connection, chance):
        first = chance.choice([WISH, resuming("epoch-1", 3), opening("t"), opening("no")])
        with trio.move_on_after(chance.choice([0.0, 0.01, 0.1, BOUND])):
            async with call(served, connection, "DoExchange", first, half_close=chance.random() < 0.5) as told:
                assert await refusal(told) in {None, CODE.INVALID_ARGUMENT}

    chance = random.Random(1)
    async with channel(served) as connection:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(come_and_go, connection, chance)
        await gone(served, table.log.value)
    assert served.crashes() == []


# --- many ------------------------------------------------------------------------------------------------------------


async def test_two_hundred_and_one_that_stalls(island, nursery):
    """Each is told all in order, what is packed is packed once for all, and the one that stalls is in nobody's way."""
    log = big_table().log.value
    table = accelerated("t")
    table.log.value.append(rows(0))
    stuck = accelerated("stuck")
    stuck.log.publish(log)
    served = await serve(nursery, island, table, stuck)
    done = 0
    ready = trio.Event()

    async def follow(connection):
        nonlocal done
        async with subscribed(served, connection, resuming("epoch-1", 1)) as told:
            await until(told, Phase.HEARTBEAT)
            done += 1
            if done == 200:
                ready.set()
            assert await news(told, 50) == list(range(1, 51))

    async with (
        channel(served) as stalling,
        call(served, stalling, "DoExchange", opening("stuck"), budget=1) as never_taken,
        channel(served) as connection,
    ):
        await anext(never_taken)
        await stalled(served)
        before = served.server.statistics().updates_sent
        async with trio.open_nursery() as followers:
            for _ in range(200):
                followers.start_soon(follow, connection)
            with trio.fail_after(BOUND):
                await ready.wait()
            packed = served.server._subscriptions._packs.packed
            for number in range(1, 51):
                table.log.value.append(rows(number))
                await trio.lowlevel.checkpoint()
        sent = served.server.statistics().updates_sent - before
        assert sent >= 200
        assert served.server._subscriptions._packs.packed - packed <= sent / 10
        assert log.reading == 1
    nursery.cancel_scope.cancel()


async def test_small_commits_come_together_and_large_ones_alone(served, connection, table):
    log = table.log.value
    async with subscribed(served, connection, resuming("epoch-1", 3)) as told:
        await until(told, Phase.HEARTBEAT)
        log.append(*[rows(number) for number in range(1000)], rows(*range(20_000)), rows(1), rows(2))
        found = [await until(told, Phase.LIVE) for _ in range(3)]
    assert [len(ids(each)) for each in found] == [1000, 20_000, 2]
    assert ids(found[0]) == list(range(1000))


async def test_no_key_is_twice_in_a_batch_for_a_stranger(island, nursery):
    table = accelerated("t", TableSpec("t", SCHEMA, primary_key=("id",)))
    served = await serve(nursery, island, table)
    async with channel(served) as connection:
        for first, batches in ((opening("t"), [1, 1]), (WISH, [2])):
            table.log.value.replace("epoch-1", rows(1), rows(1))
            async with subscribed(served, connection, first) as told:
                with trio.fail_after(BOUND):
                    found = [await anext(told) for _ in range(1 + len(batches))]
            assert [len(ids([arrival])) for arrival in found] == [0, *batches]
    nursery.cancel_scope.cancel()
