"""Events become log lines here, and nowhere else: readable on a terminal, JSON for machines, repeats counted."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Protocol, TextIO

import trio

from caraway.events import DaemonStarted, Event, Level

LONGEST_QUEUE = 10_000
LONGEST_FIELD = 20_000
"""Characters of one field of a line: a statement may have millions."""
MOST_REPEATS = 20
REPEAT_WINDOW = 10.0
MOST_KEYS = 1_000
OUTPUT_LEVELS = {"info": Level.INFO, "verbose": Level.DEBUG, "very_verbose": Level.TRACE}
"""`runtime.output_level`."""

_COLOURS = {Level.TRACE: "35", Level.DEBUG: "34", Level.INFO: "32", Level.WARN: "33", Level.ERROR: "31"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {10: "\\n", 13: "\\r", 9: "\\t"}


@dataclass(frozen=True, slots=True)
class Repeated(Event):
    """More events of a kind about the same thing came within a window than are worth a line each."""

    event: str
    about: str
    count: int
    seconds: float

    def __str__(self) -> str:
        about = f" for {self.about}" if self.about else ""
        return f"{self.event}{about}: {self.count:,} more within {self.seconds:.0f}s, not shown"


@dataclass(frozen=True, slots=True)
class LinesLost(Event):
    """The log's reader was too slow: lines were dropped instead of slowing the daemon down."""

    count: int

    def __str__(self) -> str:
        return f"{self.count:,} log lines were dropped: they were not read fast enough"


@dataclass(frozen=True, slots=True)
class Line:
    """An event that is to be logged, with its moment and its level (a summary has that of what it sums up)."""

    at: datetime
    event: Event
    level: Level


class Sink(Protocol):
    """Something that events are turned into; never blocks, never raises."""

    def take(self, event: Event) -> None: ...


class Telemetry:
    """Hands every event to every sink."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        """A ports.Emit."""
        for sink in self._sinks:
            sink.take(event)


# --- repeats ---------------------------------------------------------------------------------------------------------


Key = tuple[type[Event], str]


@dataclass(slots=True)
class _Window:
    since: float
    seen: int
    level: Level


class Repeats:
    """Lets through the first `most` events of a key in each window, and counts the others."""

    def __init__(self, *, most: int = MOST_REPEATS, window: float = REPEAT_WINDOW, keys: int = MOST_KEYS) -> None:
        self._most = most
        self._length = window
        self._keys = keys
        self._windows: OrderedDict[Key, _Window] = OrderedDict()

    def admit(self, event: Event, now: float) -> bool:
        """Whether the event deserves a line of its own; call `ended` before."""
        window = self._windows.get(key := key_of(event))
        if window is None:
            window = self._windows[key] = _Window(now, 0, event.level)
        window.seen += 1
        return window.seen <= self._most

    def ended(self, now: float) -> list[tuple[Repeated, Level]]:
        """Summaries of the windows that are over, or too many; those that held nothing back end without one."""
        over = []
        while self._windows and (now >= self.deadline() or len(self._windows) > self._keys):
            key, window = self._windows.popitem(last=False)
            over.append((key, window))
        return [
            (Repeated(kind.__name__, about, window.seen - self._most, self._length), window.level)
            for (kind, about), window in over
            if window.seen > self._most
        ]

    def deadline(self) -> float:
        """When the oldest window is over."""
        oldest = next(iter(self._windows.values()), None)
        return math.inf if oldest is None else oldest.since + self._length


def key_of(event: Event) -> Key:
    """What makes events repetitions: their type and first field, which says what they are about."""
    first = next(iter(fields(event)), None)
    return type(event), "" if first is None else str(getattr(event, first.name))[:200]


# --- lines -----------------------------------------------------------------------------------------------------------


Render = Callable[[Line], str]


def render_text(line: Line) -> str:
    """`2026-01-31T12:00:00.000000Z  INFO caraway.dataset: message`, one line; a traceback follows indented."""
    return _text(line, f"{line.level.name:>5}")


def render_colour(line: Line) -> str:
    """As render_text, with the level in its colour and the moment dimmed."""
    return _text(line, f"\x1b[{_COLOURS[line.level]}m{line.level.name:>5}\x1b[0m", dim="\x1b[2m", plain="\x1b[0m")


def render_json(line: Line) -> str:
    """One JSON object: moment, level, target, event type, message and the event's fields."""
    import orjson

    event = line.event
    record = {
        "timestamp": _moment(line.at),
        "level": line.level.name,
        "target": event.target,
        "event": type(event).__name__,
        "message": _clean(str(event)),
        **{item.name: _plain(getattr(event, item.name)) for item in fields(event)},
    }
    return orjson.dumps(record).decode()


def _text(line: Line, level: str, *, dim: str = "", plain: str = "") -> str:
    message = _clean(str(line.event)).translate(_CONTROL)
    head = f"{dim}{_moment(line.at)}{plain} {level} {dim}{line.event.target}{plain}: {message}"
    trace: str = getattr(line.event, "traceback", "")
    return "\n".join([head, *("    " + row.translate(_CONTROL) for row in trace.splitlines())])


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(value: object) -> object:
    """A value as JSON; a Secret says `***` of itself, as whatever is not plain is told by its `str`."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    text = str(value)
    return _clean(text if len(text) <= LONGEST_FIELD else f"{text[:LONGEST_FIELD]}... ({len(text):,} characters)")


def _clean(text: str) -> str:
    """Text that can be encoded: file names may hold bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def utc_now() -> datetime:
    return datetime.now(UTC)


# --- the log ---------------------------------------------------------------------------------------------------------


class Log:
    """A sink that writes lines to a stream from a task of its own, so that a stream that blocks delays nobody.

    Lines wait in a bounded queue; what does not fit is counted and said later. Before `run` starts and after it
    ended, `flush` writes what waits. Without a `level` the pod's `runtime.output_level` decides.
    """

    def __init__(
        self,
        stream: TextIO,
        render: Render,
        *,
        level: Level | None = None,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._render = render
        self._fixed = level is not None
        self._level = Level.INFO if level is None else level
        self._now = now
        self._clock = clock
        self._repeats = Repeats()
        self._waiting: deque[Line] = deque()
        self._lost = 0
        self._arrived = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._usable = True

    def take(self, event: Event) -> None:
        """Queue the event's line; may be called from any thread."""
        if isinstance(event, DaemonStarted) and not self._fixed:
            self._level = OUTPUT_LEVELS.get(event.output_level, self._level)
        if event.level < self._level:
            return
        if len(self._waiting) >= LONGEST_QUEUE:
            self._lost += 1
            return
        self._waiting.append(Line(self._now(), event, event.level))
        token = self._token
        if token is not None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._arrived.set()

    async def run(self) -> None:
        """Write lines as they come, until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            while True:
                self._arrived = trio.Event()
                if text := self._drain(self._clock()):
                    await self._write_in_thread(text)
                    continue
                with trio.move_on_after(max(0.0, self._repeats.deadline() - self._clock())):
                    await self._arrived.wait()
        finally:
            self._token = None

    def flush(self) -> None:
        """Write all that waits, and the summaries that the end brings."""
        self._write(self._drain(self._clock()) + self._drain(math.inf))

    def _drain(self, now: float) -> str:
        """The text of all lines that are due, and the queue empty."""
        lines = [Line(self._now(), event, level) for event, level in self._repeats.ended(now)]
        while self._waiting:
            line = self._waiting.popleft()
            if self._repeats.admit(line.event, now):
                lines.append(line)
        if self._lost:
            lines.append(Line(self._now(), LinesLost(self._lost), Level.WARN))
            self._lost = 0
        return "".join(self._render(line) + "\n" for line in lines)

    async def _write_in_thread(self, text: str) -> None:
        """Write in a thread; once cancelled, give a stream that nobody reads a second and leave the thread to it."""
        finished = trio.Event()
        patience = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hurry_on_cancel, finished, patience)
            with patience:
                await trio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)
            self._usable = self._usable and not patience.cancelled_caught
            finished.set()

    def _write(self, text: str) -> None:
        if not self._usable or not text:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone, or the stream closed: there is nobody left to tell
            self._usable = False


async def _hurry_on_cancel(finished: trio.Event, patience: trio.CancelScope) -> None:
    try:
        await finished.wait()
    except trio.Cancelled:
        patience.deadline = trio.current_time() + 1.0
        raise


def log_to(stream: TextIO, *, verbosity: int, env: Mapping[str, str]) -> Log:
    """A log for a stream: in colours on a terminal (NO_COLOR forbids them), JSON elsewhere.

    The level comes from -v and -vv, else from SPICED_LOG, else from the pod.
    """
    asked = {1: Level.DEBUG}.get(verbosity, Level.TRACE) if verbosity else _level_named(env.get("SPICED_LOG", ""))
    if not stream.isatty():
        return Log(stream, render_json, level=asked)
    return Log(stream, render_text if env.get("NO_COLOR") else render_colour, level=asked)


def _level_named(text: str) -> Level | None:
    """The level that stands alone in a filter like `info,caraway.query=debug`; the rest is not understood."""
    names = {"error": Level.ERROR, "warn": Level.WARN, "info": Level.INFO, "debug": Level.DEBUG, "trace": Level.TRACE}
    return next((names[part] for part in text.lower().replace(" ", "").split(",") if part in names), None)
