"""The spice.ai connector: from dataset to source, what it pushes down, credentials, TLS and reachability."""

import socket

import grpc
import pyarrow as pa
import pytest
import trio

from caraway.config.model import Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.spice import open_spice_source
from caraway.connectors.spice.reach import ADDRESS_SECONDS, verify
from caraway.core.endpoint import Endpoint
from caraway.core.flight_retry import RetryPolicy
from caraway.core.predicate import And, Compare, Like, Literal
from caraway.errors import ConfigError, SourceError
from caraway.flight.client import FlightPool
from caraway.island import open_island
from caraway.model import ReadRequest, Secret
from caraway.secrets import Secrets
from support.certificates import PrivateCa
from support.flight import messages_of
from support.flight_server import Abort, ScriptedServer

ROWS = pa.record_batch({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a\\1", "b", "a\\2"]})
ONE = Literal(1, "int64")


class Store:
    """A secret store that a test writes to."""

    def __init__(self, **values):
        self.values = values

    def get(self, key):
        return Secret(self.values[key]) if key in self.values else None


class Bench:
    """What a test needs to open sources against one scripted server."""

    def __init__(self, island, server, port):
        self.server = server
        self.port = port
        self.pool = FlightPool(island, RetryPolicy(attempts=2, unit=0.0))
        self.store = Store()
        self.url = f"http://127.0.0.1:{port}"

    async def open(self, path, name="local", **params):
        dataset = Dataset(name, FromUri("spice.ai", path, f"spice.ai:{path}"), params=params)
        written = ConnectorParams(params, Secrets({"vault": self.store}), name)
        return await open_spice_source(dataset, written, self.pool)

    def statements(self, method="GetFlightInfo"):
        return [what.decode() for called, what, _ in self.server.seen if called == method]


@pytest.fixture
async def bench():
    async with open_island() as island:
        server = ScriptedServer(messages_of(ROWS))
        async with server.listen(island) as port:
            yield Bench(island, server, port)


async def read(source, **request):
    async with source.read(ReadRequest(**request)) as batches:
        return [row for batch in [b async for b in batches] for row in batch.to_pylist()]


# --- what is asked for -----------------------------------------------------------------------------------------------


async def test_a_url_asks_for_the_table_of_the_same_name(bench):
    source = await bench.open(bench.url, name="sales.orders")
    assert (await source.schema()).equals(ROWS.schema)
    assert await read(source) == ROWS.to_pylist()
    assert bench.statements("GetSchema") == bench.statements() == ['SELECT * FROM "sales"."orders"']
    assert await source.version() is None
    await source.aclose()


async def test_an_explicit_endpoint_asks_for_the_table_of_the_path(bench):
    source = await bench.open('up."Stream"', spiceai_flight_endpoint=bench.url)
    await source.schema()
    assert bench.statements("GetSchema") == ['SELECT * FROM "up"."Stream"']
    await source.aclose()


async def test_org_and_app_go_along_as_headers(bench):
    source = await bench.open("org/app/datasets/trips", spiceai_endpoint=bench.url)
    await read(source)
    for _, _, metadata in bench.server.seen:
        assert (metadata["spiceai-org"], metadata["spiceai-app"]) == ("org", "app")
    await source.aclose()


async def test_projection_predicate_and_limit_are_pushed(bench):
    bench.server.messages = messages_of(ROWS.select(["name"]))
    source = await bench.open(bench.url)
    assert await read(source, columns=("name",), predicate=Compare("id", ">", ONE), limit=9) == [
        {"name": name} for name in ROWS.column("name").to_pylist()
    ]
    assert bench.statements() == ['SELECT "name" FROM "local" WHERE "id" > 1 LIMIT 9']
    await source.aclose()


async def test_what_can_not_be_pushed_is_applied_here(bench):
    source = await bench.open(bench.url)
    await source.schema()
    predicate = And((Compare("id", ">=", ONE), Like("name", "a\\%")))
    assert await read(source, columns=("id",), predicate=predicate, limit=1) == [{"id": 1}]
    assert await read(source, columns=("id",), predicate=predicate) == [{"id": 1}, {"id": 3}]
    assert bench.statements()[0] == 'SELECT "id", "name" FROM "local" WHERE "id" >= 1'
    await source.aclose()


async def test_no_columns_still_count_rows(bench):
    bench.server.messages = messages_of(pa.record_batch({"Int64(1)": [1, 1, 1]}))
    source = await bench.open(bench.url)
    async with source.read(ReadRequest(columns=())) as batches:
        assert [(batch.num_columns, batch.num_rows) async for batch in batches] == [(0, 3)]
    await source.aclose()


async def test_the_stream_is_brought_to_the_schema_that_was_told(bench):
    source = await bench.open(bench.url)
    await source.schema()
    wide = ROWS.set_column(1, "name", ROWS.column("name").cast(pa.large_string()))
    bench.server.messages = messages_of(wide)
    async with source.read(ReadRequest()) as batches:
        assert [batch async for batch in batches] == [ROWS]
    await source.aclose()


async def test_rows_of_another_shape_are_a_source_error(bench):
    source = await bench.open(bench.url)
    await source.schema()
    bench.server.messages = messages_of(pa.record_batch({"id": [1]}))
    with pytest.raises(SourceError, match="name") as caught:
        await read(source)
    assert caught.value.code == "SchemaMismatch"
    await source.aclose()


async def test_an_unknown_table_is_named(bench):
    bench.server.script["GetSchema"] = [Abort(grpc.StatusCode.INVALID_ARGUMENT, "table 'local' not found")]
    source = await bench.open(bench.url)
    with pytest.raises(SourceError, match=r'schema of "local".*not found') as caught:
        await source.schema()
    assert (caught.value.code, caught.value.transient, caught.value.retry_after) == ("UnableToGetSchema", True, 30.0)
    await source.aclose()


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "key", "problem"),
    [
        ("t", {}, "spiceai_region", "MissingRequiredParameter: region"),
        ("t", {"spiceai_region": "us-east-1"}, "spiceai_api_key", "MissingRequiredParameter: api_key or token"),
        ("t", {"spiceai_region": "us-east-1", "spiceai_api_key": ""}, "spiceai_api_key", "MissingRequiredParameter"),
        ("t", {"spiceai_endpoint": "grpc://h:1"}, "spiceai_endpoint", "UnsupportedEndpointScheme"),
        ("https://h:1", {"max_message_size": "4 bananas"}, "max_message_size", "not a size"),
        (
            "https://h:1",
            {"spiceai_tls_client_certificate": "x", "spiceai_tls_client_key_file": "y"},
            "spiceai_tls_client_certificate",
            "AmbiguousClientIdentity",
        ),
        (
            "https://h:1",
            {"spiceai_tls_client_certificate_file": "x"},
            "spiceai_tls_client_key_file",
            "IncompleteClientIdentity",
        ),
        ("https://h:1", {"spiceai_tls_client_key": "x"}, "spiceai_tls_client_certificate", "IncompleteClientIdentity"),
        ("https://h:1", {"spiceai_tls_ca_certificate_file": "/nowhere.pem"}, "spiceai_tls_ca_certificate_file", "read"),
        ("https://h:1", {"spiceai_tls_ca_certificate_file": "/dev/null"}, "spiceai_tls_ca_certificate_file", "PEM"),
    ],
)
async def test_a_bad_parameter_is_named(bench, path, params, key, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        await bench.open(path, **params)
    assert caught.value.problems[0].key == f"datasets[local].params.{key}"


async def test_the_ca_file_is_ignored_without_tls(bench):
    source = await bench.open(bench.url, spiceai_tls_ca_certificate_file="/nowhere.pem")
    await source.schema()
    await source.aclose()


async def test_the_size_limit_is_the_datasets(bench):
    small = await bench.open(bench.url, max_message_size="100 B")
    with pytest.raises(SourceError, match="message size limit"):
        await read(small)
    default = await bench.open(bench.url)
    assert len(await read(default)) == 3
    await small.aclose()
    await default.aclose()


@pytest.mark.parametrize(
    ("params", "secrets"),
    [
        ({"spiceai_api_key": "k1"}, {}),
        ({"spiceai_token": "k1"}, {}),
        ({"spiceai_api_key": "k1", "spiceai_token": "other"}, {}),
        ({"spiceai_api_key": "${vault:KEY}"}, {"KEY": "k1"}),
        ({}, {"spiceai_api_key": "k1"}),
        ({}, {"spiceai_token": "k1"}),
    ],
)
async def test_where_the_key_comes_from(bench, params, secrets):
    bench.server.keys = {"k1"}
    bench.store.values = secrets
    source = await bench.open(bench.url, **params)
    assert len(await read(source)) == 3
    await source.aclose()


async def test_a_key_is_asked_for_on_each_use(bench):
    bench.server.keys, bench.store.values = {"k1"}, {"KEY": "k1"}
    source = await bench.open(bench.url, spiceai_api_key="${vault:KEY}")
    await source.schema()
    bench.server.keys, bench.store.values = {"k2"}, {"KEY": "k2"}
    assert len(await read(source)) == 3
    await source.aclose()


async def test_datasets_of_one_endpoint_share_a_connection(bench):
    sources = [await bench.open(bench.url, name=f"t{i}") for i in range(3)]
    assert list(bench.pool.statistics().values()) == [3]
    for source in sources:
        await source.aclose()
    assert bench.pool.statistics() == {}


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca():
    return PrivateCa()


@pytest.fixture(scope="module")
def pem(ca, tmp_path_factory):
    """Files: the CA, a client's identity, and a CA that signed nothing here."""
    folder = tmp_path_factory.mktemp("pem")
    client = ca.issue("edge")
    for name, content in {
        "ca": ca.pem,
        "certificate": client.certificate,
        "key": client.key,
        "other": PrivateCa("another").pem,
    }.items():
        (folder / f"{name}.pem").write_bytes(content)
    return folder


@pytest.fixture
async def secure(ca):
    async with open_island() as island:
        server = ScriptedServer(messages_of(ROWS))
        identity = ca.issue("localhost", "127.0.0.1")
        pair = [(identity.key, identity.certificate)]
        async with (
            server.listen(island, grpc.ssl_server_credentials(pair)) as port,
            server.listen(island, grpc.ssl_server_credentials(pair, ca.pem, require_client_auth=True)) as mutual,
        ):
            bench = Bench(island, server, port)
            bench.url, bench.mutual = f"grpc+tls://localhost:{port}", f"https://localhost:{mutual}"
            yield bench


async def test_a_private_ca_is_trusted_when_it_is_named(secure, pem):
    source = await secure.open(secure.url, spiceai_tls_ca_certificate_file=str(pem / "ca.pem"))
    assert len(await read(source)) == 3
    await source.aclose()


@pytest.mark.parametrize("params", [{}, {"spiceai_tls_ca_certificate_file": "other.pem"}])
async def test_a_private_ca_is_not_trusted_otherwise(secure, pem, params):
    source = await secure.open(secure.url, **{name: str(pem / file) for name, file in params.items()})
    with pytest.raises(SourceError, match="TLS handshake") as caught:
        await source.schema()
    assert "spiceai_tls_ca_certificate_file" in caught.value.remedy
    await source.aclose()


@pytest.mark.parametrize("inline", [True, False])
async def test_a_client_identity_by_files_or_inline(secure, pem, inline):
    params = {"spiceai_tls_ca_certificate_file": str(pem / "ca.pem")}
    for name in ("certificate", "key"):
        path = pem / f"{name}.pem"
        params["spiceai_tls_client_" + name + ("" if inline else "_file")] = path.read_text() if inline else str(path)
    source = await secure.open(secure.mutual, **params)
    assert len(await read(source)) == 3
    await source.aclose()


async def test_a_client_without_an_identity_is_turned_away(secure, pem):
    source = await secure.open(secure.mutual, spiceai_tls_ca_certificate_file=str(pem / "ca.pem"))
    with pytest.raises(SourceError):
        await source.schema()
    await source.aclose()


async def test_tls_against_a_plain_port(bench):
    source = await bench.open(f"https://127.0.0.1:{bench.port}")
    with pytest.raises(SourceError, match="TLS handshake"):
        await source.schema()
    await source.aclose()


# --- reachability, on a network made of a table ----------------------------------------------------------------------


class Network(trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """Hosts with addresses; an address refuses at once, swallows, or answers."""

    def __init__(self, hosts, addresses):
        self.hosts, self.addresses = hosts, addresses
        self.tried = []

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002
        if host.decode() not in self.hosts:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, type, proto, "", (ip, port)) for ip in self.hosts[host.decode()]]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError

    def socket(self, family, type, proto):  # noqa: A002
        return FakeSocket(self)


class FakeSocket(trio.socket.SocketType):
    def __init__(self, network):
        self.network = network

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    async def connect(self, address):
        self.network.tried.append((address, trio.current_time()))
        match self.network.addresses[address[0]]:
            case "refuses":
                raise ConnectionRefusedError(111, "Connection refused")
            case "swallows":
                await trio.sleep_forever()


@pytest.fixture
async def network():
    made = Network(
        {"up": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "down": ["10.0.0.1", "10.0.0.2"]},
        {"10.0.0.1": "refuses", "10.0.0.2": "swallows", "10.0.0.3": "answers"},
    )
    trio.socket.set_custom_hostname_resolver(made)
    trio.socket.set_custom_socket_factory(made)
    return made


async def test_addresses_are_tried_in_turn(autojump_clock, network):
    start = trio.current_time()
    await verify(Endpoint("up", 50051, tls=True))
    assert [(address, at - start) for address, at in network.tried] == [
        (("10.0.0.1", 50051), 0.0),
        (("10.0.0.2", 50051), 0.0),
        (("10.0.0.3", 50051), ADDRESS_SECONDS),
    ]


async def test_every_address_fails(autojump_clock, network):
    with pytest.raises(
        SourceError, match=r"connect to down:1: 10.0.0.1: Connection refused; 10.0.0.2: no answer"
    ) as caught:
        await verify(Endpoint("down", 1, tls=False))
    assert caught.value.code == "UnableToVerifyEndpointConnection"
    assert caught.value.transient


async def test_a_name_that_does_not_resolve(autojump_clock, network):
    with pytest.raises(SourceError, match="nowhere:1: its name does not resolve"):
        await verify(Endpoint("nowhere", 1, tls=False))


async def test_verification_is_cancellable(autojump_clock, network):
    with trio.move_on_after(1) as scope:
        await verify(Endpoint("down", 1, tls=False))
    assert scope.cancelled_caught
