"""pyarrow's own Flight client writes into datasets of a daemon and follows them."""

import json
import signal
import threading
import time
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.flight as pf
import pytest

from support.daemons import Node, running, wait_for

POD = """
version: v2
kind: Spicepod
name: core
runtime: {flight: {do_put_rate_limit_enabled: false}, shutdown_timeout: 20s}
datasets:
"""
TABLE = """
  - from: memory:{name}
    name: {name}
    access: read_write
    columns:
      - {{name: id, type: bigint}}
      - {{name: place, type: varchar}}
      - {{name: value, type: double}}
    acceleration: {{engine: {engine}, {more}}}
"""
SCHEMA = pa.schema([("id", pa.int64()), ("place", pa.string()), ("value", pa.float64())])
ENGINES = ("sqlite", "parquet", "arrow")
ACK = b'{"caraway":{"ack":true}}'


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    tables = [TABLE.format(name=engine, engine=engine, more="mode: file") for engine in ENGINES[:2]]
    tables.append(TABLE.format(name="arrow", engine="arrow", more="mode: memory"))
    tables.append(TABLE.format(name="keyed", engine="sqlite", more="primary_key: id, on_conflict: {id: upsert}"))
    node = Node(tmp_path_factory.mktemp("core"), POD + "".join(tables))
    with running(node):
        node.wait_ready()
        yield node


@contextmanager
def connected(node):
    with pf.connect(f"grpc://{node.endpoints['flight']}") as client:
        yield client


def rows(first, count):
    ids = range(first, first + count)
    return pa.record_batch({"id": ids, "place": [f"p{each % 7}" for each in ids], "value": [each / 8 for each in ids]})


def path(name):
    return pf.FlightDescriptor.for_path(name)


def write(client, name, *batches):
    """Bring the rows; what the last reply says."""
    writer, replies = client.do_put(path(name), batches[0].schema)
    with writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        while (reply := replies.read()) is not None:
            last = reply
    return json.loads(last.to_pybytes())["caraway"]


class Follower(threading.Thread):
    """A foreign subscriber: notes each change, until it is closed or the stream ends."""

    def __init__(self, client, name):
        super().__init__(daemon=True)
        self.changes = []
        self.ended = None
        self.writer, self.reader = client.do_exchange(path(name))
        self.writer.done_writing()
        self.start()

    def run(self):
        try:
            while True:
                batch = self.reader.read_chunk().data
                self.changes += zip(batch["op"].to_pylist(), batch["data"].to_pylist(), strict=True)
        except (pf.FlightError, pa.ArrowException, StopIteration) as error:
            self.ended = error

    def ids(self, op="r"):
        return [row["id"] for letter, row in list(self.changes) if letter == op]

    def close(self):
        self.reader.cancel()
        self.join(10)
        assert not self.is_alive()


@contextmanager
def following(client, name):
    follower = Follower(client, name)
    try:
        yield follower
    finally:
        follower.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_one_writes_the_other_is_told(node, engine):
    with connected(node) as client, following(client, engine) as early:
        wait_for(lambda: early.changes == [("t", None)], "the beginning of an empty copy")
        assert write(client, engine, rows(0, 1000), rows(1000, 1))["rows"] == 1001
        wait_for(lambda: early.ids() == list(range(1001)), "all rows")
        with following(client, engine) as late:
            wait_for(lambda: sorted(late.ids()) == list(range(1001)), "a copy")
            said = write(client, engine, *(rows(1001 + number, 1) for number in range(200)))
            assert said["offset"] == 1201
            for follower in (early, late):
                wait_for(lambda follower=follower: len(follower.ids()) >= 1201, "the news")
                assert follower.ids() == list(range(1201))
    assert node.scalar(f"select count(*) from {engine}") == 1201


def test_deletes_and_new_words_on_a_key(node):
    url = "/v1/datasets/keyed/rows"
    with connected(node) as client, following(client, "keyed") as follower:
        write(client, "keyed", rows(0, 3))
        wait_for(lambda: follower.ids() == [0, 1, 2], "the rows")
        assert node.request("DELETE", url, json=[{"id": 1}]).status_code == 200
        wait_for(lambda: follower.ids("d") == [1], "the delete")
        write(client, "keyed", rows(2, 1))
        wait_for(lambda: follower.ids() == [0, 1, 2, 2], "the new word")


def test_a_long_writer_is_told_when_rows_are_durable(node):
    with connected(node) as client:
        writer, replies = client.do_put(path("parquet"), SCHEMA)
        with writer:
            before = node.scalar("select count(*) from parquet")
            for number in range(20):
                writer.write_with_metadata(rows(10_000 + number, 1), ACK)
                if number == 0:
                    assert replies.read().to_pybytes() == b""
                said = json.loads(replies.read().to_pybytes())["caraway"]
                assert said["rows"] == number + 1
                assert node.scalar("select count(*) from parquet") == before + number + 1
            writer.done_writing()
            assert json.loads(replies.read().to_pybytes())["caraway"] == said


@pytest.mark.parametrize(
    ("name", "batch", "said"),
    [
        ("nothing", rows(0, 1), "Path doesn't exist or is not writable"),
        ("sqlite", pa.record_batch({"id": ["x"]}), "Schema validation error"),
    ],
)
def test_refusals_are_read_by_strangers(node, name, batch, said):
    with connected(node) as client, pytest.raises(pa.ArrowInvalid, match=said):
        write(client, name, batch)


@pytest.mark.parametrize("name", ["nothing", ""])
def test_who_subscribes_to_nothing_is_told(node, name):
    with connected(node) as client:
        _, reader = client.do_exchange(path(name))
        with pytest.raises(pa.ArrowInvalid):
            reader.read_chunk()


def test_much_at_once(node):
    batches = [rows(1_000_000 + number * 65_536, 65_536) for number in range(6)]
    with connected(node) as client, following(client, "parquet") as follower:
        began = time.monotonic()
        assert write(client, "parquet", *batches)["rows"] == 6 * 65_536
        print(f"{6 * 65_536 / (time.monotonic() - began):,.0f} rows a second, durable")
        wait_for(lambda: sum(each >= 1_000_000 for each in follower.ids()) == 6 * 65_536, "all of it")


def test_subscribers_do_not_hold_up_a_stop(tmp_path):
    node = Node(tmp_path, POD + TABLE.format(name="t", engine="sqlite", more="mode: file"))
    with running(node):
        node.wait_ready()
        with connected(node) as client, following(client, "t") as follower:
            write(client, "t", rows(0, 5))
            wait_for(lambda: len(follower.ids()) == 5, "the rows")
            began = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(timeout=15) == 0
            assert time.monotonic() - began < 10
            follower.join(10)
            assert isinstance(follower.ended, pf.FlightUnavailableError)
