"""TCP as a trio stream with two short cuts: wait before reading, and send what the kernel takes without waiting.

trio's SocketStream tries to read first, which for a request that isn't there yet costs a system call and an exception,
and yields to the scheduler after each send.
"""

import socket

import trio


class TcpStream(trio.abc.HalfCloseableStream):
    """A connected, non-blocking socket. One task sends, one receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)

    def send_nowait(self, data: bytes | memoryview) -> int:
        """How many bytes the kernel took, at once; BrokenResourceError when the connection is gone."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _broken(self._socket) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or 65536)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _broken(self._socket) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            await self.wait_send_all_might_not_block()
            view = view[self.send_nowait(view) :]

    async def wait_send_all_might_not_block(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_writable(self._socket)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _broken(self._socket) from error

    def abort(self) -> None:
        """Let the coming close be a reset, which no client takes for a regular end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    async def aclose(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._socket.fileno() == -1:
            raise _broken(self._socket)


def _broken(sock: socket.socket) -> trio.BrokenResourceError | trio.ClosedResourceError:
    if sock.fileno() == -1:
        return trio.ClosedResourceError("this end of the connection was closed")
    return trio.BrokenResourceError("the connection broke")
