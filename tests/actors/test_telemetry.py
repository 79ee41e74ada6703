"""Events to lines: form, level, repetitions, and a stream that nobody reads."""

import io
import json
import math
import os
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from caraway.events import ChildCrashed, DaemonStarted, Event, Level, QueryFinished, RefreshFailed, ServerListening
from caraway.model import Secret
from caraway.telemetry import (
    LONGEST_FIELD,
    LONGEST_QUEUE,
    Line,
    Log,
    Repeats,
    Telemetry,
    log_to,
    render_colour,
    render_json,
    render_text,
)

AT = datetime(2026, 1, 31, 12, 0, 0, 250, tzinfo=UTC)
LISTENING = ServerListening("http", "127.0.0.1:8090")


def failed(dataset: str = "orders") -> RefreshFailed:
    return RefreshFailed(dataset, "full", "no route", 1.0)


def log(stream, **options):
    return Log(stream, render_text, now=lambda: AT, **options)


def line(event: Event) -> Line:
    return Line(AT, event, event.level)


@dataclass(frozen=True, slots=True)
class KeyUsed(Event):
    key: Secret
    path: str

    def __str__(self) -> str:
        return f"key {self.key} for {self.path}"


def test_text_line():
    assert render_text(line(LISTENING)) == "2026-01-31T12:00:00.000250Z  INFO caraway: http listening on 127.0.0.1:8090"


def test_colour_marks_the_level():
    assert "\x1b[33m WARN\x1b[0m" in render_colour(line(failed()))


def test_a_failure_names_its_dataset_once():
    failure = RefreshFailed("orders", "full", "orders: the file is gone. Look for it.", 1.0)
    assert str(failure) == "Failed to refresh dataset orders: the file is gone. Look for it; next attempt in 1.0s"
    assert str(replace(failure, retry_in=None)).endswith("dataset orders: the file is gone. Look for it.")


def test_json_line_has_the_event_and_its_fields():
    assert json.loads(render_json(line(failed()))) == {
        "timestamp": "2026-01-31T12:00:00.000250Z",
        "level": "WARN",
        "target": "caraway.dataset",
        "event": "RefreshFailed",
        "message": "Failed to refresh dataset orders: no route; next attempt in 1.0s",
        "dataset": "orders",
        "mode": "full",
        "error": "no route",
        "retry_in": 1.0,
    }


@pytest.mark.parametrize("render", [render_text, render_colour, render_json])
def test_no_render_shows_a_secret(render):
    text = render(line(KeyUsed(Secret("hunter2"), "/v1/sql")))
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("render", [render_text, render_json])
def test_a_message_can_forge_no_line_and_no_escape_sequence(render):
    event = QueryFinished("select 1\n2026 INFO x: forged \x1b[31m\udcff", "http", "public", 1, 0.1)
    text = render(line(event))
    assert "\n" not in text
    assert "\x1b" not in text
    text.encode()


def test_a_traceback_follows_its_line():
    text = render_text(line(ChildCrashed("dataset orders", "KeyError: 1", "Traceback:\n  at x\n", 1.0)))
    assert text.splitlines()[1:] == ["    Traceback:", "      at x"]


def test_telemetry_hands_each_event_to_each_sink():
    streams = io.StringIO(), io.StringIO()
    logs = [log(stream) for stream in streams]
    Telemetry(*logs).emit(LISTENING)
    for each in logs:
        each.flush()
    assert streams[0].getvalue() == streams[1].getvalue() != ""


@pytest.mark.parametrize(
    ("fixed", "pod", "shown"),
    [(None, "info", False), (None, "verbose", True), (Level.INFO, "verbose", False), (Level.DEBUG, "info", True)],
)
def test_the_pods_level_counts_where_no_flag_does(fixed, pod, shown):
    stream = io.StringIO()
    made = log(stream, level=fixed)
    made.take(DaemonStarted("p", "1", pod))
    made.take(QueryFinished("select 1", "http", "public", 1, 0.1))
    made.flush()
    assert ("select 1" in stream.getvalue()) is shown


@pytest.mark.parametrize(
    ("verbosity", "filter_", "shows"),
    [
        (0, "", Level.INFO),
        (0, "warn,caraway.query=trace", Level.WARN),
        (1, "error", Level.DEBUG),
        (2, "", Level.TRACE),
        (3, "", Level.TRACE),
    ],
)
def test_flags_beat_the_environment(verbosity, filter_, shows):
    stream = io.StringIO()
    made = log_to(stream, verbosity=verbosity, env={"SPICED_LOG": filter_})
    for level in Level:
        made.take(type(f"At{level.name}", (Event,), {"level": level, "__str__": lambda self: "x"})())
    made.flush()
    assert [json.loads(row)["level"] for row in stream.getvalue().splitlines()] == [
        level.name for level in Level if level >= shows
    ]


def test_repeats_are_counted_and_summed_up():
    repeats = Repeats(most=3, window=10)
    assert [repeats.admit(failed(), 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert repeats.admit(failed("customers"), 1.0)
    assert repeats.deadline() == 10.0
    assert not repeats.ended(9.9)
    [(summary, level)] = repeats.ended(10.0)
    assert str(summary) == "RefreshFailed for orders: 2 more within 10s, not shown"
    assert level is Level.WARN
    assert repeats.deadline() == 11.0
    assert repeats.admit(failed(), 10.0)


def test_repeats_remember_a_bounded_number_of_keys():
    repeats = Repeats(most=1, window=10, keys=100)
    for number in range(1000):
        repeats.ended(0.0)
        repeats.admit(failed(f"d{number}"), 0.0)
        repeats.admit(failed(f"d{number}"), 0.0)
    left = repeats.ended(math.inf)
    assert len(left) == 101


async def written(stream: io.StringIO, rows: int) -> list[str]:
    """The stream's lines once there are `rows`; the clock stands still meanwhile, as threads know no virtual time."""
    for _ in range(500):
        if len(stream.getvalue().splitlines()) >= rows:
            break
        await trio.testing.wait_all_tasks_blocked(0.01)
    return stream.getvalue().splitlines()


async def test_a_summary_comes_when_its_window_ends(mock_clock):
    stream = io.StringIO()
    made = log(stream, clock=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        for _ in range(50):
            made.take(failed())
        assert len(await written(stream, 20)) == 20
        mock_clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(stream.getvalue().splitlines()) == 20
        mock_clock.jump(0.2)
        rows = await written(stream, 21)
        nursery.cancel_scope.cancel()
    assert rows[20].endswith(" WARN caraway: RefreshFailed for orders: 30 more within 10s, not shown")


async def test_lines_before_during_and_after_the_run_are_written_once():
    stream = io.StringIO()
    made = log(stream)
    made.take(ServerListening("a", "1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.take(ServerListening("b", "1"))
        await trio.to_thread.run_sync(made.take, ServerListening("c", "1"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    made.take(ServerListening("d", "1"))
    made.flush()
    assert [row.split(": ")[1][0] for row in stream.getvalue().splitlines()] == ["a", "b", "c", "d"]


class Stalled(io.StringIO):
    """A stream whose reader has stopped, until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait()
        return super().write(text)


async def test_a_stalled_stream_delays_neither_events_nor_the_end():
    stream = Stalled()
    made = log(stream)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            for number in range(LONGEST_QUEUE + 500):
                made.take(ServerListening(str(number), "1"))
                if number == 0:
                    await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    made.flush()
    stream.go.set()
    assert "9999 listening" not in stream.getvalue()


async def test_lost_lines_are_counted():
    stream = io.StringIO()
    made = log(stream)
    for number in range(LONGEST_QUEUE + 500):
        made.take(ServerListening(str(number), "1"))
    made.flush()
    assert "500 log lines were dropped" in stream.getvalue()


def test_a_closed_pipe_ends_the_log_and_nothing_else():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as stream:
        made = log(stream)
        made.take(LISTENING)
        made.flush()
        made.take(LISTENING)
        made.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_a_field_of_any_length_is_a_line_of_bounded_length():
    event = QueryFinished("select " + "x" * 10_000_000, "http", "public", 0, 1.0)
    text = render_json(Line(AT, event, event.level))
    assert len(text) < LONGEST_FIELD + 1000
    assert "(10,000,007 characters)" in text
