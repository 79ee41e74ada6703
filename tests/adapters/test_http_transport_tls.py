"""Who is trusted, who is let in, and what is said where no connection comes about: over real sockets."""

import socket
import ssl
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import pytest
import trio

from caraway.config.params import ConnectorParams
from caraway.connectors.http.transport import RateControls, Transport, TransportOptions, read_transport
from caraway.core.http_retry import RetryPolicy
from caraway.errors import ConfigError, SourceError
from caraway.model import HttpRequest
from caraway.secrets import Secrets
from support.certificates import PrivateCa
from support.origin import serving
from support.origin_wire import RESET

AUTHORITY = PrivateCa()
SERVER = AUTHORITY.issue("127.0.0.1")
CLIENT = AUTHORITY.issue("client")


@pytest.fixture
def folder(tmp_path):
    files = {"ca.pem": AUTHORITY.pem, "other.pem": PrivateCa("other").pem, "no.pem": b"none"}
    files |= {"cert.pem": CLIENT.certificate, "key.pem": CLIENT.key, "foreign.pem": AUTHORITY.issue("x").key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@asynccontextmanager
async def opened(url, folder, **params):
    named = {"max_retries": "0", **params}
    options = await read_transport(ConnectorParams(named, Secrets({}), "api"), url, directory=folder)
    transport = Transport(options, RateControls(lambda _: None), "api")
    try:
        yield transport
    finally:
        await transport.aclose()


async def ask(url, folder, **params):
    async with opened(url, folder, **params) as transport:
        return await transport.send(HttpRequest("GET", f"{url}/x"))


CA = {"http_tls_ca_certificate_file": "ca.pem"}
FILES = {"http_tls_client_certificate_file": "cert.pem", "http_tls_client_key_file": "key.pem"}
INLINE = {"http_tls_client_certificate": CLIENT.certificate.decode(), "http_tls_client_key": CLIENT.key.decode()}


async def test_a_private_ca_is_trusted_where_it_is_named(folder):
    async with serving(tls=SERVER) as origin:
        origin.put("/x", body="there")
        assert (await ask(origin.url, folder, **CA)).body == b"there"


@pytest.mark.parametrize("params", [{}, {"http_tls_ca_certificate_file": "other.pem"}])
async def test_others_are_not_trusted_and_not_asked_again(folder, params):
    async with serving(tls=SERVER) as origin:
        with pytest.raises(SourceError, match="has a certificate that is refused") as caught:
            await ask(origin.url, folder, **params, max_retries="9")
        assert "http_tls_ca_certificate_file" in caught.value.remedy
        assert origin.connections == 1


async def test_a_certificate_for_another_host_is_told_apart(folder):
    async with serving(tls=AUTHORITY.issue("other.test")) as origin:
        with pytest.raises(SourceError, match="mismatch") as caught:
            await ask(origin.url, folder, **CA)
        assert caught.value.remedy == "Check the address in `from`: the certificate names others."


@pytest.mark.parametrize("params", [FILES, INLINE])
async def test_a_client_shows_who_it_is(folder, params):
    async with serving(tls=SERVER, client_ca=AUTHORITY.pem) as origin:
        origin.put("/x", body="there")
        assert (await ask(origin.url, folder, **CA, **params)).body == b"there"


async def test_a_client_without_a_certificate_is_told_to_have_one(folder):
    refused = "did not accept our client certificate, or wants one"
    with demanding(folder) as url, pytest.raises(SourceError, match=refused) as caught:
        await ask(url, folder, **CA)
    assert "http_tls_client_certificate_file" in caught.value.remedy


@contextmanager
def demanding(folder):
    """A server that wants a client's certificate and says so, which trio's do not; for one connection."""
    (folder / "server.pem").write_bytes(SERVER.certificate + SERVER.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=AUTHORITY.pem.decode())
    context.load_cert_chain(folder / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def serve():
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with suppress(ssl.SSLError):
                secured.do_handshake()
            socket.socket.shutdown(secured, socket.SHUT_WR)
            while socket.socket.recv(secured, 65536):  # a close with unread bytes would be a reset, before the alert
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


async def test_tls_where_there_is_none_and_none_where_there_is(folder):
    async with serving() as plain, serving(tls=SERVER) as secure:
        for url in (plain.url.replace("http:", "https:"), secure.url.replace("https:", "http:")):
            with pytest.raises(SourceError) as caught:
                await ask(url, folder)
            remedy = caught.value.remedy
            assert "https:// where the server speaks TLS" in remedy or "proxies in between" in remedy


@pytest.mark.parametrize(
    ("params", "name", "words"),
    [
        ({"http_tls_ca_certificate_file": "none.pem"}, "http_tls_ca_certificate_file", "can't be read: No such file"),
        ({"http_tls_ca_certificate_file": "no.pem"}, "http_tls_ca_certificate_file", "holds no certificate"),
        ({**FILES, **INLINE}, "http_tls_client_certificate", "http_tls_client_certificate_file is set as well"),
        ({"http_tls_client_key_file": "key.pem"}, "http_tls_client_certificate_file", "set both"),
        ({"http_tls_client_certificate": "x"}, "http_tls_client_key", "set both"),
        ({**FILES, "http_tls_client_key_file": "foreign.pem"}, "http_tls_client_key_file", "not the key of"),
        ({**FILES, "http_tls_client_key_file": "cert.pem"}, "http_tls_client_key_file", "holds no private key"),
        ({**INLINE, "http_tls_client_certificate": "nonsense"}, "http_tls_client_certificate", "can't be used with"),
    ],
)
async def test_mistakes_name_the_parameter(folder, params, name, words):
    with pytest.raises(ConfigError, match=words) as caught:
        await ask("https://127.0.0.1:1", folder, **params)
    assert caught.value.problems[0].key == f"datasets[api].params.{name}"
    assert CLIENT.key.decode().splitlines()[1] not in str(caught.value)


async def test_tls_needs_https(folder):
    with pytest.raises(ConfigError, match="this needs https://"):
        await ask("http://127.0.0.1:1", folder, **CA)


def unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def test_nobody_listens(folder):
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(SourceError, match=rf"{url} can't be reached: Connection refused") as caught:
        await ask(url, folder)
    assert "no firewall" in caught.value.remedy
    assert caught.value.transient


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 64 + ".invalid"])
async def test_names_that_are_none(folder, host):
    with pytest.raises(SourceError, match="its name"):
        await ask(f"http://{host}", folder)


async def test_resets_are_told(folder):
    async with serving() as origin:
        origin.put("/x", fault=RESET)
        with pytest.raises(SourceError, match="Connection reset by peer"):
            await ask(origin.url, folder)


async def test_connections_are_kept_and_a_closed_one_is_no_error(folder):
    async with serving() as origin, opened(origin.url, folder) as transport:
        request = HttpRequest("GET", f"{origin.url}/x")
        origin.put("/x", body="there")
        for _ in range(5):
            await transport.send(request)
        assert origin.connections == 1
        origin.then("/x", body="there", close=True)
        for _ in range(2):
            await transport.send(request)
        assert origin.connections == 2


async def test_a_cancelled_exchange_closes_its_connection():
    async with serving() as origin:
        origin.put("/x", body="there")
        origin.hold("/x")
        transport = Transport(TransportOptions(origin.url, retry=RetryPolicy(retries=0)), RateControls(print), "api")
        request = HttpRequest("GET", f"{origin.url}/x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, request)
            with trio.fail_after(5):
                await origin.wait_count(1)
            nursery.cancel_scope.cancel()
        assert transport.statistics().inflight_operations == 0
        origin.release("/x")
        assert (await transport.send(replace(request))).body == b"there"
        assert origin.connections == 2
        await transport.aclose()
