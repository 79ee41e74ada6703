"""Mistakes in a pod: each one with its place, its key, what was found and what is allowed."""

from pathlib import Path
from textwrap import dedent

import pytest

from caraway.config.load import load
from caraway.errors import ConfigError

HEAD = "version: v2\nkind: Spicepod\nname: app\n"
DATASET = HEAD + "datasets:\n- from: synthetic:orders\n  name: t\n"
ACCELERATED = DATASET + "  acceleration:\n"


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    """The problems of a pod, without the folder's name."""
    (folder / "spicepod.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(folder, overrides)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


SHAPES = [
    ("", ["spicepod.yaml: the file is empty"]),
    ("# nothing\n", ["spicepod.yaml: the file is empty"]),
    ("- a\n", [
        "spicepod.yaml:1:1: found a list where keys and values are expected",
        "spicepod.yaml:1:1: missing field `version`",
        "spicepod.yaml:1:1: missing field `kind`",
        "spicepod.yaml:1:1: missing field `name`",
    ]),
    ("version: v2\n", [
        "spicepod.yaml:1:1: missing field `kind`",
        "spicepod.yaml:1:1: missing field `name`",
    ]),
    ("version: v3\nkind: Pod\nname:\n", [
        "spicepod.yaml:1:10: version: unknown version 'v3'; allowed: v1, v2",
        "spicepod.yaml:2:7: kind: found 'Pod', expected Spicepod",
        "spicepod.yaml:3:1: name: this can't be empty",
    ]),
    ("version: v1beta1\nkind: Spicepod\nname: app\n", [
        "spicepod.yaml:1:10: version: v1beta1 is no longer supported; write v2 and adapt the keys that changed",
    ]),
    (HEAD + "a: [1\n", ["spicepod.yaml:5:1: this is not YAML: expected ',' or ']', but got '<stream end>'"]),
    (HEAD + "a: b: c\n", ["spicepod.yaml:4:5: this is not YAML: mapping values are not allowed here"]),
    (HEAD + "--- \na: 1\n", ["spicepod.yaml:4:1: this is not YAML: but found another document"]),
    (HEAD + "\x07\n", ["spicepod.yaml: this is not YAML: the character 7 at position 37 is not allowed"]),
    (HEAD + 'a: "\\U99999999"\n', ["spicepod.yaml: this is not YAML: a number or an escape in it is too large"]),
    (HEAD + "a: " + "[" * 1200, ["spicepod.yaml: this is not YAML: it is nested too deeply"]),
    (HEAD + "name: other\n", ["spicepod.yaml:4:1: name: this key stands here twice, first in line 3"]),
    (HEAD + "dataset: []\n", ["spicepod.yaml:4:1: dataset: unknown key; did you mean 'datasets'?"]),
    (HEAD + "xyz: []\n", ["spicepod.yaml:4:1: xyz: unknown key"]),
    (HEAD + "? [a]\n: b\n", ["spicepod.yaml:4:3: found a list, expected a single value"]),
    (HEAD + "name2: !x y\n", ["spicepod.yaml:4:1: name2: unknown key; did you mean 'name'?"]),
    (HEAD + "<<: {name: x}\n", ["spicepod.yaml:4:1: <<: unknown key"]),
    ("version: v2\nkind: !x Spicepod\nname: app\n", ["spicepod.yaml:2:7: kind: the tag !x means nothing here"]),
    ('version: v2\nkind: Spicepod\nname: "\\uD800"\n', [
        "spicepod.yaml:3:7: name: this text holds half of a surrogate pair",
    ]),
    (HEAD + "datasets: {}\n", ["spicepod.yaml:4:11: datasets: found a map, expected a list"]),
    (HEAD + "datasets: [x]\n", [
        "spicepod.yaml:4:12: datasets[0]: found text where keys and values are expected",
        "spicepod.yaml:4:12: datasets[0]: missing field `name`",
    ]),
    (HEAD + "datasets: &d [*d]\n", [
        "spicepod.yaml:4:11: datasets[0]: found a list where keys and values are expected",
        "spicepod.yaml:4:11: datasets[0]: missing field `name`",
    ]),
    (HEAD + "runtime: [a]\n", ["spicepod.yaml:4:10: runtime: found a list where keys and values are expected"]),
    (HEAD + "metadata: &m {a: {b: *m}}\n", ["spicepod.yaml:4:18: metadata.a: this is nested too deeply or too large"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SHAPES)
def test_the_shape_of_the_file(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, text) == expected


PLACES = {
    "pod": HEAD,
    "dataset": DATASET,
    "acceleration": ACCELERATED,
    "caching": HEAD
    + "datasets:\n- from: https://h/x\n  name: t\n  acceleration:\n    refresh_mode: caching\n    params:\n",
}


def cases() -> list[tuple[str, str, list[str]]]:
    """Place, lines of the pod and problems of every case in bad_pods.txt."""
    found = []
    sections = (Path(__file__).parent / "bad_pods.txt").read_text(encoding="utf-8").split("\n## ")
    for section in sections[1:]:
        place, _, body = section.partition("\n")
        for case in body.strip("\n").split("\n\n"):
            lines = case.split("\n")
            pod = "".join(f"{line}\n" for line in lines if not line.startswith("=> "))
            found.append((place, pod, [f"spicepod.yaml:{line[3:]}" for line in lines if line.startswith("=> ")]))
    return found


@pytest.mark.parametrize(("place", "text", "expected"), cases())
def test_a_mistake_gives_its_problem_and_no_other(tmp_path: Path, place: str, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, PLACES[place] + text) == expected


def test_both_layers_may_not_revalidate_the_same_rows(tmp_path: Path) -> None:
    text = f"""{ACCELERATED}    refresh_mode: caching
    params: {{caching_stale_while_revalidate_ttl: 1m}}
runtime: {{caching: {{sql_results: {{stale_while_revalidate_ttl: 1m}}}}}}
"""
    assert problems(tmp_path, text)[1] == (
        "spicepod.yaml:10:63: runtime.caching.sql_results.stale_while_revalidate_ttl: "
        "the dataset 't' sets caching_stale_while_revalidate_ttl too; use one of them"
    )


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "dataset.yaml").write_text("from: synthetic:x\nname: one\ndescripton: x\n")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset.yml").write_text("from: [\n")
    text = HEAD + "runtime: {a: 1}\ndatasets: [{ref: one}, {ref: two, x: 1}]\n"
    assert problems(tmp_path, text) == [
        "one/dataset.yaml:3:1: datasets[0].descripton: unknown key; did you mean 'description'?",
        "spicepod.yaml:4:11: runtime.a: unknown key",
        "spicepod.yaml:5:35: datasets[1].x: unknown key",
        "two/dataset.yml:2:1: this is not YAML: expected the node content, but found '<stream end>'",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("query.timeout=0", "--set-runtime: runtime.query.timeout: this must be greater than zero"),
        (
            "runtime.query.workers=x",
            "--set-runtime: runtime.query.workers: found 'x', expected a whole number of at least 1",
        ),
        ("quary.workers=1", "--set-runtime: runtime.quary: unknown key; did you mean 'query'?"),
        ("query", "--set-runtime: 'query' does not have the form key.subkey=value"),
        ("query..x=1", "--set-runtime: 'query..x=1' does not have the form key.subkey=value"),
        ("query.timeout=[", "--set-runtime: this is not YAML: expected the node content, but found '<stream end>'"),
    ],
)
def test_an_override_is_checked_like_the_file(tmp_path: Path, override: str, expected: str) -> None:
    assert problems(tmp_path, HEAD, override) == [expected]


def test_values_that_may_be_secret_are_not_quoted(tmp_path: Path) -> None:
    text = dedent("""\
        runtime: {auth: {api-key: {keys: hunter2}}}
        datasets: [{name: t, params: hunter2, acceleration: hunter2}]
        secrets: hunter2
        """)
    found = problems(tmp_path, HEAD + text)
    assert len(found) == 4
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"version: v1\nname: \xff\n", "spicepod.yaml:2: this is not UTF-8 text"),
        (b"#" * (4 * 1024**2 + 1), "spicepod.yaml: the file is larger than 4194304 bytes"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "spicepod.yaml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == expected


def test_a_path_that_holds_no_pod(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no spicepod.yaml or spicepod.yml in this directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"x.yaml: the file can't be read: No such file or directory"):
        load(tmp_path / "x.yaml")


def test_a_path_that_no_file_system_takes(tmp_path: Path) -> None:
    name = "x" * 5000
    found = problems(tmp_path, HEAD + f"datasets: [{{ref: {name}}}]\nviews: [{{name: v, sql_ref: {name}}}]\n")
    assert [problem.split(" ")[-1] for problem in found] == [name, "long"]
    with pytest.raises(ConfigError, match="can't be read: File name too long"):
        load(Path(name))
