"""DoPut: what clients bring becomes durable, in order, and is told so; everything else is refused."""

import asyncio
import json
import random
import struct
from functools import partial

import grpc
import pyarrow as pa
import pytest
import trio
from google.protobuf.any_pb2 import Any as AnyMessage

from caraway.config.model import FlightLimits
from caraway.errors import QueryError, QueryFailure, StoreError, ViolationError
from caraway.flight.codec import encode
from caraway.flight.flight_pb2 import CommandStatementIngest, FlightDescriptor, PutResult
from caraway.island import Outlet, Pipe, open_island
from caraway.model import Principal, TableSpec
from caraway.servers.flight.gate import Gate
from caraway.servers.flight.ingest import Ingest
from caraway.servers.flight.put import Put, Totals, read_message
from caraway.servers.flight.status import RefusalError
from caraway.servers.flight.stopping import Stopping
from caraway.servers.flight.streams import put_idle_seconds
from caraway.servers.flight.tables import Tables
from support.fake_services import dataset
from support.flight import sample_table
from support.flight_streams import (
    NOTHING,
    SCHEMA,
    Ended,
    call,
    channel,
    ending,
    path,
    put_messages,
    rows,
    serve,
    until_true,
    writable,
)

CODE = grpc.StatusCode
BOUND = 10.0
ACK = b'{"caraway":{"ack":true}}'
LOST = "Internal error from Core"
KEEPALIVE = encode(NOTHING, app_metadata=b"spice-keepalive")


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


@pytest.fixture
async def table():
    return writable()


@pytest.fixture
async def served(island, table):
    async with trio.open_nursery() as nursery:
        yield await serve(nursery, island, table)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def connection(served):
    async with channel(served) as opened:
        yield opened


def told(reply):
    """What a PutResult says; None for an empty one."""
    metadata = PutResult.FromString(reply).app_metadata
    return json.loads(metadata)["caraway"] if metadata else None


async def put(served, connection, *messages, **options):
    """The replies of a DoPut that goes well."""
    with trio.fail_after(BOUND):
        async with call(served, connection, "DoPut", *messages, **options) as replies:
            return [told(reply) async for reply in replies]


async def refused(served, connection, *messages, **options):
    """How a DoPut ends that does not.

    The client of grpc.aio forgets what the server said if it still has a message to send when the call ends.
    """
    for _ in range(50):
        async with call(served, connection, "DoPut", *messages, **options) as replies:
            ended = await ending(replies)
        if ended.details != LOST:
            break
    return ended


def command(message):
    return FlightDescriptor(type=FlightDescriptor.CMD, cmd=message).SerializeToString()


def any_of(name, message=b""):
    return AnyMessage(
        type_url=f"type.googleapis.com/arrow.flight.protocol.sql.{name}", value=message
    ).SerializeToString()


def ingest(**fields):
    return command(any_of("CommandStatementIngest", CommandStatementIngest(**fields).SerializeToString()))


# --- what arrives ----------------------------------------------------------------------------------------------------


async def test_rows_become_durable_and_are_told(served, connection, table):
    replies = await put(served, connection, *put_messages(rows(1, 2), rows(3)))
    assert replies == [None, {"epoch": "epoch-1", "offset": 3, "rows": 3}]
    assert table.rows["id"].to_pylist() == [1, 2, 3]
    assert served.finished() == [("DoPut", "OK")]
    statistics = served.server.statistics()
    assert statistics.rows_put == {"t": 3}
    assert statistics.bytes_put == {"t": table.rows.nbytes}


async def test_a_schema_alone_writes_nothing(served, connection, table):
    assert await put(served, connection, *put_messages(rows())[:1]) == [{"rows": 0}]
    assert await put(served, connection, *put_messages(rows())) == [{"rows": 0}]
    assert table.writes == []


@pytest.mark.parametrize(
    "descriptor",
    [
        path("t"), path("public.t"), path("spice", "public", "t"), path("T"),
        ingest(table="t"), ingest(table="t", schema="public", catalog="spice"),
        FlightDescriptor(cmd=command(any_of("CommandStatementIngest")), path=["t"]).SerializeToString(),
    ],
)  # fmt: skip
async def test_how_a_table_is_named(served, connection, table, descriptor):
    await put(served, connection, *put_messages(rows(1), descriptor=descriptor))
    assert table.rows["id"].to_pylist() == [1]


async def test_what_comes_while_a_write_runs_is_written_together(island, nursery, table):
    there, table.hold = asyncio.Event(), trio.Event()
    stopping, replies = Stopping(), Pipe(100)
    calls = Ingest(Tables({"t": table}), Gate(Open()), stopping, limit=None, idle=BOUND)

    async def bring(outlet):
        for message in put_messages(*[rows(number) for number in range(100)]):
            await outlet.put(message)
        there.set()
        await asyncio.Event().wait()

    async with island.stream(bring, budget=200) as messages:
        nursery.start_soon(calls.put, Outlet(replies, island.here), messages, {})
        await until_true(lambda: table.writing)
        await island.run(there.wait)
        table.hold.set()
        await until_true(lambda: calls.totals.rows["t"] == 100)
        nursery.cancel_scope.cancel()
    assert table.rows["id"].to_pylist() == list(range(100))
    assert len(table.writes) <= 2


class Open:
    required = False

    def admit(self, key):
        return Principal(write=True)


@pytest.mark.parametrize("seed", range(3))
async def test_rows_stay_in_order(served, connection, table, seed):
    chance, expected, batches = random.Random(seed), [], []
    while len(expected) < 60_000:
        ids = range(len(expected), len(expected) + chance.choice([0, 1, 7, 500, 20_000]))
        expected += ids
        batches.append(rows(*ids))
    replies = await put(served, connection, *put_messages(*batches))
    assert replies[-1]["rows"] == len(expected)
    assert table.rows["id"].to_pylist() == expected


async def test_an_acknowledgement_comes_once_it_is_durable(served, connection, table):
    table.hold = trio.Event()
    first, batch = put_messages(rows(1, 2), app_metadata=ACK)
    async with call(served, connection, "DoPut", first, batch, half_close=False) as replies:
        assert told(await anext(replies)) is None
        await until_true(lambda: table.writing)
        with trio.move_on_after(0.05) as scope:
            await anext(replies)
        assert scope.cancelled_caught
        table.hold.set()
        with trio.fail_after(BOUND):
            assert told(await anext(replies)) == {"epoch": "epoch-1", "offset": 2, "rows": 2}


async def test_each_acknowledgement_that_is_asked_for_comes(served, connection):
    bare = encode(NOTHING, app_metadata=ACK)
    replies = await put(served, connection, *put_messages(rows(1), rows(2), rows(3), app_metadata=ACK), bare)
    assert len(replies) == 1 + 4 + 1
    assert replies[-1] == replies[-2] == {"epoch": "epoch-1", "offset": 3, "rows": 3}


async def test_other_metadata_is_the_clients_own_affair(served, connection, table):
    for metadata in (b"x", b"{}", b'{"caraway":1}', b'{"caraway":{"ack":1}}', b"[" * 5000, b"\xff"):
        assert len(await put(served, connection, *put_messages(rows(1), app_metadata=metadata))) == 2
    assert table.rows.num_rows == 6


async def test_signs_of_life_are_no_rows(served, connection, table):
    first, batch = put_messages(rows(1))
    assert len(await put(served, connection, first, KEEPALIVE, batch, KEEPALIVE)) == 2
    assert table.rows.num_rows == 1


async def test_every_type_arrives(island, nursery):
    sample = sample_table(3000).combine_chunks().to_batches()[0]
    table = writable(spec=TableSpec("t", sample.schema))
    served = await serve(nursery, island, table)
    async with channel(served) as connection:
        await put(served, connection, *put_messages(sample, sample.slice(5, 100)))
        await put(served, connection, *put_messages(sample, options=pa.ipc.IpcWriteOptions(compression="zstd")))
    assert table.rows.equals(pa.Table.from_batches([sample, sample.slice(5, 100), sample]))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
)
async def test_text_may_be_laid_out_otherwise(served, connection, table, kind):
    batch = pa.record_batch({"id": pa.array([1, 2]), "name": pa.array(["a", "b"]).cast(kind)})
    await put(served, connection, *put_messages(batch))
    assert table.rows.to_pylist() == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    assert table.rows.schema.equals(SCHEMA)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "code", "said"),
    [
        ([], CODE.INVALID_ARGUMENT, "ended before its first message"),
        ([b"\xff\xff"], CODE.INVALID_ARGUMENT, "not FlightData"),
        ([encode(NOTHING)], CODE.INVALID_ARGUMENT, "no descriptor"),
        (put_messages(rows(1), descriptor=b"\xff"), CODE.INVALID_ARGUMENT, "can't be read"),
        (put_messages(rows(1), descriptor=path()), CODE.INVALID_ARGUMENT, "path is empty"),
        (put_messages(rows(1), descriptor=path("")), CODE.INVALID_ARGUMENT, "path is empty"),
        (put_messages(rows(1), descriptor=path("x")), CODE.INVALID_ARGUMENT, "Path doesn't exist or is not writable"),
        (put_messages(rows(1), descriptor=path("v")), CODE.INVALID_ARGUMENT, "Path doesn't exist or is not writable"),
        (put_messages(rows(1), descriptor=path("fixed")), CODE.INVALID_ARGUMENT, "access: read_write"),
        (put_messages(rows(1), descriptor=command(b"t")), CODE.UNIMPLEMENTED, "a command is not implemented"),
        (
            put_messages(rows(1), descriptor=command(any_of("CommandPreparedStatementQuery"))),
            CODE.UNIMPLEMENTED,
            "CommandPreparedStatementQuery is not implemented",
        ),
        (put_messages(rows(1), descriptor=command(any_of("CommandStatementUpdate"))), CODE.UNIMPLEMENTED, "Update"),
        (
            put_messages(rows(1), descriptor=command(any_of("CommandStatementIngest", b"\xff"))),
            CODE.INVALID_ARGUMENT,
            "CommandStatementIngest can't be read",
        ),
        ([encode(NOTHING, descriptor=path("t"))], CODE.INVALID_ARGUMENT, "has no schema"),
        ([put_messages(rows(1))[0], encode(NOTHING)], CODE.INVALID_ARGUMENT, "holds none"),
        ([put_messages(rows(1))[0], encode(NOTHING, app_metadata=b"?")], CODE.INVALID_ARGUMENT, "holds none"),
        (put_messages(rows(1)) * 2, CODE.INVALID_ARGUMENT, "holds none"),
        ([put_messages(rows(1))[0], b"\xff"], CODE.INVALID_ARGUMENT, "not FlightData"),
        ([put_messages(rows(1))[0], put_messages(rows(1))[1][:-8]], CODE.INVALID_ARGUMENT, "not FlightData"),
    ],
)
async def test_what_is_refused(island, nursery, table, messages, code, said):
    served = await serve(nursery, island, table, dataset("fixed"), views={"v"})
    async with channel(served) as connection:
        ended = await refused(served, connection, *messages)
    assert ended.code is code
    assert said in ended.details
    assert served.crashes() == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [1]}, "1 columns came (id), the table has 2 (id, name)"),
        ({"name": ["a"], "id": [1]}, "column 1 came as 'name', the table has 'id' there"),
        ({"id": [1], "nom": ["a"]}, "column 2 came as 'nom', the table has 'name' there"),
        ({"id": ["1"], "name": ["a"]}, "column 'id' came as string, the table has int64"),
        ({"id": pa.array([1], pa.int32()), "name": ["a"]}, "column 'id' came as int32, the table has int64"),
        ({"id": [1], "name": [b"a"]}, "column 'name' came as binary, the table has string"),
    ],
)
async def test_a_schema_that_does_not_fit(served, connection, table, columns, said):
    ended = await refused(served, connection, *put_messages(pa.record_batch(columns)))
    assert ended.code is CODE.INVALID_ARGUMENT
    assert ended.details.startswith("Schema validation error: ")
    assert said in ended.details
    assert table.writes == []


async def test_nulls_where_none_may_be(island, nursery):
    loose = pa.record_batch({"id": pa.array([1, None]), "name": ["a", "b"]})
    for spec in (TableSpec("t", SCHEMA), TableSpec("t", loose.schema, primary_key=("id",))):
        table = writable(spec=spec)
        served = await serve(nursery, island, table)
        async with channel(served) as connection:
            ended = await refused(served, connection, *put_messages(loose))
        assert ended.code is CODE.INVALID_ARGUMENT
        assert "'id'" in ended.details
        assert table.writes == []
    nursery.cancel_scope.cancel()


async def test_a_few_bytes_that_stand_for_many(island, nursery):
    table = writable(spec=TableSpec("t", pa.schema({"x": pa.string()})))
    served = await serve(nursery, island, table)
    small = pa.record_batch({"x": ["a" * 1024]})
    first, batch = put_messages(small, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    inflated = batch.replace(struct.pack("<q", 1024), struct.pack("<q", 2**40))
    assert inflated != batch
    folded = pa.record_batch({"x": pa.DictionaryArray.from_arrays(pa.array([0] * 300), pa.array(["a" * 1024**2]))})
    async with channel(served) as connection:
        for messages in ([first, inflated], put_messages(folded)):
            ended = await refused(served, connection, *messages)
            assert ended.code is CODE.INVALID_ARGUMENT
            assert "decompressed" in ended.details or "too large" in ended.details
    assert table.writes == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ViolationError("The key is there already.", transient=False), CODE.INVALID_ARGUMENT),
        (StoreError("The disk is full."), CODE.RESOURCE_EXHAUSTED),
        (StoreError("The file is damaged.", transient=False), CODE.INTERNAL),
        (QueryError("No.", QueryFailure.FORBIDDEN), CODE.PERMISSION_DENIED),
        (QueryError("Not yet.", QueryFailure.NOT_READY), CODE.UNAVAILABLE),
        (QueryError("It stops.", QueryFailure.UNAVAILABLE), CODE.UNAVAILABLE),
        (QueryError("Too much.", QueryFailure.RESOURCES), CODE.RESOURCE_EXHAUSTED),
    ],
)
async def test_a_write_that_fails_has_its_status(served, connection, table, error, code):
    table.fails = error
    ended = await refused(served, connection, *put_messages(rows(1, 2)))
    assert (ended.code, ended.details) == (code, str(error))


async def test_a_write_that_fails_says_what_was_kept(table):
    first, one, two = put_messages(rows(1, 2), rows(3))
    client = Slow([one, two])
    put = Put(client, table, Totals())
    put.open(read_message(first))
    client.before_second = partial(setattr, table, "fails", ViolationError("The key is there.", transient=False))
    with pytest.raises(RefusalError) as caught:
        await put.run()
    assert caught.value.code is CODE.INVALID_ARGUMENT
    assert caught.value.details == "The key is there. 2 rows that this call brought before are kept."


class Slow:
    """A client that sends its second message once the first is written."""

    def __init__(self, messages):
        self.messages = messages

    async def next(self):
        if len(self.messages) == 1:
            self.before_second()
        return self.messages.pop(0)

    def next_nowait(self):
        return None

    async def tell(self, reply):
        pass


async def test_a_crowded_dataset_is_waited_for(served, connection, table):
    table.errors = [QueryError("Too many writes.", QueryFailure.OVERLOADED)] * 3
    assert (await put(served, connection, *put_messages(rows(1))))[-1]["rows"] == 1


async def test_a_dataset_that_is_not_open_yet(served, connection, table):
    table.log.publish(None)
    assert (await refused(served, connection, *put_messages(rows(1)))).code is CODE.UNAVAILABLE


async def test_who_may_write(island, nursery, table):
    served = await serve(nursery, island, table, keys=("reader", "writer:rw"))
    messages = put_messages(rows(1))
    async with channel(served) as connection:
        assert (await refused(served, connection, *messages)).code is CODE.UNAUTHENTICATED
        for key, code in (("other", CODE.UNAUTHENTICATED), ("reader", CODE.PERMISSION_DENIED)):
            headers = (("authorization", f"Bearer {key}"),)
            assert (await refused(served, connection, *messages, metadata=headers)).code is code
        assert table.writes == []
        await put(served, connection, *messages, metadata=(("authorization", "Bearer writer"),))
    assert table.rows.num_rows == 1
    nursery.cancel_scope.cancel()


async def test_a_hundred_calls_a_minute(island, nursery, table):
    served = await serve(nursery, island, table)
    async with channel(served) as connection:
        for _ in range(100):
            await put(served, connection, put_messages(rows(1))[0])
        ended = await refused(served, connection, *put_messages(rows(1)))
    assert ended.code is CODE.RESOURCE_EXHAUSTED
    assert "100 DoPut calls in 60 seconds" in ended.details
    assert 0 < int(ended.trailers["retry-after"]) <= 60
    nursery.cancel_scope.cancel()


async def test_or_as_many_as_they_like(island, nursery, table):
    served = await serve(nursery, island, table, limits=FlightLimits(do_put_rate_limit_enabled=False))
    async with channel(served) as connection:
        for _ in range(101):
            await put(served, connection, put_messages(rows(1))[0])
    nursery.cancel_scope.cancel()


async def test_there_are_only_so_many_at_a_time(island, nursery, table):
    served = await serve(nursery, island, table, puts=1)
    async with channel(served) as connection:
        async with call(served, connection, "DoPut", *put_messages(rows(1)), half_close=False) as one:
            await anext(one)
            assert (await refused(served, connection, *put_messages(rows(1)))).code is CODE.RESOURCE_EXHAUSTED
        await until_true(served.finished)
        await put(served, connection, *put_messages(rows(1)))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_nonsense_is_refused_and_nothing_breaks(island, nursery, seed):
    chance = random.Random(seed)
    sample = sample_table(20).combine_chunks().to_batches()[0]
    table = writable(spec=TableSpec("t", sample.schema))
    served = await serve(nursery, island, table, limits=FlightLimits(do_put_rate_limit_enabled=False))
    whole = put_messages(sample, sample)
    async with channel(served) as connection:
        for _ in range(40):
            messages = [bytearray(message) for message in whole]
            for _ in range(chance.randrange(1, 6)):
                victim = chance.choice(messages)
                victim[chance.randrange(len(victim))] = chance.randrange(256)
            if chance.random() < 0.3:
                chance.shuffle(messages)
            async with call(served, connection, "DoPut", *map(bytes, messages)) as replies:
                with trio.fail_after(BOUND):
                    assert await how(replies) in {None, CODE.INVALID_ARGUMENT, CODE.UNIMPLEMENTED}, served.crashes()
    assert [crash.traceback for crash in served.crashes()] == []
    nursery.cancel_scope.cancel()


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_silence_has_an_end(island, nursery, table):
    served = await serve(nursery, island, table, bringing=0.05)
    async with channel(served) as connection:
        ended = await refused(served, connection, half_close=False)
        assert ended.code is CODE.DEADLINE_EXCEEDED
        ended = await refused(served, connection, *put_messages(rows(1)), half_close=False)
        assert ended.code is CODE.DEADLINE_EXCEEDED
    assert table.rows.num_rows == 1
    nursery.cancel_scope.cancel()


async def test_draining_ends_a_silent_writer_and_lets_another_finish(island, table):
    async with trio.open_nursery() as nursery:
        served = await serve(nursery, island, table)
        table.hold = trio.Event()
        async with (
            channel(served) as connection,
            call(served, connection, "DoPut", put_messages(rows(1))[0], half_close=False) as silent,
            call(served, connection, "DoPut", *put_messages(rows(1))) as busy,
        ):
            await until_true(lambda: table.writing)
            served.server.drain(BOUND)
            assert (await ending(silent)).code is CODE.UNAVAILABLE
            table.hold.set()
            with trio.fail_after(BOUND):
                assert told([reply async for reply in busy][-1])["rows"] == 1


@pytest.mark.parametrize("messages", [0, 1, 2])
async def test_a_client_that_leaves_leaves_nothing_behind(served, connection, table, messages):
    table.hold = trio.Event()
    async with call(served, connection, "DoPut", *put_messages(rows(1))[:messages], half_close=False):
        await until_true(lambda: served.server._stopping._waits or table.writing)
    await until_true(served.finished)
    assert not table.writing
    assert not served.server._stopping._waits
    assert table.writes == []


async def how(replies):
    """The status of a call; None for a good end."""
    try:
        async for _ in replies:
            pass
    except Ended as ended:
        return ended.code if ended.details != LOST else None


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("", 120.0), ("0", 120.0), ("-1", 120.0), ("x", 120.0), ("1.5", 120.0)]
)
def test_how_long_a_call_may_be_silent(text, seconds):
    assert put_idle_seconds({"SPICE_DO_PUT_IDLE_TIMEOUT_SECS": text}) == seconds
    assert put_idle_seconds({}) == 120.0
