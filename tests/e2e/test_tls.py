"""`runtime.tls` on both doors, met by clients and by an edge that trust the right CA, the wrong one, or none."""

import subprocess
import sys

import httpx2
import pyarrow.flight as pf
import pytest

from support.certificates import PrivateCa
from support.daemons import Node, running, wait_for

CORE = """
version: v2
kind: Spicepod
name: core
runtime:
  tls: {enabled: true, certificate_file: cert.pem, key: "${secrets:TLS_KEY}"}
datasets:
  - {from: "synthetic:orders", name: orders, params: {rows: "1000"}, acceleration: {enabled: true}}
"""
EDGE = """
version: v2
kind: Spicepod
name: edge
datasets:
  - from: spice.ai:https://{flight}
    name: orders
    params: {{spiceai_tls_ca_certificate_file: ca.pem}}
    acceleration: {{enabled: true}}
"""
REFRESH = "/v1/datasets/orders/acceleration/refresh"


@pytest.fixture(scope="module")
def authority() -> PrivateCa:
    return PrivateCa()


@pytest.fixture(scope="module")
def core(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    (folder / "ca.pem").write_bytes(authority.pem)
    node = Node(folder / "core", CORE, ca=folder / "ca.pem")
    pair = authority.issue("127.0.0.1", "localhost")
    (node.folder / "cert.pem").write_bytes(pair.certificate)
    node.environment = {"TLS_KEY": pair.key.decode()}
    with running(node):
        node.wait_ready()
        yield node
        assert node.stop() == 0
        assert pair.key.splitlines()[1].decode() not in node.log.read_text()


def test_http_is_served_over_tls_alone(core):
    assert core.url.startswith("https://")
    assert core.scalar("select count(*) from orders") == 1000
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx2.get(f"{core.url}/health", timeout=10)
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://{core.endpoints['http']}/health", timeout=10)
    assert core.get("/health").text == "ok\n"


def test_the_command_line_trusts_a_ca_too(core):
    def ask(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "caraway", "sql", *flags, "--csv", "-c", "select count(*) as n from orders"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    here = ("--data-dir", str(core.data))
    assert ask(*here, "--tls-root-certificate-file", str(core.ca)).stdout == "n\n1000\n"
    plain = ask(*here)
    assert plain.returncode == 1
    assert "If it serves TLS, pass --tls-root-certificate-file." in plain.stderr
    distrusted = ask("--http-endpoint", core.url)
    assert distrusted.returncode == 1
    assert distrusted.stderr.startswith(f"The certificate of {core.url} is not trusted")


def test_flight_is_served_over_tls_alone(core):
    address = core.endpoints["flight"]
    with pf.connect(f"grpc+tls://{address}", tls_root_certs=core.ca.read_bytes()) as client:
        info = client.get_flight_info(pf.FlightDescriptor.for_command(b"select * from orders"))
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == 1000
    for url in (f"grpc+tls://{address}", f"grpc://{address}"):
        with pf.connect(url) as client, pytest.raises(pf.FlightUnavailableError):
            client.get_flight_info(pf.FlightDescriptor.for_command(b"select 1"), pf.FlightCallOptions(timeout=10))


def test_an_edge_says_what_it_does_not_trust_and_recovers(core, authority, tmp_path):
    edge = Node(tmp_path / "edge", EDGE.format(flight=core.endpoints["flight"]))
    (edge.folder / "ca.pem").write_bytes(PrivateCa("another CA").pem)
    with running(edge):
        wait_for(lambda: edge.dataset("orders")["status"] == "Error", "the unknown CA is noticed")
        error = edge.dataset("orders")["error"]
        assert error["message"].startswith(f"The TLS handshake with https://{core.endpoints['flight']} failed: ")
        assert "CERTIFICATE_VERIFY_FAILED" in error["message"]
        assert "spiceai_tls_ca_certificate_file" in error["remedy"]
        (edge.folder / "ca.pem").write_bytes(authority.pem)
        edge.post(REFRESH, json={})
        edge.wait_ready()
        assert edge.scalar("select count(*) from orders") == 1000
        assert edge.stop() == 0


def test_a_certificate_of_another_host_is_not_taken(authority, tmp_path):
    core = Node(tmp_path / "core", CORE, ca=tmp_path / "ca.pem")
    core.ca.write_bytes(authority.pem)
    pair = authority.issue("elsewhere.example.com")
    (core.folder / "cert.pem").write_bytes(pair.certificate)
    core.environment = {"TLS_KEY": pair.key.decode()}
    with running(core):
        edge = Node(tmp_path / "edge", EDGE.format(flight=core.endpoints["flight"]))
        (edge.folder / "ca.pem").write_bytes(authority.pem)
        with running(edge):
            wait_for(lambda: edge.dataset("orders")["status"] == "Error", "the wrong name is noticed")
            error = edge.dataset("orders")["error"]
            assert "The TLS handshake" in error["message"]
            assert "names this host" in error["remedy"]


def test_a_pair_that_cannot_work_ends_the_start(authority, tmp_path):
    node = Node(tmp_path / "core", CORE)
    (node.folder / "cert.pem").write_bytes(authority.issue("127.0.0.1").certificate)
    node.environment = {"TLS_KEY": authority.issue("127.0.0.1").key.decode()}
    with pytest.raises(AssertionError, match="the key that of the first certificate"), running(node):
        pass
    assert node.process.returncode == 1
