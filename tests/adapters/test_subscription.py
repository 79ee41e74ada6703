"""The listening end of a subscription on a clock that jumps: whose silence counts and for how long, and the count."""

import asyncio
from dataclasses import dataclass, field

import grpc.aio
import pyarrow as pa
import pytest

from caraway.core.position import encode as cursor_of
from caraway.errors import SourceError
from caraway.flight.changes import ChangeEncoder
from caraway.flight.codec import encode
from caraway.flight.subscription import COUNT_SECONDS, listen
from caraway.model import Append, Arrival, Phase, Position
from support import jumping_loop
from support.flight import messages_of
from support.spice_upstream import KEYS, envelope

SILENCE = 10.0
ROWS = pa.record_batch({"id": [1, 2]})
BEAT = Arrival((), Phase.HEARTBEAT, cursor_of(Position("e1", 3)))
FIRST_OF_SPICE, COPY_OF_SPICE = [
    encode(message) for message in messages_of(envelope("r", pa.nulls(2, KEYS), ROWS.to_struct_array()))
]
NEWS_OF_SPICE = encode(messages_of(envelope("c", pa.nulls(2, KEYS), ROWS.to_struct_array()))[1])
(BEAT_OF_OURS,) = ChangeEncoder(ROWS.schema, ()).encode(BEAT)


@dataclass
class Call:
    """A call as gRPC gives it: messages at their times, then its end."""

    messages: list
    ends: float | None = None
    cancelled: bool = False

    async def read(self):
        at, message = self.messages.pop(0) if self.messages else (self.ends, grpc.aio.EOF)
        if at is None:
            await asyncio.Event().wait()
        await asyncio.sleep(at - _now())
        return message

    def cancel(self):
        self.cancelled = True


@dataclass
class Reader:
    """What was put, and when; each takes `seconds`."""

    seconds: float = 0.0
    seen: list = field(default_factory=list)

    async def put(self, arrival):
        self.seen.append((_now(), arrival))
        await asyncio.sleep(self.seconds)


def _now():
    return asyncio.get_running_loop().time()


def gone():
    return SourceError(f"silent at {_now():.0f}")


def heard(call, reader=None, count=None):
    """What a reader got of a call; an error of the stream comes last."""
    reader = reader or Reader()

    async def main():
        try:
            await listen(call, reader.put, gone, SILENCE, count)
        except SourceError as error:
            reader.seen.append((_now(), str(error)))

    jumping_loop.run(main())
    assert call.cancelled
    return reader.seen


def test_a_peer_that_promised_heartbeats_is_gone_after_the_silence():
    call = Call([(1, BEAT_OF_OURS), (3, BEAT_OF_OURS), (12.9, BEAT_OF_OURS)])
    assert heard(call) == [(1, BEAT), (3, BEAT), (12.9, BEAT), (22.9, "silent at 23")]


def test_a_first_word_may_take_as_long_as_it_does():
    assert heard(Call([(100, BEAT_OF_OURS)])) == [(100, BEAT), (110, "silent at 110")]


def test_a_spice_promised_nothing():
    call = Call([(0, FIRST_OF_SPICE), (3600, COPY_OF_SPICE)], ends=86_400)
    assert heard(call) == [(3600, Arrival((Append(ROWS),)))]


def test_the_silence_of_a_reader_that_stands_still_is_its_own():
    call = Call([(1, BEAT_OF_OURS), (2, BEAT_OF_OURS)], ends=3)
    assert heard(call, Reader(seconds=100)) == [(1, BEAT), (101, BEAT)]


def test_an_empty_message_of_a_peer_is_a_sign_of_life():
    call = Call([(1, BEAT_OF_OURS), (10, b""), (19, b"")])
    assert heard(call)[-1] == (29, "silent at 29")


@pytest.mark.parametrize(("at", "told"), [(0.5, True), (COUNT_SECONDS - 1, True), (COUNT_SECONDS + 1, False)])
def test_a_count_is_told_once_it_comes_unless_it_takes_too_long(at, told):
    async def count():
        await asyncio.sleep(at)
        return 2

    call = Call([(0, FIRST_OF_SPICE), (0, COPY_OF_SPICE)], ends=1000)
    expected = [(at, Arrival(expected=2))] if told else []
    assert heard(call, count=count) == [(0, Arrival((Append(ROWS),))), *expected]


def test_news_make_the_count_needless():
    stopped = []

    async def count():
        try:
            await asyncio.sleep(30)
        finally:
            stopped.append(_now())
        return 2

    call = Call([(0, FIRST_OF_SPICE), (0, COPY_OF_SPICE), (5, NEWS_OF_SPICE)], ends=1000)
    assert [arrival.phase for _, arrival in heard(call, count=count)] == [None, Phase.LIVE]
    assert stopped == [5]


def test_a_stream_that_ends_ends_the_count():
    stopped = []

    async def count():
        try:
            await asyncio.sleep(30)
        finally:
            stopped.append(_now())

    heard(Call([(0, FIRST_OF_SPICE), (0, COPY_OF_SPICE)], ends=3), count=count)
    assert stopped == [3]


def test_a_count_that_fails_is_no_word():
    async def count():
        raise SourceError("no queries here")

    call = Call([(0, FIRST_OF_SPICE), (0, COPY_OF_SPICE)], ends=3)
    assert heard(call, count=count) == [(0, Arrival((Append(ROWS),)))]


def test_our_own_copies_are_not_counted():
    async def count():
        raise AssertionError

    assert heard(Call([(0, BEAT_OF_OURS)], ends=3), count=count) == [(0, BEAT)]


def test_cancelling_ends_the_call():
    async def main():
        call = Call([(1, BEAT_OF_OURS)])
        task = asyncio.create_task(listen(call, Reader().put, gone, SILENCE, None))
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return call

    assert jumping_loop.run(main()).cancelled
