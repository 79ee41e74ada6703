"""Whatever stands in a file, it loads or it is a ConfigError (`report` lets any other error through), in a moment."""

import json
import re
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import caraway.config
from caraway.config.document import compose
from caraway.config.report import report
from support.fuzz import fuzz

HEAD = "version: v2\nkind: Spicepod\nname: app\n"
SLOW = 2.0
"""Seconds of processor time; the slowest of a thousand examples took a twentieth of it."""


def known_keys() -> list[str]:
    """Every word in the loader's own source that could be a key."""
    words: set[str] = set()
    for source in Path(caraway.config.__file__).parent.glob("*.py"):
        words.update(re.findall(r'"([a-z][a-zA-Z0-9_-]{1,40})"', source.read_text(encoding="utf-8")))
    return sorted(words)


KEYS = known_keys()
FULL = (Path(__file__).parent / "full_pod.yaml").read_text(encoding="utf-8")


def loads_or_config_error(path: Path, text: str | bytes) -> bool:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    started = time.process_time()
    found = report(path)
    assert time.process_time() - started < SLOW
    assert all(problem.file is not None for problem in found.problems)
    return not found.problems


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pod") / "spicepod.yaml"


@fuzz(50)
@given(text=st.text(max_size=200))
def test_any_text(file: Path, text: str) -> None:
    loads_or_config_error(file, HEAD + text)
    loads_or_config_error(file, text)


@fuzz(50)
@given(data=st.binary(max_size=200))
def test_any_bytes(file: Path, data: bytes) -> None:
    loads_or_config_error(file, data)


PUNCTUATION = st.text(alphabet="ab: -[]{},&*!|>?#%@`\"'\n\\uU0x~<", max_size=80)


@fuzz(50)
@given(text=PUNCTUATION)
def test_any_yaml_punctuation(file: Path, text: str) -> None:
    loads_or_config_error(file, HEAD + "metadata:\n  " + text)


def seen(node: yaml.Node | None) -> object:
    """What the loader makes use of; where nothing stands, the parsers differ in its place."""
    if node is None or isinstance(node, yaml.ScalarNode):
        known = node and node.tag.startswith("tag:yaml.org,2002:")
        return node and (known, node.value, bool(node.style), node.start_mark.line if node.value else None)
    pairs = [seen(inner) for item in node.value for inner in (item if isinstance(item, tuple) else (item,))]
    return node.tag, node.start_mark.line, node.start_mark.column, pairs


@fuzz(80)
@given(text=st.builds("{}{}".format, st.sampled_from(["", "- ", "a: ", "a:\n ", "? "]), PUNCTUATION))
@example(FULL)
def test_the_fast_parser_reads_what_the_slow_one_reads(text: str) -> None:
    try:
        expected = seen(yaml.SafeLoader(text).get_single_node())
    except (yaml.YAMLError, ValueError):
        return
    assert expected is None or seen(compose(text, "x")) == expected


def dumped(tree: dict[str, object]) -> str:
    """Lines of YAML, the values as JSON, which is YAML too and quicker to write."""
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in tree.items())


ODD = """
    on yes 1s -1s 1h30m 5 0 128MiB 1.5GB full append caching arrow sqlite parquet cayenne duckdb enabled disabled
    file memory memory:x synthetic:orders spice.ai:http://h:1 https://x postgres:y a.b.c (a,b) a;b ${env:X} ${x:Y}
    ISO8601 upsert drop unique 0.0.0.0:80 v1 v2 Spicepod inf nan 1e400 2026-01-01 env file:x none zstd
"""
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(ODD.split()),
    st.sampled_from(
        ["* * * * *", "*/5 * * * * 1-5", "0 0 30 2 *", "select * from t", "select a from t where a > 1 or b like 'x%'"]
    ),
)


def branches(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    keys = st.sampled_from(KEYS)
    return st.lists(children, max_size=3) | st.dictionaries(keys, children, max_size=5)


TREES = st.recursive(SCALARS, branches, max_leaves=12)
TOP = ["runtime", "secrets", "datasets", "views", "catalogs", "metadata", "dependencies", "models", "extensions"]


@fuzz(70)
@given(tree=st.dictionaries(st.sampled_from(TOP), TREES, max_size=5))
def test_any_structure_of_known_keys(file: Path, tree: dict[str, object]) -> None:
    loads_or_config_error(file, HEAD + dumped(tree))


def paths(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    yield path
    match value:
        case dict():
            for key, inner in value.items():
                yield from paths(inner, (*path, key))
        case list():
            for number, inner in enumerate(value):
                yield from paths(inner, (*path, number))


WHOLE = yaml.load(FULL, yaml.CSafeLoader)
PATHS = list(paths(WHOLE))[1:]


def changed(change: Callable[[dict[object, object], object], None], path: tuple[object, ...]) -> str:
    """The section of the full pod that holds `path`, with the value there changed."""
    document = deepcopy({key: WHOLE[key] for key in ("version", "kind", "name", "secrets", path[0])})
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    change(parent, path[-1])
    return dumped(document)


def test_the_full_pod_loads(file: Path) -> None:
    assert loads_or_config_error(file, FULL)


@fuzz(70)
@given(path=st.sampled_from(PATHS), value=SCALARS | TREES)
def test_an_odd_value_in_any_place_of_a_good_pod(file: Path, path: tuple[object, ...], value: object) -> None:
    def change(parent: dict[object, object], key: object) -> None:
        parent[key] = value

    loads_or_config_error(file, changed(change, path))


@pytest.mark.parametrize("path", [path for path in PATHS if isinstance(path[-1], str)], ids=str)
def test_a_misspelt_key_never_passes_in_silence(file: Path, path: tuple[object, ...]) -> None:
    def misspell(parent: dict[object, object], key: object) -> None:
        parent[f"{key}x"] = parent.pop(key)

    free = {"params", "metadata", "properties", "headers", "indexes", "on_conflict"} & set(path[:-1])
    file.write_text(changed(misspell, path), encoding="utf-8")
    found = report(file)
    assert free or found.problems or found.warnings


def test_a_large_pod_loads_in_good_time(file: Path) -> None:
    blocks = "".join(
        f"- {{from: synthetic:orders, name: t{number}, acceleration: {{refresh_check_interval: 10s}}}}\n"
        for number in range(500)
    )
    assert loads_or_config_error(file, HEAD + "datasets:\n" + blocks)


def test_a_thousand_mistakes_are_found_in_good_time(file: Path) -> None:
    assert not loads_or_config_error(file, HEAD + "datasets:\n" + "- {nam: x, acceleration: {engin: y}}\n" * 500)
    assert len(report(file).problems) == 1500


def test_repeated_aliases_do_not_multiply(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb = "metadata:\n" + "".join(f"  {line}\n" for line in lines)
    assert not loads_or_config_error(file, HEAD + bomb)
