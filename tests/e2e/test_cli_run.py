"""`caraway run` and the examples: what starts, what refuses to start, and in which words."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemons import CLIENT, Node, running, wait_for

EXAMPLES = Path(__file__).parents[2] / "spicepods"
PODS = sorted(path.parent.name for path in EXAMPLES.glob("*/spicepod.yaml"))
EMPTY = "version: v2\nkind: Spicepod\nname: empty\n"


def caraway(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "caraway", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_there_are_examples():
    assert PODS == ["demo", "edge", "http-cache", "intake", "sidecar"]


@pytest.mark.parametrize("name", PODS)
def test_an_example_is_valid_and_warns_of_nothing(name):
    found = caraway("validate", str(EXAMPLES / name), "--json")
    assert found.returncode == 0, found.stdout
    assert json.loads(found.stdout)["warnings"] == []


@pytest.mark.parametrize("name", ["core", "edge"])
def test_a_pod_of_the_demo_is_valid(name):
    pod = EXAMPLES.parent / "daemon/caraway/cli/demo" / f"{name}.yaml"
    found = caraway("validate", str(pod), "--json")
    assert json.loads(found.stdout)["warnings"] == [], found.stdout


def test_the_demo_example_answers(tmp_path):
    node = Node(tmp_path / "demo", (EXAMPLES / "demo/spicepod.yaml").read_text())
    with running(node):
        node.wait_ready()
        assert node.scalar("select count(*) from revenue") == 5
        assert node.scalar("select count(*) from notes") == 0
        assert node.scalar("select count(*) from sensors") >= 5000
        listed = caraway("datasets", "--data-dir", str(node.data))
        assert listed.returncode == 0
        assert "orders" in listed.stdout
        assert node.stop() == 0


def test_the_sidecar_example_reads_its_files(tmp_path):
    shutil.copytree(EXAMPLES / "sidecar/regions", tmp_path / "sidecar/regions")
    node = Node(tmp_path / "sidecar", (EXAMPLES / "sidecar/spicepod.yaml").read_text())
    (node.folder / ".env").write_text("SIDECAR_KEY=open sesame\n")
    with running(node):
        ask = ("sql", "--data-dir", str(node.data), "--json", "-c")
        regions = "select region, _location from regions order by region"
        assert "Authentication Failed" in caraway(*ask, regions).stderr
        rows = json.loads(caraway(*ask, regions, "--api-key", "open sesame").stdout)
        assert [row["region"] for row in rows] == ["east", "north", "overseas", "south", "west"]
        assert rows[0]["_location"].endswith("regions/regions.csv")
        assert "open sesame" not in node.log.read_text()


def test_it_runs_where_its_pod_is_without_a_word(tmp_path):
    shutil.copy(EXAMPLES / "intake/spicepod.yaml", tmp_path)
    command = [sys.executable, "-m", "caraway", "run", "--http", "127.0.0.1:0", "--flight", "127.0.0.1:0"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log, cwd=tmp_path) as process:
        try:
            wait_for((tmp_path / ".caraway/endpoints.json").exists, "its addresses")
            url = "http://" + json.loads((tmp_path / ".caraway/endpoints.json").read_text())["http"]
            wait_for(lambda: CLIENT.get(f"{url}/v1/ready").status_code == 200, "ready")
            readings = f"{url}/v1/datasets/readings/rows"
            assert CLIENT.post(readings, json={"id": 1, "value": 2.5}).status_code == 201
            assert CLIENT.post(f"{url}/v1/sql", content="select id, value from readings").json() == [
                {"id": 1, "value": 2.5}
            ]
        finally:
            process.kill()


def test_a_broken_pod_is_reported_whole(tmp_path):
    (tmp_path / "spicepod.yaml").write_text("version: v2\nkind: Spicepod\nnam: x\ndatasets: 7\n")
    found = caraway("run", str(tmp_path))
    assert found.returncode == 1
    assert "spicepod.yaml:3" in found.stderr
    assert "spicepod.yaml:4" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_address_in_use_is_said_in_words(tmp_path):
    (tmp_path / "spicepod.yaml").write_text(EMPTY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = caraway("run", str(tmp_path), "--http", address, "--flight", "127.0.0.1:0")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith(f"caraway can't start: Can't listen on '{address}'")


def test_a_daemon_that_never_became_ready_stops_all_the_same(tmp_path):
    pod = f"{EMPTY}datasets:\n  - {{from: 'file:nope.csv', name: t, acceleration: {{enabled: true}}}}\n"
    node = Node(tmp_path / "one", pod)
    with running(node):
        wait_for(lambda: node.dataset("t")["status"] == "Error", "the file is missed")
        assert "nope.csv does not exist" in node.dataset("t")["error"]["message"]
        assert node.stop() == 0


def test_two_daemons_do_not_share_a_data_directory(tmp_path):
    node = Node(tmp_path / "one", EMPTY)
    with running(node):
        second = caraway("run", str(node.folder), "--data-dir", str(node.data), "--http", "127.0.0.1:0")
    assert second.returncode == 1
    assert "Another caraway uses the data directory" in second.stderr
    assert "Traceback" not in second.stderr
