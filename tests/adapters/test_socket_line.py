"""The daemon's end of a connection to a worker, over real sockets."""

import socket

import pytest
import trio

from caraway.query.socketline import SocketLine, open_line


@pytest.fixture
async def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    line = SocketLine(ours)
    yield line, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    line.close()
    theirs.close()


async def test_what_is_there_is_received_where_it_is_told_to(pair):
    line, other = pair
    space = memoryview(bytearray(8))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.send_all, b"abcdef")
        assert await line.receive_into(space[2:]) == 6
    assert bytes(space) == b"\0\0abcdef"
    await other.aclose()
    assert await line.receive_into(space) == 0


async def test_more_than_the_kernel_takes_is_sent_as_it_is_read(pair):
    line, other = pair
    data, found = bytes(range(256)) * 20_000, bytearray()

    async def read():
        async for piece in other:
            found.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await line.send_all(data)
        await line.send_eof()
    assert found == data


async def test_little_is_sent_without_waiting(pair):
    line, other = pair
    sending = line.send_all(b"x")
    with pytest.raises(StopIteration):
        sending.send(None)
    assert await other.receive_some(10) == b"x"


@pytest.mark.parametrize("act", ["send_all", "receive_into", "send_eof"])
async def test_the_other_end_is_gone(pair, act):
    line, other = pair
    await line.send_all(b"unread")  # which makes of the end a reset
    await other.aclose()
    acts = {
        "send_all": lambda: line.send_all(b"x"),
        "receive_into": lambda: line.receive_into(memoryview(bytearray(1))),
        "send_eof": lambda: _after_closing(line),
    }
    with pytest.raises(trio.BrokenResourceError):
        await acts[act]()


async def _after_closing(line):
    line.close()
    await line.send_eof()


@pytest.mark.parametrize("act", ["send_all", "receive_into"])
async def test_waiting_can_be_cancelled(pair, act):
    line, _ = pair
    with trio.move_on_after(0.05) as waiting:
        await (line.send_all(bytes(2**24)) if act == "send_all" else line.receive_into(memoryview(bytearray(1))))
    assert waiting.cancelled_caught
    line.close()
    line.close()


async def test_closed_while_another_task_receives(pair):
    line, _ = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_receives_nothing, line)
        await trio.testing.wait_all_tasks_blocked()
        line.close()


async def _receives_nothing(line):
    with pytest.raises(trio.ClosedResourceError):
        await line.receive_into(memoryview(bytearray(1)))


async def test_nobody_listens(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        await open_line(tmp_path / "none")


async def test_a_worker_with_too_many_callers_is_called_again(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        lines = [await open_line(tmp_path / "s") for _ in range(2)]
        with trio.move_on_after(0.05) as waiting:
            await open_line(tmp_path / "s")
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:

            async def more():
                lines.append(await open_line(tmp_path / "s"))

            nursery.start_soon(more)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                (await trio.to_thread.run_sync(listener.accept))[0].close()
        for line in lines:
            line.close()
