"""A TCP proxy for synchronous end-to-end tests: cuts connections, or leaves them open and moves no byte."""

import socket
import threading
from contextlib import suppress
from typing import Self

PIECE = 64 * 1024


class TcpProxy:
    """Passes connections on to `address`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._far = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._left: int | None = None
        self.cuts = 0
        self.connections = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def freeze(self) -> None:
        """From now on no byte passes; connections stay open, and new ones are accepted."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """End all connections."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut_after(self, size: int) -> None:
        """End the connection that brings back the byte that makes it so many from now on."""
        self._left = size

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.thaw()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, fn: object, *args: object) -> None:
        thread = threading.Thread(target=fn, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.add(near)
                self.connections += 1
                self._spawn(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self._flowing.wait()
        try:
            far = socket.create_connection(self._far)
        except OSError:
            self._drop(near)
            return
        self._sockets.add(far)
        self._spawn(self._pump, near, far, False)
        self._pump(far, near, True)

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                self._flowing.wait()
                if back and self._is_last(len(data)):
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if back:
            self._drop(source, sink)

    def _is_last(self, size: int) -> bool:
        if self._left is None:
            return False
        self._left -= size
        if self._left > 0:
            return False
        self._left = None
        self.cuts += 1
        return True

    def _drop(self, *sockets: socket.socket) -> None:
        for one in sockets:
            self._sockets.discard(one)
            one.close()
