"""API keys through real daemons: every door, rotation while running, an edge with a right and a wrong key, no leaks."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pyarrow.flight as pf
import pytest

from support.daemons import Node, running, wait_for

PLAIN, READER, WRITER = "plain-k3y-4711", "reader-k3y-4712", "writer-k3y-4713"
ROTATED, FRESH, WRONG = "mounted-k3y-4714", "mounted-k3y-4715", "wrong-k3y-4716"
UPSTREAM_USER = "edge-own-k3y-4717"
SECRETS = (PLAIN, READER, WRITER, ROTATED, FRESH, WRONG, UPSTREAM_USER)
POD_KEYS = (PLAIN, READER)
"""Written into the core's pod, where whoever looks for leaks finds them of course."""

CORE = f"""
version: v2
kind: Spicepod
name: core
secrets:
  - {{from: env, name: env}}
  - {{from: file, name: mounted, params: {{path: mounted}}}}
runtime:
  auth:
    api-key:
      enabled: true
      keys: ["{PLAIN}", "{READER}:ro", "${{env:CORE_WRITER}}:rw", "${{mounted:rotating}}:ro"]
datasets:
  - from: synthetic:orders
    name: orders
    params: {{rows: "1000"}}
    acceleration: {{enabled: true}}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
secrets:
  - {{from: file, name: mounted, params: {{path: mounted}}}}
datasets:
  - from: spice.ai:http://{flight}
    name: orders
    params: {{spiceai_api_key: "${{secrets:upstream}}"}}
    acceleration: {{engine: parquet, mode: file, refresh_check_interval: 200ms}}
"""
READS = ("/v1/datasets", "/v1/datasets/orders", "/v1/status", "/v1/spicepods", "/v1/catalogs", "/v1/nothing")
OPEN = ("/health", "/v1/ready")
REFRESH = "/v1/datasets/orders/acceleration/refresh"


@pytest.fixture(scope="module")
def core(tmp_path_factory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("keys") / "core", CORE, "-vv")
    mount(node, "rotating", ROTATED)
    node.environment = {"CORE_WRITER": WRITER}
    with running(node):
        node.wait_ready()
        yield node
        assert node.stop() == 0
        assert leaks(node, POD_KEYS) == []


def mount(node: Node, name: str, value: str) -> None:
    """Put a secret in place as Kubernetes does: whole or not at all."""
    folder = node.folder / "mounted"
    folder.mkdir(exist_ok=True)
    draft = folder / f".{name}"
    draft.write_text(value + "\n")
    draft.replace(folder / name)


def asked(node: Node, method: str, path: str, key: str | None, **options: object) -> httpx2.Response:
    headers = {"X-API-Key": key} if key is not None else {}
    return node.request(method, path, headers=headers, **options)


def leaks(node: Node, known: tuple[str, ...] = ()) -> list[str]:
    """Files and processes of a node that hold a secret where none belongs."""
    files = [path for path in [node.log, *node.data.rglob("*")] if path.is_file()]
    texts = {str(path): path.read_bytes() for path in files}
    texts[str(node.pod)] = node.pod.read_bytes()
    allowed = {(str(node.pod), secret) for secret in known}
    return [
        f"{place}: {secret}"
        for place, text in texts.items()
        for secret in SECRETS
        if secret.encode() in text and (place, secret) not in allowed
    ]


@pytest.mark.parametrize("path", READS)
def test_reading_needs_a_key(core, path):
    wanted = 404 if path == "/v1/nothing" else 200
    for key in (None, "", WRONG, f"{READER}:ro", PLAIN.upper()):
        refused = asked(core, "GET", path, key)
        assert (refused.status_code, refused.content) == (401, b"Unauthorized"), (path, key)
    for key in (PLAIN, READER, WRITER, ROTATED):
        assert asked(core, "GET", path, key).status_code == wanted, (path, key)


@pytest.mark.parametrize("path", OPEN)
def test_probes_are_open(core, path):
    assert asked(core, "GET", path, None).status_code == 200


def test_sql_needs_a_key_and_any_will_do(core):
    ask = {"content": b"select count(*) as n from orders"}
    assert asked(core, "POST", "/v1/sql", None, **ask).status_code == 401
    assert asked(core, "POST", "/v1/sql", WRONG, **ask).status_code == 401
    assert [asked(core, "POST", "/v1/sql", key, **ask).json() for key in (PLAIN, WRITER)] == [[{"n": 1000}]] * 2


def test_writing_needs_a_key_that_may(core):
    for method, path, body in (("POST", REFRESH, {}), ("PATCH", "/v1/datasets/orders/acceleration", {})):
        assert asked(core, method, path, None, json=body).status_code == 401
        for key in (PLAIN, READER, ROTATED):
            refused = asked(core, method, path, key, json=body)
            assert refused.status_code == 403
            assert refused.json() == {"message": "API key does not allow write access"}
        assert asked(core, method, path, WRITER, json=body).status_code in {200, 201}


def test_writing_sql_is_refused_whatever_the_key(core):
    refused = asked(core, "POST", "/v1/sql", PLAIN, content=b"insert into orders select * from orders")
    assert refused.status_code == 403
    assert "read-only SQL context" in refused.text


def flight_rows(core: Node, bearer: bytes) -> int:
    """What a Flight client gets with a bearer token; FlightUnauthenticatedError where it is not taken."""
    options = pf.FlightCallOptions(headers=[(b"authorization", b"Bearer " + bearer)], timeout=20)
    with pf.connect(f"grpc://{core.endpoints['flight']}") as client:
        info = client.get_flight_info(pf.FlightDescriptor.for_command(b"select * from orders"), options)
        return client.do_get(info.endpoints[0].ticket, options).read_all().num_rows


def session(core: Node, key: str) -> bytes:
    """The bearer token of a Basic handshake."""
    with pf.connect(f"grpc://{core.endpoints['flight']}") as client:
        name, value = client.authenticate_basic_token(b"", key.encode())
    assert name == b"authorization"
    return value.removeprefix(b"Bearer ")


def test_flight_takes_sessions_and_keys(core):
    assert flight_rows(core, session(core, PLAIN)) == 1000
    assert flight_rows(core, READER.encode()) == 1000
    for bad in (WRONG.encode(), b"", base64.b64encode(PLAIN.encode())):
        with pytest.raises(pf.FlightUnauthenticatedError):
            flight_rows(core, bad)
    with pytest.raises(pf.FlightUnauthenticatedError, match="invalid credentials"):
        session(core, WRONG)
    with pf.connect(f"grpc://{core.endpoints['flight']}") as client, pytest.raises(pf.FlightUnauthenticatedError):
        client.get_flight_info(pf.FlightDescriptor.for_command(b"select 1"))


def test_rotation_revokes_without_a_restart(core):
    def admitted(key: str) -> bool:
        return asked(core, "GET", "/v1/status", key).status_code == 200

    old = session(core, ROTATED)
    assert flight_rows(core, old) == 1000
    mount(core, "rotating", FRESH)
    wait_for(lambda: admitted(FRESH) and not admitted(ROTATED), "the rotated key counts", 10)
    with pytest.raises(pf.FlightUnauthenticatedError):
        flight_rows(core, old)
    assert flight_rows(core, session(core, FRESH)) == 1000
    (core.folder / "mounted/rotating").unlink()
    wait_for(lambda: not admitted(FRESH), "a key without its secret admits nobody", 10)
    assert admitted(PLAIN)
    wait_for(lambda: "${mounted:rotating}" in core.log.read_text(), "the log names the missing secret", 10)
    mount(core, "rotating", ROTATED)
    wait_for(lambda: admitted(ROTATED), "the key is back", 10)


def test_no_secret_is_shown_anywhere(core):
    shown = [asked(core, "GET", path, READER).text for path in (*READS, *OPEN)]
    shown += [asked(core, "GET", "/v1/ready?verbose", None).text]
    asked(core, "POST", "/v1/sql", WRITER, content=b"select 1")  # the worker runs
    pids = core.family
    assert len(pids) == 2
    shown += [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    shown += [Path(f"/proc/{pids[1]}/environ").read_text()]
    assert [secret for secret in SECRETS if any(secret in text for text in shown)] == []
    assert leaks(core, POD_KEYS) == []


def test_an_edge_reads_with_its_key_and_says_what_is_wrong_with_a_bad_one(core, tmp_path):
    edge = Node(tmp_path / "edge", EDGE.format(flight=core.endpoints["flight"]), "-vv")
    mount(edge, "upstream", WRONG)
    with running(edge):
        wait_for(lambda: edge.dataset("orders")["status"] == "Error", "the wrong key is noticed")
        error = edge.dataset("orders")["error"]
        assert "did not accept the API key" in error["message"]
        assert core.endpoints["flight"] in error["message"]
        assert "spiceai_api_key" in error["remedy"]
        assert edge.get("/v1/ready").status_code == 503
        refused = edge.post("/v1/sql", content=b"select * from orders")
        assert refused.status_code == 400
        assert "orders" in refused.text

        mount(edge, "upstream", READER)
        edge.post(REFRESH, json={})  # or wait half a minute for the next attempt
        edge.wait_ready()
        assert edge.scalar("select count(*) from orders") == 1000
        assert edge.dataset("orders")["error"] is None

        (edge.folder / "mounted/upstream").unlink()
        wait_for(lambda: edge.dataset("orders")["status"] == "Error", "the missing secret is noticed")
        assert "'upstream' was not found" in edge.dataset("orders")["error"]["message"]
        assert edge.scalar("select count(*) from orders") == 1000
        mount(edge, "upstream", READER)
        wait_for(lambda: edge.dataset("orders")["status"] == "Ready", "it recovers by itself", 40)
        shown = edge.get("/v1/datasets/orders").text + edge.get("/v1/spicepods").text
        assert [secret for secret in SECRETS if secret in shown] == []
        assert edge.stop() == 0
    assert leaks(edge) == []
