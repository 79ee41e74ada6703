"""Keeps a dataset fresh by following a stream, one connection after the other, for ever.

What is stored decides where to go on, not what this remembers: a connection is made once all that the one before had
brought is stored, and takes up the stored cursor.
"""

import trio

from caraway.config.model import STREAMS_ONLY, RefreshMode, RefreshOnStartup
from caraway.core import position, stream
from caraway.core.schedule import delayed
from caraway.core.stream import Connect, Connecting, Disconnected, Lost
from caraway.core.symptom import Cause
from caraway.dataset.bench import Bench
from caraway.dataset.lagging import age_of
from caraway.dataset.link import Link
from caraway.dataset.pulse import Pulse
from caraway.dataset.report import Expected, Phase, message_of
from caraway.dataset.session import REFIT, Course, Session
from caraway.dataset.settings import check_streamed
from caraway.dataset.summons import Summons
from caraway.errors import ConfigError, ConfigProblem, SourceError, StoreError
from caraway.events import StreamDisconnected, StreamSchemaChanged, StreamStillDisconnected
from caraway.feed import LOG_CLOSED
from caraway.model import Cursor, DatasetStatus, RefreshOverrides

UNNOTICED = 15.0
"""Seconds for which a dead peer may look alive."""

_SOON = frozenset({"DataLoss", "Ended", LOG_CLOSED, REFIT})
"""Errors that ask to come again, rather than tell of trouble."""
_NEVER = float("inf")


class Following:
    """The driver of a dataset that a stream feeds; a `Driver`."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._name = bench.config.name
        self._report, self._shared = bench.report, bench.shared
        self._refresh_sql = bench.settings.acceleration.refresh_sql
        self._copies = bench.config.from_.connector not in STREAMS_ONLY  # else what was told is not told again
        always = self._copies and bench.settings.acceleration.refresh_on_startup is RefreshOnStartup.ALWAYS
        self._course = Course(Disconnected(-_NEVER, -_NEVER, afresh=always))
        self._summons = Summons()
        self._logged = ""
        self.pulse = Pulse(bench.shared.wall)

    def __repr__(self) -> str:
        return repr(self._course)

    # --- what others ask ---------------------------------------------------------------------------------------------

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        """A new complete copy, beside what is served until it is complete."""
        self._check_copies()
        if overrides.refresh_sql is not None:
            message = f"dataset {self._name} follows a stream, of which nothing is selected for one refresh alone; "
            raise ConfigError(ConfigProblem(message + "change its refresh_sql", "refresh_sql"))
        usual = self._bench.settings.mode.value
        if overrides.refresh_mode not in (None, RefreshMode.FULL.value, usual):
            message = f"{overrides.refresh_mode!r} is not possible for one refresh of a stream; use full or {usual}"
            raise ConfigError(ConfigProblem(message, "refresh_mode"))
        wait = delayed(overrides.refresh_jitter_max or 0.0, self._shared.draw())
        self._summons.ask(trio.current_time() + wait)

    def set_refresh_sql(self, text: str) -> None:
        """What is selected from now on, and of a new complete copy."""
        self._check_copies()
        parsed = self._bench.parsed(text)
        check_streamed(parsed, self._name)
        self._refresh_sql = parsed
        self.request_refresh(RefreshOverrides())

    def _check_copies(self) -> None:
        if not self._copies:
            raise ConfigError(
                f"Dataset {self._name} follows a source that tells only what is new; there is no copy to take"
            )

    def suspected(self, link: Link, error: SourceError) -> None:
        """The stream itself tells when its connection is no good."""

    def current(self) -> DatasetStatus:
        self._report.stream = self.pulse.status
        return self._bench.current()

    def proven(self, now: float) -> float | None:
        return self.pulse.proven(now)

    def cause(self) -> Cause:
        return self.pulse.cause(self._report)

    # --- the task ----------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        stored = await self._bench.open_stored()
        if stored is not None:
            age = age_of(stored.proven_at, self._shared.wall())
            self.pulse.resumed(age, position.decode(stored.position))
        if not isinstance(self._course.state, Disconnected):  # a bug ended the last run
            self._course.step(Lost(self._shared.draw()))
            await self._bench.binding.disconnect()
        self._publish()
        task_status.started()
        while True:
            await self._rest()
            await self._connection()

    async def _rest(self) -> None:
        """Until it is time to connect; the store is looked after meanwhile."""
        while stream.deadline(self._course.state) > trio.current_time():
            await self._summons.wait(min(stream.deadline(self._course.state), self._bench.upkeep.deadline))
            if self._summons.heed_nowait():
                self._course.step(stream.Requested())
            await self._bench.upkeep.run()
            self._publish()

    async def _connection(self) -> None:
        """One connection, from the attempt to make it until all that it brought is stored."""
        connect = self._course.step(stream.Due())
        assert isinstance(connect, Connect)
        self.pulse.connecting()
        if not self._bench.binding.loaded:
            self._report.began()
        self._report.due = _NEVER
        self._report.activity = "connecting"
        self._publish()
        error: Expected | None = SourceError(f"Dataset {self._name} met a bug.")
        try:
            error = await self._followed(afresh=connect.afresh)
        finally:  # whatever ended it: from now on silence proves nothing
            self.pulse.lost(error or SourceError("A new complete copy was asked for."), unnoticed=UNNOTICED)
        await self._bench.binding.disconnect()  # the next attempt finds the source, secrets and schema as they are then
        self._report.ended()
        if error is not None:
            self._fail(error)
        self._publish()

    async def _followed(self, *, afresh: bool) -> Expected | None:
        """Connect, and follow until what is given back ends it; None: a copy was asked for."""
        try:
            link = await self._connected()
        except (SourceError, StoreError, ConfigError) as error:
            return error
        session = Session(self._bench, self.pulse, self._course, self._summons, self._refresh_sql)
        return await session.run(link, self._cursor(afresh=afresh))

    async def _connected(self) -> Link:
        """The source, with the store fitted to its columns."""
        before = self._bench.binding.schema
        link = await self._bench.binding.connect(self._refresh_sql)
        after = self._bench.binding.schema
        if before is not None and after is not None and not after.equals(before):
            self._shared.emit(StreamSchemaChanged(self._name, tuple(after.names)))
        return link

    def _cursor(self, *, afresh: bool) -> Cursor | None:
        """Where to go on; None for a complete copy, as where other rows are selected than those stored."""
        stored = self._bench.stored()
        text = self._refresh_sql.text if self._refresh_sql is not None else None
        if stored is None or afresh or (self._copies and stored.refresh_sql != text):
            return None
        return stored.position

    def _fail(self, error: Expected) -> None:
        """Wait before the next attempt. What is served stays Ready while it is not too old, but for lasting trouble."""
        lasting = isinstance(error, ConfigError) or not error.transient
        asked = error.retry_after if isinstance(error, SourceError) else None
        soon = isinstance(error, SourceError) and error.code in _SOON
        made = not isinstance(self._course.state, Connecting)  # the source has said something
        self._course.step(Lost(self._shared.draw(), not lasting, soon, asked))
        retry_in = stream.deadline(self._course.state) - trio.current_time()
        self._report.failures = self._course.state.failures
        self._log_failed(str(error), retry_in, made=made)
        self._report.activity = f"reconnecting in {retry_in:.0f}s: {message_of(error)}"
        if isinstance(error, StoreError):
            self._report.failed(Phase.WRITE, error)
        elif lasting or not self._bench.binding.loaded:
            self._report.failed(Phase.REFRESH, error)

    def _log_failed(self, error: str, retry_in: float, *, made: bool) -> None:
        """Warn of each loss, and of attempts that fail once for each reason."""
        if made or error != self._logged:
            self._shared.emit(StreamDisconnected(self._name, error, retry_in, made))
        else:
            self._shared.emit(StreamStillDisconnected(self._name, self._report.failures, retry_in))
        self._logged = error

    # --- status ------------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        self._report.due = stream.deadline(self._course.state)
        self._report.stream = self.pulse.status
        self._bench.publish()
