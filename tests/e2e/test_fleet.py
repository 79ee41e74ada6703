"""Many datasets at one edge from one core: one connection, bounded threads, more files than the usual limit."""

import resource
from pathlib import Path

import pytest

from support.daemons import Node, running, wait_for
from support.tcp_proxy import TcpProxy

DATASETS = 60
THREADS = 32 + 24
"""Those that blocking calls share, and those of gRPC, Arrow and the island."""
HEAD = "version: v2\nkind: Spicepod\nname: fleet\ndatasets:\n"
CORE = """
  - from: synthetic:orders
    name: t{number}
    params: {{rows: "200", seed: "{number}"}}
    acceleration: {{engine: arrow}}
"""
EDGE = """
  - from: spice.ai:http://{address}
    name: t{number}
    acceleration: {{engine: sqlite, mode: file, refresh_check_interval: 1s}}
"""


@pytest.fixture
def few_files():
    """A soft limit that a fleet outgrows; daemons raise it for themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def count(node: Node, what: str) -> int:
    """Entries of a folder of the process: `task` or `fd`."""
    return len(list(Path(f"/proc/{node.process.pid}/{what}").iterdir()))


def test_a_fleet_shares_one_connection_and_few_threads(tmp_path, few_files):
    core = Node(tmp_path / "core", HEAD + "".join(CORE.format(number=number) for number in range(DATASETS)))
    with running(core), TcpProxy(core.endpoints["flight"]) as proxy:
        core.wait_ready()
        pod = "".join(EDGE.format(number=number, address=proxy.address) for number in range(DATASETS))
        edge = Node(tmp_path / "edge", HEAD + pod)
        with running(edge):
            seen = []
            wait_for(lambda: seen.append(count(edge, "task")) or edge.get("/v1/ready").status_code == 200, "ready", 60)
            assert count(edge, "fd") > 200
            first = {number: edge.dataset(f"t{number}")["last_refresh"] for number in range(DATASETS)}
            for number, before in first.items():
                wait_for(lambda n=number, b=before: edge.dataset(f"t{n}")["last_refresh"] > b, f"t{number} again")
            assert max(seen) <= THREADS
            assert proxy.connections <= 1 + DATASETS  # one probe of each dataset's endpoint, and the one that is used
            same = "select count(*), sum(amount) from t{number}"
            for number in (0, DATASETS - 1):
                assert edge.sql(same.format(number=number)).equals(core.sql(same.format(number=number)))
            assert edge.stop() == 0
