"""docs/status.md lists the metrics that there are, and no others."""

import re
from pathlib import Path

from caraway.config.metrics import KNOWN, OPT_IN

DOC = (Path(__file__).parents[2] / "docs" / "status.md").read_text(encoding="utf-8")
ROWS = [line for line in DOC.partition("## Metrics")[2].splitlines() if line.startswith("| `")]


def names(rows: list[str]) -> set[str]:
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_each_metric_is_documented() -> None:
    assert names(ROWS) == KNOWN


def test_those_that_are_opt_in_are_told_apart() -> None:
    assert names([row for row in ROWS if "opt-in" in row]) == OPT_IN
