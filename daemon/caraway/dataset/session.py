"""One connection to a stream: what comes is gathered by one task and stored by another, in its order.

source ──▶ receiver ──▶ Gather ──▶ core/stream ──▶ Intake ──▶ store
           (a task)     (bounded)  (the dataset's task, which alone writes)
"""

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import assert_never, cast

import pyarrow as pa
import trio

from caraway.config.model import RefreshSql
from caraway.core import stream
from caraway.core.stream import Action, Begins, Came, Connect, Connecting, Discard, Live, Stage, Swap
from caraway.dataset.bench import Bench
from caraway.dataset.fitting import fits
from caraway.dataset.gather import Gather, Held
from caraway.dataset.intake import Intake
from caraway.dataset.link import Link
from caraway.dataset.pulse import Pulse
from caraway.dataset.report import Phase as Trouble
from caraway.dataset.summons import Summons
from caraway.errors import SourceError, StoreError
from caraway.events import StreamConnected
from caraway.model import Append, Arrival, Cursor, Delete, Phase, Truncate
from caraway.ports import Source, StreamSource

REFIT = "SchemaChanged"
"""The code of a SourceError after which the source's schema is to be looked at anew."""
PUBLISH_EVERY = 0.25
"""Least seconds between two reports of nothing but rows."""

_ODD = 8
"""Schemas of arrivals that are remembered as others than the source told."""
_NEVER = float("inf")


class Course:
    """Where the machine of one stream is; outlives its connections."""

    def __init__(self, state: stream.State) -> None:
        self.state = state
        self.odd: list[pa.Schema] = []

    def step(self, event: stream.Event) -> Action | None:
        self.state, action = stream.step(self.state, event, trio.current_time())
        return action

    def __repr__(self) -> str:
        return repr(self.state)


class Session:
    """Run once. `refresh_sql` is what is selected of the stream."""

    def __init__(
        self, bench: Bench, pulse: Pulse, course: Course, summons: Summons, refresh_sql: RefreshSql | None
    ) -> None:
        self._bench = bench
        self._name = bench.config.name
        self._pulse = pulse
        self._course = course
        self._summons = summons
        self._refresh_sql = refresh_sql
        self._gather = Gather(summons.ring)
        self._fitting: pa.Schema | None = None  # of the newest arrivals, which fits the table
        self._resumes = False
        self._published = trio.current_time()
        self._stale = False

    def __repr__(self) -> str:
        return f"<Session {self._name} {self._course} {self._gather}>"

    async def run(self, link: Link, cursor: Cursor | None) -> SourceError | StoreError | None:
        """Follow from a cursor until the connection is over and all that it brought is stored.

        What ended it; None where a copy was asked for, which the next connection is to bring.
        """
        store = self._bench.binding.store
        assert store is not None
        self._resumes = cursor is not None
        intake = Intake(self._bench, self._pulse, self._summons, store, self._refresh_sql)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, link, cursor)
            async with aclosing(intake):
                ended_by = await self._store(intake)
            nursery.cancel_scope.cancel()
        return ended_by

    # --- one task ----------------------------------------------------------------------------------------------------

    async def _receive(self, link: Link, cursor: Cursor | None) -> None:
        """Take what comes as fast as there is room for it; heartbeats that bring nothing new end here."""
        error = None
        try:
            async with link.use() as source, _streaming(source, self._name).follow(cursor) as arrivals:
                cursor = None
                async for arrival in arrivals:
                    place = self._pulse.arrived(arrival)
                    if arrival.phase is not Phase.HEARTBEAT or arrival.cursor != cursor:
                        cursor = arrival.cursor
                        await self._gather.put(arrival, place)
        except SourceError as caught:
            error = caught
        self._gather.close(error)

    # --- and the other -----------------------------------------------------------------------------------------------

    async def _store(self, intake: Intake) -> SourceError | StoreError | None:
        try:
            while not self._gather.ended:
                if self._gather.empty:
                    await self._summons.wait(self._deadline(intake))
                if self._summons.heed_nowait():
                    self._course.step(stream.Requested())
                    return None
                await self._take(intake)
                if not intake.copying:
                    await self._bench.upkeep.run()
                self._publish_in_time()
        except (SourceError, StoreError) as error:
            return error
        return self._gather.error or SourceError(f"The stream of dataset {self._name} ended.", code="Ended")

    def _deadline(self, intake: Intake) -> float:
        upkeep = self._bench.upkeep.deadline if not intake.copying else _NEVER
        publish = self._published + PUBLISH_EVERY if self._stale else _NEVER
        return min(stream.deadline(self._course.state), upkeep, publish)

    async def _take(self, intake: Intake) -> None:
        """Store what has gathered, and end a copy that nothing comes to any more."""
        before, taken = self._course.state, self._gather.take_nowait()
        for held in taken:
            await self._arrived(intake, held)
        await intake.flush()
        if not taken and stream.deadline(before) <= trio.current_time():
            await self._perform(intake, self._course.step(stream.Due()), trio.current_time())
        self._stale = self._stale or bool(taken)
        after = self._course.state
        if after is not before and (isinstance(after, Live) or type(after) is not type(before)):
            self._moved()

    def _moved(self) -> None:
        """What was brought until now is stored; from here on it is a copy, or news."""
        if isinstance(self._course.state, Live):
            self._pulse.live()
            self._bench.report.ended()
            self._bench.report.failures = 0
            self._bench.report.succeeded(Trouble.REFRESH, Trouble.STORE, Trouble.CRASH)
        self._publish()

    async def _arrived(self, intake: Intake, held: Held) -> None:
        """One arrival, in the parts that Truncates make of it."""
        arrival = held.arrival
        known = arrival.phase is not Phase.HEARTBEAT or arrival.mark is not None
        connecting = isinstance(self._course.state, Connecting)
        for truncates, changes in _parts(arrival):
            removes = any(isinstance(change, Delete) for change in changes)
            begins = self._course.step(Begins(arrival.phase, truncates, removes, known))
            await self._perform(intake, begins, held.place.at)
            await self._check(intake, changes)
            intake.add(changes, held)
            rows = sum(change.rows.num_rows for change in changes if isinstance(change, Append))
            came = self._course.step(Came(arrival.phase, rows, arrival.expected))
            await self._perform(intake, came, held.place.at)
        if connecting and not isinstance(self._course.state, Connecting):
            resumed = self._resumes and not intake.copying
            self._bench.shared.emit(StreamConnected(self._name, resumed))

    async def _perform(self, intake: Intake, action: Action | None, came: float) -> None:
        """Do what follows from what came then."""
        match action:
            case Stage():
                await intake.begin_copy(came)
            case Swap():
                await intake.finish_copy()
            case None:
                pass
            case Connect() | Discard():
                raise AssertionError(f"{action} within a connection")
            case _:
                assert_never(action)

    async def _check(self, intake: Intake, changes: Sequence[Append | Delete]) -> None:
        """Have the source's schema looked at where rows of another one come; what it tells then counts."""
        for schema in (change.rows.schema for change in changes if isinstance(change, Append)):
            if self._fitting is not None and schema.equals(self._fitting):
                continue
            table = self._bench.binding.schema
            assert table is not None
            if schema not in self._course.odd and not fits(schema, table, self._refresh_sql):
                self._course.odd = [*self._course.odd[1 - _ODD :], schema]
                await intake.flush()
                raise SourceError(f"The columns of the stream of dataset {self._name} have changed.", code=REFIT)
            self._fitting = schema

    # --- status ------------------------------------------------------------------------------------------------------

    def _publish_in_time(self) -> None:
        """Report rows now and then."""
        if self._stale and trio.current_time() >= self._published + PUBLISH_EVERY:
            self._publish()

    def _publish(self) -> None:
        self._published, self._stale = trio.current_time(), False
        self._bench.report.stream = self._pulse.status
        self._bench.publish()


def _streaming(source: Source, dataset: str) -> StreamSource:
    if not hasattr(source, "follow"):  # the loader knows which connectors have streams
        remedy = "Use refresh_mode full, or append with a time_column."
        raise SourceError(f"The source of dataset {dataset} has no stream to follow.", remedy=remedy, transient=False)
    return cast("StreamSource", source)


def _parts(arrival: Arrival) -> Iterator[tuple[bool, Sequence[Append | Delete]]]:
    """The changes up to the first Truncate, and after each one; whether a Truncate is before them."""
    truncates, part = False, list[Append | Delete]()
    for place, change in enumerate(arrival.changes):
        if not isinstance(change, Truncate):
            part.append(change)
            continue
        if place:
            yield truncates, part
        truncates, part = True, []
    yield truncates, part
