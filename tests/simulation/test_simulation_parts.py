"""The parts of the simulation themselves: what a disk forgets, what a link does, and that the judges notice."""

from random import Random

import pyarrow as pa
import pytest
import trio
import trio.testing

from caraway.core.checkpoint import Checkpoint, encode
from caraway.core.position import encode as place
from caraway.errors import SourceError
from caraway.model import Append, ArrowFiles, Cursor, DatasetStatus, Delete, Position, Snapshot, State
from simulation.clock import START, Clock
from simulation.disk import Disk, Mount, PowerCut
from simulation.ledger import Epoch, faults_of_copy
from simulation.network import KEEPALIVE, WINDOW, BrokenConnectionError, Connection, Host, Link
from simulation.oracle import GRACE, Books, Judge, Violation
from simulation.rows import SCHEMA
from simulation.world import Standstill

SEEDS = range(40)


def appended(*rows: tuple[int, int]) -> Append:
    keys, values = zip(*rows, strict=True)
    return Append(pa.record_batch([pa.array(keys), pa.array(values)], schema=SCHEMA))


def deleted(*keys: int) -> Delete:
    return Delete(pa.record_batch([pa.array(keys, pa.int64())], schema=pa.schema([SCHEMA.field("key")])))


# --- disk ------------------------------------------------------------------------------------------------------------


def mounted(disk: Disk) -> Mount:
    return Mount(disk, lambda: None, Random(1))


async def test_what_was_synced_survives_and_the_rest_in_pieces(autojump_clock: trio.testing.MockClock) -> None:
    found = set()
    for seed in SEEDS:
        mount = mounted(disk := Disk(Random(seed)))
        await mount.write("log", 0, [b"synced"])
        await mount.sync("log")
        await mount.sync_folder()
        await mount.write("log", 6, [b"loose", b"ends"])
        disk.crash()
        data = mount.read("log").to_pybytes()
        assert data.startswith(b"synced")
        assert b"syncedlooseends".startswith(data.rstrip(b"\0"))
        found.add(data)
    assert {b"synced", b"syncedlooseends"} < found


async def test_a_file_has_its_name_once_its_folder_is_synced(autojump_clock: trio.testing.MockClock) -> None:
    left = set()
    for seed in SEEDS:
        mount = mounted(disk := Disk(Random(seed)))
        await mount.write("new", 0, [b"x"])
        await mount.sync("new")
        disk.crash()
        left.add(mount.read("new") is not None)
    assert left == {True, False}


async def test_a_dead_process_does_nothing_any_more(autojump_clock: trio.testing.MockClock) -> None:
    mount = mounted(disk := Disk(Random(1)))
    async with trio.open_nursery() as nursery:
        await mount.write("log", 0, [b"x"])
        nursery.start_soon(_dies, mount)
        await trio.testing.wait_all_tasks_blocked()
        mount.dead.set()
    assert disk.names["log"].synced == 0


async def _dies(mount: Mount) -> None:
    with pytest.raises(PowerCut):
        await mount.sync("log")


# --- network ---------------------------------------------------------------------------------------------------------


class Server:
    def __init__(self) -> None:
        self.host = Host("server")
        self.host.listen(self.accept)
        self.link = Link(self.host, Random(1))
        self.link.delay = 0.5

    def accept(self, connection: Connection) -> None:
        self.connection = connection


async def test_messages_arrive_after_the_delay_in_order(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"hello") as connection:
        assert trio.current_time() == 0.5
        assert server.connection.request == b"hello"
        await server.connection.send(b"1")
        server.link.delay = 0.1
        await server.connection.send(b"2")
        assert [await connection.receive(), await connection.receive()] == [b"1", b"2"]
        assert trio.current_time() == 1.0


async def test_a_frozen_link_is_noticed_by_its_silence(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"") as connection:
        await server.connection.send(b"1")
        server.link.freeze()
        with pytest.raises(SourceError, match="keepalive"):
            await connection.receive()
        assert trio.current_time() == 0.5 + KEEPALIVE
        with pytest.raises(BrokenConnectionError):
            await server.connection.send(b"2")


async def test_a_thawed_link_brings_what_was_sent(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"") as connection, trio.open_nursery() as nursery:
        server.link.freeze()
        await server.connection.send(b"1")
        nursery.start_soon(_later, server.link.mend)
        assert await connection.receive() == b"1"
        assert trio.current_time() == 10.5


async def _later(fn) -> None:
    await trio.sleep(10)
    fn()


async def test_a_cut_loses_what_was_on_its_way(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"") as connection:
        await server.connection.send(b"1")
        server.link.break_off()
        with pytest.raises(SourceError, match="cut"):
            await connection.receive()
    with pytest.raises(SourceError, match="refused"):
        async with server.link.connect(b""):
            pass


async def test_a_server_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"") as connection, trio.open_nursery() as nursery:
        await server.connection.send(bytes(WINDOW + 1))
        nursery.start_soon(server.connection.send, b"more")
        await trio.testing.wait_all_tasks_blocked()
        assert len(await connection.receive()) > WINDOW
        assert await connection.receive() == b"more"


async def test_a_server_without_power_is_missed_until_it_is_back(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    async with server.link.connect(b"") as connection, trio.open_nursery() as nursery:
        server.host.die(silently=True)
        nursery.start_soon(_later, lambda: server.host.listen(server.accept))
        with pytest.raises(SourceError, match="does not know"):
            await connection.receive()
        assert trio.current_time() == 10.5


# --- judges ----------------------------------------------------------------------------------------------------------


def log_of(keyed: bool, *changes: Append | Delete) -> Epoch:
    epoch = Epoch(keyed)
    epoch.apply(changes)
    return epoch


PLAIN = log_of(False, appended((1, 1), (2, 2), (3, 3)))
KEYED = log_of(True, appended((1, 10), (2, 20)), deleted(1), appended((2, 21)))


@pytest.mark.parametrize(
    ("rows", "offset", "right"),
    [
        ([(1, 1), (2, 2)], 2, True),
        ([(1, 1)], 2, False),
        ([(1, 1), (2, 2), (3, 3)], 2, False),
        ([(1, 1), (2, 2), (2, 2)], 2, False),
        ([(2, 2), (1, 1)], 2, False),
    ],
)
def test_a_copy_of_a_plain_log_is_what_was_before_its_cursor(rows, offset: int, right: bool) -> None:
    assert right is not any(faults_of_copy(rows, offset, PLAIN))


@pytest.mark.parametrize(
    ("rows", "offset", "right"),
    [
        ([(1, 10), (2, 20)], 2, True),
        ([(1, 10)], 2, True),  # 2 was replaced since, so that its old row need not have been told
        ([(2, 20)], 2, True),
        ([(2, 20)], 3, True),
        ([(1, 10), (2, 20)], 3, False),
        ([(2, 21)], 4, True),
        ([(2, 20)], 4, False),
        ([], 4, False),
        ([(2, 21), (2, 21)], 4, False),
        ([(2, 21), (5, 50)], 4, False),
        ([(1, 10), (2, 21)], 2, False),  # ahead of its cursor
    ],
)
def test_a_copy_of_a_log_with_keys_may_lack_what_was_replaced_since(rows, offset: int, right: bool) -> None:
    assert right is not any(faults_of_copy(rows, offset, KEYED))


class Court:
    """A follower of PLAIN, which is two seconds late at most."""

    def __init__(self) -> None:
        source = Books("source", False, self.fail)
        source.epochs["e"] = PLAIN
        self.books = Books("follower", False, self.fail)
        self.judge = Judge(self.books, source, 2.0, Clock(), Clock(), self.books.fail)
        self.books.then = self.judge.committed

    def fail(self, name: str, what: str) -> None:
        raise Violation(f"{name} {what}")

    def commit(self, *rows: tuple[int, int], offset: int) -> None:
        held = self.books.newest.rows if self.books.newest else 0
        self.books.begins("own" if held else None, [appended(*rows)])
        end, cursor = held + len(rows), place(Position("e", offset))
        self.books.published(Snapshot("own", 1, end, end, 1, None, ArrowFiles(()), encode(checkpoint(cursor))))

    def say(self, state: State) -> None:
        self.judge.says(DatasetStatus("t", state))


def checkpoint(cursor: Cursor) -> Checkpoint:
    return Checkpoint(START, START, position=cursor)


async def test_a_cursor_ahead_of_the_rows_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    court = Court()
    court.commit((1, 1), offset=1)
    with pytest.raises(Violation, match="holds 2 rows"):
        court.commit((2, 2), offset=3)


async def test_a_row_that_comes_twice_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    court = Court()
    court.commit((1, 1), offset=1)
    with pytest.raises(Violation, match="holds 2 rows"):
        court.commit((1, 1), offset=2)


async def test_ready_is_a_matter_of_proof_and_time(autojump_clock: trio.testing.MockClock) -> None:
    court = Court()
    court.say(State.REFRESHING)
    with pytest.raises(Violation, match="without ever"):
        court.say(State.READY)
    court.judge.told(Position("e", 2), trio.current_time())
    court.commit((1, 1), offset=1)
    with pytest.raises(Violation, match="without ever"):
        court.judge.check_lag()
    court.commit((2, 2), offset=2)
    await trio.sleep(2 + GRACE)
    court.judge.check_lag()
    await trio.sleep(0.01)
    with pytest.raises(Violation, match="says Ready 3"):
        court.judge.check_lag()
    court.say(State.ERROR)


async def test_what_was_published_must_come_back(autojump_clock: trio.testing.MockClock) -> None:
    court = Court()
    court.commit((1, 1), offset=1)
    with pytest.raises(Violation, match="lost all"):
        court.books.recovered(None, [])
    with pytest.raises(Violation, match="where its log had"):
        court.books.recovered(court.books.newest, [])
    court.books.recovered(court.books.newest, [(1, 1)])


async def test_of_a_commit_that_was_being_written_either_state_may_come_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    court = Court()
    court.commit((1, 1), offset=1)
    court.books.begins("own", [appended((2, 2))])
    court.books.recovered(court.books.newest, [(1, 1)])
    court.books.begins("own", [appended((2, 2))])
    after = Snapshot("own", 2, 2, 2, 1, None, ArrowFiles(()), encode(checkpoint(place(Position("e", 2)))))
    court.books.recovered(after, [(1, 1), (2, 2)])


# --- the run itself --------------------------------------------------------------------------------------------------


async def test_a_run_in_which_no_time_passes_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    with trio.CancelScope() as scope:
        trio.lowlevel.add_instrument(Standstill(scope))
        while True:
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert trio.current_time() == 0.0
