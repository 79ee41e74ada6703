"""What every request passes: keys, shutdown, CORS, routes; and the routes that tell how it is."""

import orjson
import pytest
import trio

from caraway.config.model import Cors, Runtime
from caraway.model import Endpoints, Principal
from caraway.servers.api.app import create_app
from caraway.servers.services import Component, Readiness
from support.fake_services import FakeServices, ask, dataset

KEYS = ("reader", "writer:rw")


@pytest.mark.parametrize("path", ["/v1/sql", "/v1/datasets", "/v1/nothing", "/v1/status"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"Authorization": "Bearer reader"}])
async def test_without_a_key_there_is_401(path: str, headers: dict[str, str]) -> None:
    fake = FakeServices(keys=KEYS)
    answer = await ask(create_app(fake.services), "POST", path, b"select 1", headers)
    assert (answer.status, answer.body) == (401, b"Unauthorized")
    assert not fake.engine.queries


async def test_health_and_readiness_need_no_key() -> None:
    app = create_app(FakeServices(keys=KEYS).services)
    assert (await ask(app, "GET", "/health")).body == b"ok\n"
    assert (await ask(app, "GET", "/v1/ready")).status == 503


async def test_the_principal_travels_with_the_query() -> None:
    fake = FakeServices(keys=KEYS)
    app = create_app(fake.services)
    for key in ("reader", "writer"):
        assert (await ask(app, "POST", "/v1/sql", b"x", {"x-api-key": key})).status == 200
    reader, writer = (query.principal for query in fake.engine.queries)
    assert isinstance(reader, Principal)
    assert reader.id.startswith("apikey:")
    assert (reader.write, writer.write) == (False, True)
    assert reader.id != writer.id


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/datasets/t/acceleration/refresh"), ("PATCH", "/v1/datasets/t/acceleration")],
)
async def test_a_read_only_key_does_not_write(method: str, path: str) -> None:
    fake = FakeServices(dataset("t"), keys=KEYS)
    app = create_app(fake.services)
    answer = await ask(app, method, path, b"{}", {"X-API-Key": "reader"})
    assert (answer.status, orjson.loads(answer.body)) == (403, {"message": "API key does not allow write access"})
    assert not fake.datasets["t"].requests
    assert (await ask(app, method, path, b"{}", {"X-API-Key": "writer"})).status in {200, 201}


async def test_while_stopping_everything_is_503_but_health() -> None:
    fake = FakeServices()
    fake.stopping, fake.readiness = True, Readiness(True)
    app = create_app(fake.services)
    assert (await ask(app, "POST", "/v1/sql", b"x")).status == 503
    assert (await ask(app, "GET", "/v1/datasets")).status == 503
    assert (await ask(app, "GET", "/v1/ready")).status == 503
    assert (await ask(app, "GET", "/health")).status == 200


async def test_paths_and_methods_that_are_not_there() -> None:
    app = create_app(FakeServices().services)
    missing = await ask(app, "GET", "/v1/nothing")
    assert (missing.status, missing.text) == (404, "There is nothing at /v1/nothing.")
    wrong = await ask(app, "GET", "/v1/sql")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    wrong = await ask(app, "DELETE", "/v1/datasets")
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    wrong = await ask(app, "PUT", "/v1/datasets/orders/rows")
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"POST", "DELETE"})
    assert (await ask(app, "HEAD", "/health")).status == 200


@pytest.mark.parametrize(
    ("allowed", "origin", "line"),
    [
        (("*",), "https://a", "*"),
        (("https://a",), "https://a", "https://a"),
        (("https://a",), "https://b", None),
        (("*",), None, None),
    ],
)
async def test_cors(allowed: tuple[str, ...], origin: str | None, line: str | None) -> None:
    runtime = Runtime(cors=Cors(enabled=True, allowed_origins=allowed))
    app = create_app(FakeServices(runtime=runtime, keys=KEYS).services)
    headers = {"Origin": origin} if origin else {}
    answer = await ask(app, "GET", "/health", b"", headers)
    assert answer.headers.get("access-control-allow-origin") == line
    asked = await ask(
        app,
        "OPTIONS",
        "/v1/sql",
        b"",
        headers | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"},
    )
    assert asked.status == (200 if line else 401)
    if line:
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert asked.headers["access-control-allow-headers"] == "x-api-key"


async def test_without_cors_there_is_no_such_line() -> None:
    app = create_app(FakeServices().services)
    answer = await ask(app, "GET", "/health", b"", {"Origin": "https://a"})
    assert "access-control-allow-origin" not in answer.headers
    assert (await ask(app, "OPTIONS", "/v1/sql", b"", {"Origin": "https://a"})).status == 405


async def test_ready() -> None:
    fake = FakeServices()
    app = create_app(fake.services)
    assert ((await ask(app, "GET", "/v1/ready")).status, (await ask(app, "GET", "/v1/ready")).text) == (
        503,
        "not ready",
    )
    fake.readiness = Readiness(
        True,
        (
            Component("orders", "dataset", True, "Ready"),
            Component("items", "dataset", False, "Error: core is away"),
            Component("sums", "view", False),
        ),
    )
    answer = await ask(app, "GET", "/v1/ready")
    assert (answer.status, answer.text) == (200, "ready")
    verbose = await ask(app, "GET", "/v1/ready?verbose")
    assert verbose.text == "[+] dataset orders: Ready\n[-] dataset items: Error: core is away\n[ ] view sums\nready\n"
    assert (await ask(app, "GET", "/v1/ready?verbose=false")).text == "ready"
    assert (await ask(app, "GET", "/v1/ready?min_ready_executors=0")).status == 200
    assert (await ask(app, "GET", "/v1/ready?min_ready_executors=1")).status == 400


async def test_status_connects(autojump_clock: trio.testing.MockClock) -> None:
    fake = FakeServices()
    app = create_app(fake.services)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    open_port = listener.socket.getsockname()[1]
    fake.endpoints.publish(Endpoints(http="127.0.0.1:8090", flight=f"127.0.0.1:{open_port}", metrics="127.0.0.1:1"))
    assert orjson.loads((await ask(app, "GET", "/v1/status")).body) == [
        {"name": "http", "endpoint": "127.0.0.1:8090", "status": "Ready"},
        {"name": "flight", "endpoint": f"127.0.0.1:{open_port}", "status": "Ready"},
        {"name": "metrics", "endpoint": "127.0.0.1:1", "status": "Error"},
        {"name": "opentelemetry", "endpoint": "N/A", "status": "Disabled"},
    ]
    await listener.aclose()
    csv = await ask(app, "GET", "/v1/status?format=csv")
    assert csv.text.startswith("name,endpoint,status\nhttp,127.0.0.1:8090,Ready\n")


async def test_pods_and_catalogs() -> None:
    app = create_app(FakeServices(dataset("t")).services)
    pod = {"name": "p", "version": "v2", "datasets_count": 1, "models_count": 0, "dependencies_count": 0}
    assert orjson.loads((await ask(app, "GET", "/v1/spicepods")).body) == [pod]
    assert (await ask(app, "GET", "/v1/spicepods?format=csv")).text == (
        "name,version,datasets_count,models_count,dependencies_count\np,v2,1,0,0\n"
    )
    assert orjson.loads((await ask(app, "GET", "/v1/catalogs")).body) == [{"from": "spice.ai", "name": "c"}]
    assert orjson.loads((await ask(app, "GET", "/v1/catalogs?from=other")).body) == []
