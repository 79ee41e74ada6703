"""The symptom table of the connector guide: what goes wrong at an edge, in the words of its status and its log."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import PrivateCa
from support.daemons import Node, running, wait_for

CORE = """
version: v2
kind: Spicepod
name: core
runtime:
  auth: {{api-key: {{keys: [right]}}}}
  tls: {{enabled: {tls}, certificate_file: core.crt, key_file: core.key}}
datasets:
  - from: synthetic:orders
    name: orders
    params: {{rows: "100000"}}
    acceleration: {{engine: arrow}}
"""
EDGE = "version: v2\nkind: Spicepod\nname: edge\ndatasets:\n"
DATASET = """
  - from: spice.ai/{table}
    name: {name}
    params: {params}
    acceleration: {{engine: arrow}}
"""
CLOUD = "https://us-east-1-prod-aws-flight.spiceai.io"
KEY = {"spiceai_api_key": "right"}
WRONG_KEY = "wrong-and-s3cret"
ROWS = {
    "unresolved": ("http://nowhere.invalid:50051", {}, "connect to nowhere.invalid:50051", "name resolves"),
    "refused": ("http://127.0.0.1:1", {}, "connect to 127.0.0.1:1: 127.0.0.1: Connection refused", "firewall"),
    "scheme": ("grpc://{plain}", {}, "UnsupportedEndpointScheme", "https:// or grpc+tls://"),
    "mismatch": (CLOUD, {**KEY, "spiceai_region": "eu-west-1"}, "CloudEndpointRegionMismatch", "the same region"),
    "no_region": ("", KEY, "MissingRequiredParameter: region", "spiceai_region"),
    "no_key": (CLOUD, {"spiceai_region": "us-east-1"}, "MissingRequiredParameter: api_key or token", "anonymous"),
    "wrong_key": ("http://{plain}", {"spiceai_api_key": WRONG_KEY}, "API key", "runtime.auth.api-key.keys"),
    "anonymous": ("http://{plain}", {}, "API key", "spiceai_api_key"),
    "private_ca": ("https://127.0.0.1:{secure}", KEY, "TLS handshake", "spiceai_tls_ca_certificate_file"),
    "not_tls": ("https://{plain}", KEY, "TLS handshake", "port speaks TLS"),
    "not_flight": ("{http}", {}, "does not speak Arrow Flight", "50051 by default"),
    "too_large": ("http://{plain}", {**KEY, "max_message_size": "10KB"}, "message size limit", "max_message_size"),
    "no_table": ("http://{plain}", KEY, "orderz", "table exists"),
}
"""name: endpoint, parameters; then what the error says, and what its remedy (or message) says to do."""


def core(folder: Path, *, tls: bool) -> Node:
    node = Node(folder, CORE.format(tls=str(tls).lower()))
    identity = PrivateCa().issue("127.0.0.1")
    (folder / "core.crt").write_bytes(identity.certificate)
    (folder / "core.key").write_bytes(identity.key)
    return node


def dataset(name: str, endpoint: str, params: dict[str, str]) -> str:
    written = {**params, "spiceai_endpoint": endpoint} if endpoint else params
    table = "orderz" if name == "no_table" else "orders"
    return DATASET.format(table=table, name=name, params=json.dumps(written))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, dict[str, str]]]:
    """An edge with one dataset a symptom, and where its upstreams are."""
    folder = tmp_path_factory.mktemp("symptoms")
    plain, secure = core(folder / "plain", tls=False), core(folder / "secure", tls=True)
    with running(plain, secure):
        where = {
            "plain": plain.endpoints["flight"],
            "secure": secure.endpoints["flight"].rpartition(":")[2],
            "http": plain.url,
        }
        broken = [dataset(name, row[0].format(**where), row[1]) for name, row in ROWS.items()]
        edge = Node(folder / "edge", EDGE + "".join([dataset("fine", f"http://{where['plain']}", KEY), *broken]))
        with running(edge):
            yield edge, where


@pytest.mark.parametrize("name", ROWS)
def test_a_symptom_is_explained(places, name):
    edge, where = places
    _, _, says, remedy = ROWS[name]
    problem = wait_for(lambda: edge.dataset(name).get("error"), f"an error of {name}")
    assert says.format(**where) in problem["message"], problem
    assert remedy in problem["message"] + (problem["remedy"] or ""), problem
    assert edge.dataset(name)["status"] == "Error"
    failed = f"Failed to refresh dataset {name}: "
    (line, *_) = [line for line in edge.log.read_text().splitlines() if failed in line]
    assert says.format(**where) in json.loads(line)["message"]
    assert remedy in json.loads(line)["message"]


def test_a_healthy_dataset_among_them_is_served(places):
    edge, _ = places
    wait_for(lambda: edge.dataset("fine")["status"] == "Ready", "the healthy dataset")
    assert edge.scalar("select count(*) from fine") == 100_000


def test_no_key_is_shown(places):
    edge, _ = places
    wait_for(lambda: edge.dataset("wrong_key").get("error"), "an error")
    shown = edge.log.read_text() + edge.get("/v1/datasets").text + edge.get("/v1/datasets/wrong_key").text
    assert WRONG_KEY not in shown


def test_the_message_size_may_come_from_the_environment(places, tmp_path):
    _, where = places
    pod = EDGE + dataset("small", f"http://{where['plain']}", KEY)
    pod += dataset("own", f"http://{where['plain']}", {**KEY, "max_message_size": "16MB"})
    edge = Node(tmp_path / "edge", pod)
    edge.environment["SPICE_MAX_MESSAGE_SIZE"] = "10 KB"
    with running(edge):
        problem = wait_for(lambda: edge.dataset("small").get("error"), "the limit of the environment")
        assert "message size limit" in problem["message"]
        wait_for(lambda: edge.dataset("own")["status"] == "Ready", "the parameter stands above it")


def test_a_bad_message_size_in_the_environment(tmp_path):
    edge = Node(tmp_path / "edge", EDGE.replace("datasets:\n", ""))
    edge.environment["SPICE_MAX_MESSAGE_SIZE"] = "4 bananas"
    with pytest.raises(AssertionError, match="SPICE_MAX_MESSAGE_SIZE: '4 bananas' is not a size"):
        edge.start()
