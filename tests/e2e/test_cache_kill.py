"""A daemon that keeps answers of an API is killed while they change: what it kept is whole, and served at once."""

from pathlib import Path

import pytest

from support.cache_chaos import run


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_killed_at_any_instant_it_keeps_whole_answers(tmp_path: Path, engine: str) -> None:
    report = run(tmp_path, engine, kills=3, seed=3)
    assert not report.problems, report
    assert report.entries > 0
    assert report.answers[200] > 0
    assert set(report.answers) <= {0, 200, 503}, report


def test_ended_it_keeps_all_that_it_gave(tmp_path: Path) -> None:
    report = run(tmp_path, "parquet", kills=2, seed=4, gently=True)
    assert not report.problems, report
    assert set(report.answers) <= {0, 200, 503}, report
