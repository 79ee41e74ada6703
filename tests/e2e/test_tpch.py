"""Real input: TPC-H served by a core over Flight, accelerated at an edge in each engine, all 22 answers as DuckDB's."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from support.daemons import Node, running
from support.tpch import QUERIES, TABLES

CORE = """
version: v2
kind: Spicepod
name: core
datasets:
"""
EDGE = CORE.replace("name: core", "name: edge")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tpch")
    tool = Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run([tool, "parquet", "-s", "0.1", f"--output-dir={folder}"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def core(files, tmp_path_factory):
    entries = (
        f"  - from: file:{files}/{table}.parquet\n    name: {table}\n    acceleration:\n      engine: parquet\n"
        for table in TABLES
    )
    node = Node(tmp_path_factory.mktemp("core"), CORE + "".join(entries))
    with running(node):
        node.wait_ready()
        yield node


@pytest.fixture(scope="module")
def answers(files) -> dict[int, list[tuple]]:
    database = duckdb.connect()
    for table in TABLES:
        database.sql(f"create view {table} as select * from '{files}/{table}.parquet'")
    return {number: rounded(database.sql(sql).fetchall()) for number, sql in QUERIES.items()}


@pytest.mark.parametrize("engine", ["arrow", "sqlite", "parquet"])
def test_all_answers_equal_duckdb(engine, core, answers, tmp_path):
    mode = "" if engine == "arrow" else "\n      mode: file"
    entries = (
        f"  - from: spice.ai:http://{core.endpoints['flight']}\n    name: {table}\n"
        f"    acceleration:\n      engine: {engine}{mode}\n"
        for table in TABLES
    )
    edge = Node(tmp_path / "edge", EDGE + "".join(entries))
    with running(edge):
        edge.wait_ready()
        for number, sql in QUERIES.items():
            assert rounded(rows(edge.sql(sql))) == answers[number], f"Q{number}"
        assert edge.stop() == 0


def rows(table) -> list[tuple]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_rows else []


def rounded(answer: list[tuple]) -> list[tuple]:
    """Numbers to cents: the engines sum doubles and widen decimals differently."""
    return [tuple(round(float(v), 2) if is_number(v) else v for v in row) for row in answer]


def is_number(value: object) -> bool:
    return value is not None and not isinstance(value, str) and not hasattr(value, "year")
