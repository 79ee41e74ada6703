"""A short run of the chaos that `scripts/chaos kill` does at length."""

import pytest

from support.chaos import run


@pytest.mark.parametrize("engine", ["sqlite", "parquet"])
def test_core_and_edge_are_killed_at_random_and_end_equal(tmp_path, engine):
    report = run(tmp_path, engine, kills=5, seed=1, pause=1.0)
    assert not report.problems, report
    assert report.rows > 1000
