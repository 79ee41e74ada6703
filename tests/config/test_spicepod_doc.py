"""docs/spicepod.md names the keys that the loader knows, and no others."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from caraway.accelerators.parquet.options import BOUNDS
from caraway.config.connectors import AVAILABLE
from caraway.config.report import report

HERE = Path(__file__).parent
DOC = (HERE.parents[1] / "docs" / "spicepod.md").read_text(encoding="utf-8")
FREE = {"metadata", "params", "indexes", "on_conflict", "columns", "catalogs", "caching", "telemetry", "task_history"}
"""Maps and lists of anything, or of what one row of the document stands for."""


def rows() -> Iterator[tuple[str, str]]:
    """(heading, key) of each key in the first column of a table; a heading's first word in backticks is its prefix."""
    heading = ""
    for line in DOC.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            for key in re.findall(r"`([^`]+)`", line.split("|")[1]):
                yield heading, key


def path_of(heading: str, key: str) -> str:
    prefix = re.match(r"`([^`]+)`", heading)
    return f"{prefix[1]}.{key}" if prefix else key


DOCUMENTED = [path_of(heading, key) for heading, key in rows()]
ITEMS = {
    "datasets": {"from": "synthetic:orders", "name": "t"},
    "views": {"name": "v", "sql": "select 1"},
    "secrets": {"from": "env"},
}


def pod_with(path: str) -> str:
    """A pod with nothing at `path`: a key that is known may stand there empty."""
    document: dict[str, object] = {"version": "v2", "kind": "Spicepod", "name": "app"}
    node = document
    *parents, last = path.split(".")
    for step in parents:
        name = step.removesuffix("[]")
        below: dict[str, object] = dict(ITEMS.get(name, {}))
        node[name] = [below] if step.endswith("[]") else below
        node = below
    node.setdefault(last, None)
    return json.dumps(document)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pod") / "spicepod.yaml"


@pytest.mark.parametrize("path", [path for path in DOCUMENTED if ".params." not in path])
def test_the_loader_knows_each_key(file: Path, path: str) -> None:
    file.write_text(pod_with(path), encoding="utf-8")
    found = report(file)
    assert not [text for text in (*map(str, found.problems), *found.warnings) if "unknown key" in text]


def test_an_unknown_key_would_be_found(file: Path) -> None:
    file.write_text(pod_with("datasets[].acceleration.refresh_sq"), encoding="utf-8")
    assert "unknown key" in str(report(file).problems)


def used(value: object, path: str = "") -> Iterator[str]:
    """The keys of a pod as the document writes them."""
    match value:
        case dict():
            for key, inner in value.items():
                yield f"{path}{key}"
                if key not in FREE:
                    yield from used(inner, f"{path}{key}.")
        case list():
            for inner in value:
                yield from used(inner, f"{path[:-1]}[].")


def test_each_key_of_the_full_pod_is_documented() -> None:
    whole = yaml.load((HERE / "full_pod.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    rows_for_all = ("runtime.metrics", "runtime.cpu", "runtime.mcp", "runtime.tracing", "datasets[].metrics")
    views_as_datasets = ("views[].acceleration.", "datasets[].acceleration.metrics")
    missing = [
        path
        for path in used(whole)
        if path not in DOCUMENTED
        and not any(known.startswith((f"{path}.", f"{path}[].")) for known in DOCUMENTED)
        and not path.startswith((*rows_for_all, *views_as_datasets))
    ]
    assert missing == []


@pytest.mark.parametrize("connector", [name for name, kind in AVAILABLE.items() if kind.params])
def test_the_parameters_of_each_connector_are_documented(connector: str) -> None:
    found = {key for heading, key in rows() if connector in re.findall("`([^`]+)`", heading.partition(" of ")[2])}
    assert found == AVAILABLE[connector].params


def test_the_bounds_of_the_parquet_engine_are_documented() -> None:
    for key, (low, high) in BOUNDS.items():
        assert f"| `{key}` | {low} to {high} |" in DOC


ENGINE_PARAMS = [path.rpartition(".")[2] for path in DOCUMENTED if path.startswith("datasets[].acceleration.params.")]


@pytest.mark.parametrize("key", ENGINE_PARAMS)
def test_the_engines_know_each_parameter(file: Path, key: str) -> None:
    engine = key.split("_")[0] if key.startswith(("sqlite", "parquet")) else "arrow"
    params = {key: "1"}
    dataset = {"from": "synthetic:orders", "name": "t", "acceleration": {"engine": engine, "params": params}}
    file.write_text(json.dumps({"version": "v2", "kind": "Spicepod", "name": "a", "datasets": [dataset]}))
    assert "does not know" not in str(report(file).problems)
