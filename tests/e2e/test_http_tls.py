"""A daemon before an API over TLS: who is trusted, whom it takes us for, and what its log says of it."""

import threading
from contextlib import contextmanager

import trio

from support.certificates import PrivateCa
from support.daemons import Node, running, wait_for
from support.origin import serving

POD = """
version: v2
kind: Spicepod
name: secured
runtime:
  params: {{http_max_concurrent_requests: "4"}}
datasets:
- from: {url}
  name: api
  params:
    allowed_request_paths: /items
    http_tls_ca_certificate_file: ca.pem
    http_tls_client_certificate: ${{secrets:CLIENT_CERTIFICATE}}
    http_tls_client_key: ${{secrets:CLIENT_KEY}}
    auth_token_url: {url}/token
    http_auth_client_id: caraway
    http_auth_client_secret: ${{secrets:CLIENT_SECRET}}
- from: {url}
  name: distrusting
  params: {{http_tls_ca_certificate_file: other.pem}}
"""
QUERY = "select content from {} where request_path = '/items'"


@contextmanager
def origin_in_a_thread(told, **options):
    """An origin that was told what to answer before it serves."""
    started, origins = threading.Event(), []

    async def serve():
        async with serving(**options) as origin:
            told(origin)
            origins.append((origin, trio.lowlevel.current_trio_token(), ended := trio.Event()))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=trio.run, args=(serve,), daemon=True)
    thread.start()
    assert started.wait(10)
    origin, token, ended = origins[0]
    try:
        yield origin
    finally:
        trio.from_thread.run_sync(ended.set, trio_token=token)
        thread.join(10)


def told(origin):
    origin.put("/items", json=["kept secret"])
    origin.require_token("/items")
    origin.token_endpoint(client_id="caraway", client_secret="s3cr3t-word")


def test_certificates_and_tokens_from_secrets(tmp_path):
    authority = PrivateCa()
    client = authority.issue("caraway")
    with origin_in_a_thread(told, tls=authority.issue("127.0.0.1"), client_ca=authority.pem) as origin:
        node = Node(tmp_path / "node", POD.format(url=origin.url))
        (node.folder / "ca.pem").write_bytes(authority.pem)
        (node.folder / "other.pem").write_bytes(PrivateCa("other").pem)
        node.environment = {
            "CLIENT_CERTIFICATE": client.certificate.decode(),
            "CLIENT_KEY": client.key.decode(),
            "CLIENT_SECRET": "s3cr3t-word",
        }
        with running(node):
            wait_for(lambda: node.dataset("api")["status"] == "Ready", "the API to be reached")
            assert node.scalar(QUERY.format("api")) == '"kept secret"'
            assert origin.count("/token") == 1
            wait_for(lambda: "is refused" in node.log.read_text(), "the other one to fail", 5)
            assert "http_tls_ca_certificate_file" in str(node.dataset("distrusting")["error"])
            assert node.stop() == 0
        log = node.log.read_text()
        for secret in ("s3cr3t-word", "token-1", client.key.decode().splitlines()[1]):
            assert secret not in log
