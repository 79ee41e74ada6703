"""A WebSocket as a source: real servers on loopback, and its clockwork on a virtual clock."""

import json
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import wrap_server_stream

from caraway.config.model import ColumnDecl, Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.websocket.address import parse_address
from caraway.connectors.websocket.connection import Peer, connected, dial
from caraway.connectors.websocket.inbox import MOST_BYTES
from caraway.connectors.websocket.open import open_websocket_source
from caraway.errors import ConfigError, SourceError
from caraway.events import MessagesRefused, RowsRepeated
from caraway.model import Append, Cursor, Phase, ReadRequest, Secret
from caraway.secrets import Secrets
from support.certificates import PrivateCa
from support.fuzz import fuzz
from support.websocket import raw, serving, stay, telling

COLUMNS = (ColumnDecl("id", "bigint"), ColumnDecl("text", "text"))
TOKEN = "tok-s3cret"


class Store:
    def get(self, key):
        return Secret(TOKEN) if key == "TOKEN" else None


@pytest.fixture
def events():
    return []


@pytest.fixture
def source(events, tmp_path):
    async def opened(url, **params):
        secrets = Secrets({"env": Store()})
        dataset = Dataset("events", FromUri(url.partition(":")[0], url, url), columns=COLUMNS)
        named = {f"ws_{name}": value for name, value in params.items()}
        return await open_websocket_source(
            dataset, ConnectorParams(named, secrets, "events"), events.append, directory=tmp_path
        )

    return opened


def rows_of(arrival):
    assert arrival.phase is Phase.LIVE
    assert all(isinstance(change, Append) for change in arrival.changes)
    return [row for change in arrival.changes for row in change.rows.to_pylist()]


async def ids(arrivals, count):
    """The ids that come until there are so many."""
    found = []
    with trio.fail_after(10):
        async for arrival in arrivals:
            found += [row["id"] for row in rows_of(arrival)]
            if len(found) >= count:
                return found
    return found


async def failure(source, cursor=None):
    """What following ends with, once it does."""

    async def follow():
        async with source.follow(cursor) as arrivals:
            async for _ in arrivals:
                pass

    with trio.fail_after(10), pytest.raises(SourceError) as caught:
        await follow()
    error = caught.value
    assert TOKEN not in f"{error} {error!r} {source!r}"
    assert error.remedy
    return error


# --- what comes ------------------------------------------------------------------------------------------------------


async def test_rows_come_as_they_are_sent(source):
    async with serving(telling('{"id": 1, "text": "a"}', '[{"id": 2}, {"id": 3}]', b'{"id": 4}\n{"id": 5}')) as server:
        following = await source(server.url)
        assert await following.schema() == pa.schema([("id", pa.int64()), ("text", pa.utf8())])
        async with following.follow(None) as arrivals:
            assert await ids(arrivals, 5) == [1, 2, 3, 4, 5]


async def test_a_connection_is_told_of_before_the_first_row(source):
    async with serving(stay) as server, (await source(server.url)).follow(None) as arrivals:
        first = await anext(arrivals)
        assert (first.changes, first.phase, first.cursor, first.mark) == ((), Phase.LIVE, None, None)


async def test_a_burst_becomes_few_arrivals(source):
    messages = [json.dumps({"id": number}) for number in range(2_000)]
    async with serving(telling(*messages)) as server, (await source(server.url)).follow(None) as arrivals:
        counts = []
        with trio.fail_after(10):
            while sum(counts) < 2_000:
                counts.append(len(rows_of(await anext(arrivals))))
        assert len(counts) < 500


async def test_the_handshake_carries_what_is_asked_for(source):
    params = {
        "headers": "Authorization: Bearer ${secrets:TOKEN}\n\nX-Client: edge: 7, a\n",
        "subprotocol": "events.v2, events.v1",
        "first_message": '{"subscribe": "all", "key": "${secrets:TOKEN}"}',
    }
    said = []

    async def talk(connection):
        said.append(await connection.get_message())
        await stay(connection)

    async with serving(talk, subprotocol="events.v1") as server:
        following = await source(f"{server.url}/feed/a?b=c%20d", **params)
        async with following.follow(None) as arrivals:
            await anext(arrivals)
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert server.requests[0].path == "/feed/a?b=c%20d"
        assert server.requests[0].proposed_subprotocols == ("events.v2", "events.v1")
        assert server.header("Authorization") == f"Bearer {TOKEN}"
        assert server.header("X-Client") == "edge: 7, a"
        assert server.requests[0]._event.host == f"127.0.0.1:{server.port}"
    assert said == [f'{{"subscribe": "all", "key": "{TOKEN}"}}']
    assert TOKEN not in repr(following)
    assert TOKEN not in repr(following._peer)
    assert "b=c" not in repr(following)


async def test_messages_that_do_not_fit_are_counted_and_told_of_once(source, events):
    bad = ['{"id": "x"}', "nonsense", '{"id": 1.5}']
    async with serving(telling('{"id": 1}', *bad, '{"id": 2}', *bad, '{"id": 3}')) as server:
        following = await source(server.url)
        async with following.follow(None) as arrivals:
            skipped, found = 0, []
            with trio.fail_after(10):
                while len(found) < 3:
                    arrival = await anext(arrivals)
                    skipped += arrival.skipped
                    found += [row["id"] for row in rows_of(arrival)]
            assert (found, skipped) == ([1, 2, 3], 6)
    (event,) = events
    assert isinstance(event, MessagesRefused)
    assert "column 'id' is int64, which \"x\" is not" in str(event)


# --- a sequence ------------------------------------------------------------------------------------------------------


def numbered(*numbers):
    return [json.dumps({"id": number}) for number in numbers]


async def test_a_sequence_resumes_without_repeating(source, events):
    async with serving(telling(*numbered(1, 2, 3))) as server:
        following = await source(f"{server.url}/?after={{cursor}}", sequence_field="id", sequence_start="-1")
        async with following.follow(None) as arrivals:
            cursor = None
            with trio.fail_after(10):
                while cursor is None or following._sequence.decode(cursor) < 3:
                    cursor = (await anext(arrivals)).cursor
        assert server.requests[0].path == "/?after=-1"
    assert json.loads(cursor) == {"column": "id", "sequence": 3}
    async with serving(telling(*numbered(2, 3), '[{"id": 3}, {"id": 4}]', *numbered(6, 5))) as server:
        following = await source(f"{server.url}/?after={{cursor}}", sequence_field="id")
        async with following.follow(cursor) as arrivals:
            first = await anext(arrivals)
            assert (first.changes, first.cursor) == ((), cursor)
            found, last = [], None
            with trio.fail_after(10):
                while len(found) < 3:
                    last = await anext(arrivals)
                    found += [row["id"] for row in rows_of(last)]
            assert found == [4, 6, 5]
            assert json.loads(last.cursor)["sequence"] == 6
        assert server.requests[0].path == "/?after=3"
    assert isinstance(events[0], RowsRepeated)
    assert "not above 3" in str(events[0])


async def test_the_first_message_names_the_sequence(source):
    said = []

    async def talk(connection):
        said.append(await connection.get_message())
        await stay(connection)

    async with serving(talk) as server:
        following = await source(server.url, sequence_field="id", first_message='{"after": {cursor}}')
        for cursor in (None, Cursor('{"column":"id","sequence":41}')):
            async with following.follow(cursor) as arrivals:
                await anext(arrivals)
                await trio.testing.wait_all_tasks_blocked(0.05)
    assert said == ['{"after": 0}', '{"after": 41}']


@pytest.mark.parametrize(
    "cursor", ["", "x", "[]", '{"column":"other","sequence":9}', '{"column":"id","sequence":"9"}', '{"column":"id"}']
)
async def test_a_cursor_of_something_else_counts_for_nothing(source, cursor):
    async with serving(telling(*numbered(1, 2))) as server:
        following = await source(server.url, sequence_field="id")
        async with following.follow(Cursor(cursor)) as arrivals:
            assert await ids(arrivals, 2) == [1, 2]


async def test_a_row_without_its_sequence_is_refused(source):
    async with serving(telling('{"text": "a"}', '{"id": null}', '{"id": 1}')) as server:
        following = await source(server.url, sequence_field="id")
        async with following.follow(None) as arrivals:
            assert await ids(arrivals, 1) == [1]


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "code", "words", "after"),
    [
        (401, [], "Unauthorized", "did not accept the credentials (HTTP 401)", 30),
        (403, [], "PermissionDenied", "does not permit", 30),
        (404, [], "NotFound", "nothing at this path", 30),
        (410, [], "NotFound", "any more", 30),
        (429, [(b"Retry-After", b"7")], "TooManyRequests", "come later", 7),
        (503, [(b"Retry-After", b"soon")], "ServiceUnavailable", "not available", None),
        (500, [], "ServiceUnavailable", "failed (HTTP 500)", None),
        (302, [(b"Location", b"http://elsewhere")], "Redirected", "redirects", 30),
        (418, [], "NoWebSocket", "does not speak WebSocket here (HTTP 418)", 30),
    ],
)
@pytest.mark.parametrize("body", [None, b"some words"])
async def test_a_handshake_that_is_refused(source, status, headers, code, words, after, body):
    async with serving(stay, reject=status, headers=headers, body=body) as server:
        error = await failure(await source(f"{server.url}/p?key=value", headers="A: ${secrets:TOKEN}"))
        assert words in error.message
        assert f"{server.url}/p" in error.message
        assert "key=value" not in str(error)
        assert (error.code, error.retry_after, error.transient) == (code, after, True)


async def answering(stream, *, text):
    with suppress(trio.BrokenResourceError):
        await stream.receive_some()
        if text is not None:
            await stream.send_all(text)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, "NoWebSocket", "something else"),
        (b"", "NoWebSocket", "something else"),
        (b"220 mail ready\r\n\r\n", "NoWebSocket", "something else"),
        (b"\x00\x00\x12\x04\x00\x00", "NoWebSocket", "something else"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "NoWebSocket", "HTTP 200"),
        (b"HTTP/1.1 401 No\r\n\r\nuntil the end", "Unauthorized", "HTTP 401"),
        (b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "NoWebSocket", "something else"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 200_000, "ServiceUnavailable", "HTTP 503"),
    ],
)
async def test_what_is_no_websocket(source, text, code, words):
    async with raw(partial(answering, text=text)) as port:
        error = await failure(await source(f"ws://127.0.0.1:{port}"))
    assert error.code == code
    assert words in error.message


async def test_nobody_listens(source):
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        error = await failure(await source(f"ws://127.0.0.1:{taken.getsockname()[1]}/p"))
    assert "Connection refused" in error.message
    assert error.code == "UnableToConnectToServer"


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".invalid"])
async def test_a_name_that_does_not_resolve(source, host):
    error = await failure(await source(f"ws://{host}/p"))
    assert "its name" in error.message
    assert host in error.message


def closing(code, reason=None):
    async def talk(connection):
        await connection.send_message('{"id": 1}')
        await connection.aclose(code, reason)

    return talk


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_server_that_is_done_ends_the_iteration(source, code):
    async with serving(closing(code)) as server, (await source(server.url)).follow(None) as arrivals:
        assert await ids(arrivals, 2) == [1]


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (1008, "key expired", "code 1008: key expired"),
        (1011, None, "code 1011"),
        (4001, "line\nbreak", "code 4001."),
        (1013, "busy", "busy"),
    ],
)
async def test_a_server_that_gives_a_reason_for_the_end(source, code, reason, words):
    async with serving(closing(code, reason)) as server:
        error = await failure(await source(server.url))
    assert words in error.message
    assert error.code == "Closed"


async def test_a_connection_that_is_cut(source):
    async def talk(connection):
        await connection.send_message('{"id": 1}')
        await trio.sleep(0.05)
        await connection._stream.aclose()

    async with serving(talk) as server:
        error = await failure(await source(server.url))
    assert "broke" in error.message
    assert error.code == "ConnectionLost"


async def test_a_message_beyond_the_limit(source):
    async with serving(telling('{"id": 1}', json.dumps({"id": 2, "text": "x" * 2_000}))) as server:
        error = await failure(await source(server.url, max_message_size="1KB"))
    assert error.code == "MessageSizeExceeded"
    assert "1000 bytes" in error.message
    assert "ws_max_message_size" in error.remedy


@pytest.fixture(scope="module")
def authority():
    return PrivateCa()


@pytest.fixture(scope="module")
def tls(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    pair = authority.issue("127.0.0.1")
    (folder / "cert.pem").write_bytes(pair.certificate)
    (folder / "key.pem").write_bytes(pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_tls_with_the_right_ca(source, authority, tls, tmp_path):
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    async with serving(telling('{"id": 1}'), tls=tls) as server:
        following = await source(server.url, tls_ca_certificate_file="ca.pem")
        async with following.follow(None) as arrivals:
            assert await ids(arrivals, 1) == [1]


async def test_tls_with_another_ca(source, tls, tmp_path):
    (tmp_path / "ca.pem").write_bytes(PrivateCa("other").pem)
    async with serving(stay, tls=tls) as server:
        error = await failure(await source(server.url, tls_ca_certificate_file="ca.pem"))
    assert "TLS handshake" in error.message
    assert "certificate" in error.message
    assert "ws_tls_ca_certificate_file" in error.remedy


async def test_tls_where_none_is_spoken(source):
    async with serving(stay) as server:
        error = await failure(await source(server.url.replace("ws://", "wss://")))
    assert "does not speak TLS" in error.message


# --- bounds and the clock --------------------------------------------------------------------------------------------


async def test_what_is_not_taken_waits_at_the_server(source):
    sent = 0
    text = json.dumps({"id": 1, "text": "x" * 10_000})

    async def talk(connection):
        nonlocal sent
        while True:
            await connection.send_message(text)
            sent += len(text)

    async with serving(talk) as server, (await source(server.url)).follow(None) as arrivals:
        await anext(arrivals)
        before = -1
        with trio.fail_after(20):
            while before != sent:
                before = sent
                await trio.sleep(0.3)
        assert MOST_BYTES < sent < 16 * 1024**2  # the rest is what the kernel holds
        assert rows_of(await anext(arrivals))


class Wire:
    """A peer in memory: the far end of the stream that a dial gives."""

    def __init__(self):
        self.near, self.far = trio.testing.memory_stream_pair()

    @asynccontextmanager
    async def dial(self, peer, until):
        yield self.near


PEER = Peer(parse_address("ws://h/p"))


async def accepted(nursery, wire):
    request = await wrap_server_stream(nursery, wire.far)
    return await request.accept()


async def test_a_server_that_says_nothing_is_alive_while_it_answers_pings(autojump_clock):
    wire = Wire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accepted, nursery, wire)
        async with connected(PEER, "", wire.dial) as inbox:
            with trio.move_on_after(600) as scope:
                await inbox.take()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("interval", "noticed"), [(5.0, 12), (60.0, 67)])
async def test_a_server_that_freezes_is_dead_soon(autojump_clock, interval, noticed):
    wire = Wire()

    async def freezing():
        async with trio.open_nursery() as inner:
            server = await accepted(inner, wire)
            await server.send_message("x")
            inner.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(freezing)
        async with connected(replace(PEER, ping_interval=interval), "", wire.dial) as inbox:
            assert await inbox.take() == ["x"]
            began = trio.current_time()
            with pytest.raises(SourceError, match=f"silent for {noticed} s") as caught:
                await inbox.take()
            assert trio.current_time() - began == pytest.approx(noticed)
        assert caught.value.code == "ConnectionLost"
        assert trio.current_time() - began == pytest.approx(noticed)


async def test_without_pings_silence_proves_nothing(autojump_clock):
    wire = Wire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accepted, nursery, wire)
        async with connected(replace(PEER, ping_interval=0), "", wire.dial) as inbox:
            with trio.move_on_after(86_400) as scope:
                await inbox.take()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_who_takes_slowly_does_not_take_the_server_for_dead(autojump_clock):
    wire = Wire()

    async def talk():
        async with trio.open_nursery() as inner:
            server = await accepted(inner, wire)
            for number in range(4):
                await server.send_message(str(number) * MOST_BYTES)
            await stay(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        async with connected(replace(PEER, max_message_size=MOST_BYTES), "", wire.dial) as inbox:
            for number in range(4):
                await trio.sleep(100)
                assert [message[0] for message in await inbox.take()] == [str(number)]
        nursery.cancel_scope.cancel()


async def test_a_handshake_that_never_ends(autojump_clock):
    with pytest.raises(SourceError, match="did not complete the handshake within 12 s"):
        async with connected(PEER, "", Wire().dial):
            pass
    assert trio.current_time() == pytest.approx(12)


CLOSE, PING = b"\x88\x02\x03\xe8", b"\x89\x00"


async def test_a_server_that_pings_after_its_end(autojump_clock):
    wire = Wire()

    async def talk():
        async with trio.open_nursery() as inner:
            await accepted(inner, wire)
            inner.cancel_scope.cancel()
        await wire.far.send_all(CLOSE + PING)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        async with connected(PEER, "", wire.dial) as inbox:
            assert await inbox.take() == []


async def test_a_server_that_pings_while_it_is_left(autojump_clock):
    wire = Wire()

    async def talk():
        async with trio.open_nursery() as inner:
            await accepted(inner, wire)
            inner.cancel_scope.cancel()
        await trio.sleep(1)
        await wire.far.send_all(PING)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        async with connected(PEER, "", wire.dial):
            await trio.sleep(0.95)


async def test_leaving_a_frozen_server_takes_a_moment(autojump_clock):
    wire = Wire()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(accepted, nursery, wire)
            async with connected(PEER, "", wire.dial):
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                began = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 200, 1000])
async def test_cancelled_at_any_step_it_closes_its_socket(steps):
    streams = []

    @asynccontextmanager
    async def recorded(peer, until):
        async with dial(peer, until) as stream:
            streams.append(stream)
            yield stream

    async def follow(peer):
        async with connected(peer, "", recorded) as inbox:
            while True:
                await inbox.take()

    async with serving(telling(*numbered(*range(5)))) as server, trio.open_nursery() as nursery:
        nursery.start_soon(follow, replace(PEER, address=parse_address(server.url)))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert all(stream.socket.fileno() == -1 for stream in streams)


async def test_an_error_of_the_body_comes_out_bare(source):
    async with serving(stay) as server:
        with pytest.raises(KeyError):
            async with (await source(server.url)).follow(None):
                raise KeyError


# --- anything at all -------------------------------------------------------------------------------------------------


def frames():
    """Bytes that are frames more or less: an opcode, a length, a payload."""
    payload = st.binary(max_size=130)
    opcode = st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A, 0x8B, 0xC1, 0x00])

    def frame(opcode, payload):
        size = bytes([len(payload)]) if len(payload) < 126 else bytes([126]) + len(payload).to_bytes(2, "big")
        return bytes([opcode]) + size + payload

    rows = st.sampled_from([b'{"id":1}', b'[{"id":2}]', b"\x03\xe8bye", b"\x03\xf0"])
    return st.lists(st.builds(frame, opcode, payload | rows) | st.binary(max_size=20), max_size=8).map(b"".join)


@fuzz(60)
@given(frames())
def test_any_bytes_are_rows_an_end_or_a_source_error(data):
    async def main():
        wire = Wire()

        async def talk():
            async with trio.open_nursery() as inner:
                await accepted(inner, wire)
                inner.cancel_scope.cancel()
            with suppress(trio.BrokenResourceError):
                await wire.far.send_all(data)
                await wire.far.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with suppress(SourceError), trio.fail_after(60):
                async with connected(PEER, "", wire.dial) as inbox:
                    while await inbox.take():
                        pass
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@fuzz(60)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f"HTTP/1.1 101 {text}\r\n\r\n".encode()))
def test_any_answer_to_the_handshake_is_a_source_error(data):
    async def main():
        wire = Wire()

        async def talk():
            with suppress(trio.BrokenResourceError):
                await wire.far.send_all(data)
                await wire.far.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with pytest.raises(SourceError):
                async with connected(PEER, "", wire.dial):
                    pass
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# --- what a pod says -------------------------------------------------------------------------------------------------


async def test_a_websocket_can_not_be_read(source):
    following = await source("ws://h/p")
    assert await following.version() is None
    with pytest.raises(SourceError, match="holds no rows"):
        async with following.read(ReadRequest()):
            pass
    await following.aclose()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://h", ("h", 80, False, "/", "ws://h/")),
        ("wss://h", ("h", 443, True, "/", "wss://h/")),
        ("ws://h:1/p?q", ("h", 1, False, "/p?q", "ws://h:1/p")),
        ("wss://[::1]:8443/a/{cursor}/b?c={cursor}", ("::1", 8443, True, "/a/{cursor}/b?c={cursor}", "")),
        ("ws://h:80?q", ("h", 80, False, "/?q", "ws://h/")),
    ],
)
def test_addresses(url, address):
    found = parse_address(url)
    assert (found.host, found.port, found.secure, found.resource) == address[:4]
    assert str(found) == (address[4] or "wss://[::1]:8443/a/{cursor}/b")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ws://u:pw-s3cret@h/p", "can't hold a user"),
        ("ws://h/p?key=${secrets:TOKEN}", "ws_headers"),
        ("ws:h/p", "expected ws://"),
        ("http://h/p", "expected ws://"),
        ("ws:///p", "names no host"),
        ("ws://h:0/p", "1 to 65535"),
        ("ws://h:99999/p", "1 to 65535"),
        ("ws://h:x/p", "1 to 65535"),
        ("ws://h/p#part", "from # on"),
        ("ws://h/a b", "%20"),
        ("ws://hé/", "unusual"),
        ("ws://[::1/p", "IPv6"),
        ("ws://h/p?after={cursor}", "ws_sequence_field"),
    ],
)
async def test_addresses_that_mean_nothing(source, url, words):
    with pytest.raises(ConfigError) as caught:
        await source(url)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.problems[0].key == "datasets[events].from"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"headers": "no colon"}, "each line is a header"),
        ({"headers": "${secrets:TOKEN}"}, "each line is a header"),
        ({"headers": "a b: c"}, "each line is a header"),
        ({"headers": "Host: elsewhere"}, "Host is set by the handshake"),
        ({"headers": "sec-websocket-key: a"}, "set by the handshake"),
        ({"headers": "A: é${secrets:TOKEN}"}, "the value of A has characters"),
        ({"headers": "A: ${secrets:NONE}"}, "'NONE' was not found"),
        ({"subprotocol": "a, b c"}, "'b c' is not the name"),
        ({"sequence_field": "ID"}, "no column 'ID'; declared: id, text"),
        ({"sequence_field": "text"}, "'text' is string"),
        ({"sequence_field": "id", "sequence_start": "x"}, "not a whole number"),
        ({"first_message": "{cursor}"}, "needs ws_sequence_field"),
        ({"ping_interval": "1ms"}, "100ms to 1h"),
        ({"ping_interval": "often"}, "not a duration"),
        ({"max_message_size": "0"}, "greater than zero"),
        ({"tls_ca_certificate_file": "ca.pem"}, "needs wss://"),
    ],
)
async def test_parameters_that_can_not_be_kept(source, params, words):
    with pytest.raises(ConfigError) as caught:
        await source("ws://h/p", **params)
    assert words in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"no PEM", "no certificate")])
async def test_a_ca_that_is_none(source, tmp_path, content, words):
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        await source("wss://h/p", tls_ca_certificate_file="ca.pem")


async def test_columns_are_needed(events):
    bare = Dataset("events", FromUri("ws", "h", "ws://h"))
    with pytest.raises(ConfigError, match="tells no schema"):
        await open_websocket_source(bare, ConnectorParams({}, Secrets({}), "events"), events.append)
