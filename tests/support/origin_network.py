"""A network in memory between a transport and an origin, so that the clock may be virtual."""

import httpcore2
import trio
import trio.testing

from support.origin import Origin


class MemoryNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to one origin, whatever host is asked for; `delay` seconds after it is asked, or never."""

    def __init__(self, origin: Origin, nursery: trio.Nursery) -> None:
        self.delay = 0.0
        self.asked = 0
        self._origin = origin
        self._nursery = nursery

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109 - the library's port
        self.asked += 1
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await trio.sleep(self.delay)
            near, far = trio.testing.memory_stream_pair()
            self._nursery.start_soon(self._origin.serve, far)
            return _Stream(near)
        raise httpcore2.ConnectTimeout


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream) -> None:
        self._stream = stream

    async def read(self, max_bytes, timeout=None):  # noqa: ASYNC109 - the library's port
        try:
            return await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise httpcore2.ReadError from error

    async def write(self, buffer, timeout=None):  # noqa: ASYNC109 - the library's port
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore2.WriteError from error

    async def aclose(self):
        await self._stream.aclose()

    def get_extra_info(self, info):
        return None
