"""What validation prints and returns."""

from pathlib import Path

import orjson

from caraway.config.report import report

GOOD = """version: v2
kind: Spicepod
name: app
models: []
datasets: [{from: synthetic:a, name: a}, {from: synthetic:b, name: b}]
views: [{name: v, sql: select 1}]
"""


def test_a_good_pod_is_ok_and_counted(tmp_path: Path) -> None:
    (tmp_path / "spicepod.yaml").write_text(GOOD)
    found = report(tmp_path)
    assert found.exit_code == 0
    assert found.text.replace(f"{tmp_path}/", "") == (
        "OK app (datasets: 2, views: 1, catalogs: 0, secret stores: 1)\n"
        "warning: spicepod.yaml:4:9: models: this section is out of scope here and is ignored"
    )


def test_a_bad_pod_is_invalid_with_all_its_problems(tmp_path: Path) -> None:
    (tmp_path / "spicepod.yaml").write_text(GOOD.replace("v2", "v9").replace("views", "vews"))
    found = report(tmp_path)
    assert found.exit_code == 1
    assert found.text.replace(f"{tmp_path}/", "").split("\n") == [
        "Invalid: spicepod validation failed: 2 problems",
        "spicepod.yaml:1:10: version: unknown version 'v9'; allowed: v1, v2",
        "spicepod.yaml:6:1: vews: unknown key; did you mean 'views'?",
    ]
    assert found.as_json()["problems"] == [
        {"message": "unknown version 'v9'; allowed: v1, v2", "key": "version", "file": f"{tmp_path}/spicepod.yaml",
         "line": 1, "column": 10},
        {"message": "unknown key; did you mean 'views'?", "key": "vews", "file": f"{tmp_path}/spicepod.yaml",
         "line": 6, "column": 1},
    ]  # fmt: skip


def test_a_missing_pod_is_one_problem(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert (found.exit_code, len(found.problems)) == (1, 1)
    assert found.text.startswith("Invalid: spicepod validation failed: 1 problem\n")


def test_the_report_is_json(tmp_path: Path) -> None:
    (tmp_path / "spicepod.yaml").write_text(GOOD)
    assert orjson.loads(orjson.dumps(report(tmp_path, ["query.workers=2"]).as_json())) == {
        "valid": True,
        "path": str(tmp_path),
        "name": "app",
        "counts": {"datasets": 2, "views": 1, "catalogs": 0, "secret stores": 1},
        "warnings": [f"{tmp_path}/spicepod.yaml:4:9: models: this section is out of scope here and is ignored"],
        "problems": [],
    }
