"""Pods that load with a word: deprecated keys, sections out of scope, keys without effect."""

from pathlib import Path

import pytest

from caraway.config.load import load
from caraway.config.model import (
    Acceleration,
    Access,
    ApiKeyAuth,
    Engine,
    ReadyState,
    ResultsCacheConfig,
    Spicepod,
    StorageMode,
)

HEAD = "version: v2\nkind: Spicepod\nname: app\n"


def pod(folder: Path, text: str) -> Spicepod:
    (folder / "spicepod.yaml").write_text(HEAD + text)
    return load(folder)


def warnings(folder: Path, text: str) -> list[str]:
    return [warning.replace(f"{folder}/spicepod.yaml:", "") for warning in pod(folder, text).warnings]


CASES = (Path(__file__).parent / "odd_pods.txt").read_text(encoding="utf-8").partition("## warning\n")[2].strip("\n")


@pytest.mark.parametrize("case", CASES.split("\n\n"))
def test_what_loads_but_deserves_a_word(tmp_path: Path, case: str) -> None:
    lines = case.split("\n")
    text = "".join(f"{line}\n" for line in lines if not line.startswith("=> "))
    assert sorted(warnings(tmp_path, text)) == sorted(line[3:] for line in lines if line.startswith("=> "))


def test_deprecated_keys_do_what_they_did(tmp_path: Path) -> None:
    runtime = pod(tmp_path, "runtime: {memory_limit: 1GB, temp_directory: /a, query: {temp_directory: /b}}\n").runtime
    assert (runtime.query.memory_limit, runtime.query.temp_directory) == (10**9, Path("/b"))
    old = "results_cache: {enabled: true, cache_max_size: 64MiB, eviction_policy: lru, item_ttl: 5s}"
    former = ResultsCacheConfig(max_size=64 * 1024**2, item_ttl=5.0)
    assert pod(tmp_path, f"runtime: {{{old}}}\n").runtime.sql_results == former
    both = f"runtime: {{{old}, caching: {{sql_results: {{item_ttl: 7s}}}}}}\n"
    assert pod(tmp_path, both).runtime.sql_results == ResultsCacheConfig(item_ttl=7.0)
    block = "ready_state: on_load, acceleration: {enabled: false, ready_state: on_registration}"
    dataset = pod(tmp_path, f"datasets: [{{name: a, mode: read, {block}}}]\n").datasets[0]
    assert (dataset.access, dataset.acceleration, dataset.ready_state) == (
        Access.READ,
        None,
        ReadyState.ON_REGISTRATION,
    )
    cayenne = (
        pod(tmp_path, "datasets: [{name: a, acceleration: {engine: cayenne, mode: file}}]\n").datasets[0].acceleration
    )
    assert cayenne == Acceleration(engine=Engine.PARQUET, mode=StorageMode.FILE)
    assert pod(tmp_path, "runtime: {auth: {api_key: {keys: [k]}}}\n").runtime.auth == ApiKeyAuth(keys=("k",))
