"""A TCP proxy for synchronous end-to-end tests: refuses, cuts, half-closes, delays, or moves no byte."""

import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Self

PIECE = 64 * 1024
PIECES = 64
"""Read ahead in a direction that delays, which so loses speed from 4 MB a delay on."""


class Way:
    """One direction of all connections."""

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds from now on between a byte's coming and its going."""
        self._flowing = threading.Event()
        self._flowing.set()

    def freeze(self) -> None:
        """From now on no byte passes; connections stay open, and new ones are accepted."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def wait(self, came: float) -> None:
        """Until what came at this moment may go on."""
        time.sleep(max(0.0, came + self.delay - time.monotonic()))
        self._flowing.wait()


class Pair:
    """A connection: the socket of who connected and the one to where it goes."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far

    def end(self) -> None:
        for one in (self.near, self.far):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.near.close()
        self.far.close()


class TcpProxy:
    """Passes connections on to `address`. `forth` is the way to there, `back` that of the answers."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._far = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._pairs: set[Pair] = set()
        self._threads: list[threading.Thread] = []
        self._left: int | None = None
        self.forth, self.back = Way(), Way()
        self._over = False
        self.cuts = 0
        self.connections = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def freeze(self) -> None:
        """From now on no byte passes; connections stay open, and new ones are accepted."""
        self.forth.freeze()
        self.back.freeze()

    def thaw(self) -> None:
        self.forth.thaw()
        self.back.thaw()

    def delay(self, seconds: float) -> None:
        """From now on each byte takes so long, in each direction."""
        self.forth.delay = self.back.delay = seconds

    def refuse(self) -> None:
        """End all connections, and refuse new ones until `admit`."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def admit(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._spawn(self._accept, self._listener)

    def cut(self) -> None:
        """End all connections."""
        for pair in list(self._pairs):
            pair.end()

    def cut_after(self, size: int) -> None:
        """End the connection that brings back the byte that makes it so many from now on."""
        self._left = size

    def half_close(self) -> None:
        """Let those who connected see the end of all connections; what they send still arrives."""
        for pair in list(self._pairs):
            with suppress(OSError):
                pair.near.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        self._spawn(self._accept, self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.delay(0)
        self.thaw()
        self.refuse()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, fn: object, *args: object) -> None:
        thread = threading.Thread(target=fn, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                self.connections += 1
                self._spawn(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self.forth.wait(time.monotonic())
        try:
            far = socket.create_connection(self._far)
        except OSError:
            near.close()
            return
        pair = Pair(near, far)
        self._pairs.add(pair)
        if self._over:
            pair.end()
        ways = [(near, far, self.forth), (far, near, self.back)]
        pumps = [threading.Thread(target=self._pump, args=(pair, *way)) for way in ways]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self._pairs.discard(pair)
        pair.close()

    def _pump(self, pair: Pair, source: socket.socket, sink: socket.socket, way: Way) -> None:
        """Move bytes until either end is closed; then both are."""
        pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(PIECES)
        reader = threading.Thread(target=_read, args=(source, pieces))
        reader.start()
        while (piece := pieces.get())[1]:
            way.wait(piece[0])
            if way is self.back and self._is_last(len(piece[1])):
                pair.end()
            with suppress(OSError):
                sink.sendall(piece[1])  # fails after a half-close: what comes is lost, the other direction goes on
        pair.end()
        reader.join()

    def _is_last(self, size: int) -> bool:
        if self._left is None:
            return False
        self._left -= size
        if self._left > 0:
            return False
        self._left = None
        self.cuts += 1
        return True


def _read(source: socket.socket, pieces: "queue.Queue[tuple[float, bytes]]") -> None:
    data = b"more"
    while data:
        data = b""
        with suppress(OSError):
            data = source.recv(PIECE)
        pieces.put((time.monotonic(), data))
