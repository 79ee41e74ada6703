"""A connection to a worker over its socket: received where it is told to, and sent without waiting where it can be.

trio's own streams try to read first, which for an answer that is yet to be computed costs a system call and an
exception, and yield to the scheduler after each send.
"""

import os
import socket
from pathlib import Path

import trio

FULL = 0.001
"""Seconds after which a worker that has too many callers waiting is called again."""


class SocketLine:
    """A `process.Line`; one task at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    async def receive_into(self, space: memoryview) -> int:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    return self._socket.recv_into(space)
                except BlockingIOError:
                    continue
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[self._socket.send(left) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError from error

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


async def open_line(path: Path) -> SocketLine:
    """A line to whoever listens there; OSError where nobody does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        while True:
            try:
                sock.connect(os.fspath(path))
                return SocketLine(sock)
            except BlockingIOError:
                await trio.sleep(FULL)
    except BaseException:
        sock.close()
        raise
