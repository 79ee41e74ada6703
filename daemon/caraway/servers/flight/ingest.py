"""DoPut: who may bring rows, how often, and to which dataset (reference/flight_wire.md 5)."""

import trio

from caraway.core.rate_limit import RateLimit, admit
from caraway.island import Inlet, Outlet
from caraway.servers.flight.commands import written_table
from caraway.servers.flight.gate import Gate, Metadata
from caraway.servers.flight.put import Client, Put, Totals, read_message
from caraway.servers.flight.status import Code, RefusalError
from caraway.servers.flight.stopping import Stopping
from caraway.servers.flight.tables import Tables

LIMIT = RateLimit(requests=100, seconds=60.0)


class Ingest:
    """The DoPut calls of a server. `idle`: for how many seconds a client may be silent, or take no answer."""

    def __init__(
        self,
        tables: Tables,
        gate: Gate,
        stopping: Stopping,
        *,
        limit: RateLimit | None,
        idle: float,
    ) -> None:
        self._tables = tables
        self._gate = gate
        self._stopping = stopping
        self._limit = limit
        self._idle = idle
        self._recent: tuple[float, ...] = ()
        self.totals = Totals()

    async def put(self, replies: Outlet[bytes], messages: Inlet[bytes], metadata: Metadata) -> None:
        """Make durable what comes; QueryError or RefusalError where that can't be."""
        self._gate.admit_writer(metadata)
        self._admit()
        client = Client(messages, replies, self._stopping, self._idle)
        first = await client.next()
        if first is None:
            raise RefusalError(Code.INVALID_ARGUMENT, "The call ended before its first message.")
        data = read_message(first)
        put = Put(client, self._tables.written(written_table(data.descriptor)), self.totals)
        put.open(data)
        await put.run()

    def _admit(self) -> None:
        if self._limit is None:
            return
        self._recent, wait = admit(self._recent, trio.current_time(), self._limit)
        if wait > 0:
            message = (
                f"More than {self._limit.requests} DoPut calls in {self._limit.seconds:.0f} seconds. Bring more rows "
                f"in a call, or try again in {wait:.0f} seconds (`runtime.flight.do_put_rate_limit_enabled`)."
            )
            raise RefusalError(Code.RESOURCE_EXHAUSTED, message, retry_after=wait)
