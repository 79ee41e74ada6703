"""What the keys of a spicepod promise, asked of a real daemon over HTTP: views, federation, fallbacks, overrides."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.daemons import Node, running, wait_for

POD = """
version: v2
kind: Spicepod
name: semantics
datasets:
  - from: file:sales.parquet
    name: sales
    acceleration:
      engine: {engine}
      primary_key: id
  - from: file:sales.parquet
    name: shop.federated
  - from: file:sales.parquet
    name: recent
    acceleration:
      engine: {engine}
      refresh_sql: SELECT id, amount FROM recent WHERE id > 90
      on_zero_results: use_source
  - from: file:nowhere.parquet
    name: missing
    acceleration: {{engine: {engine}}}
  - from: memory:notes
    name: notes
    columns:
      - {{name: id, type: bigint}}
      - {{name: text, type: text}}
    acceleration: {{engine: {engine}}}
views:
  - name: by_region
    sql: SELECT region, count(*) AS n, sum(amount) AS total FROM sales GROUP BY region
  - name: totals
    sql: SELECT sum(total) AS total FROM by_region
    acceleration: {{engine: {engine}}}
"""
ROWS = 100


@pytest.fixture(scope="module", params=["arrow", "sqlite", "parquet"])
def node(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("semantics")
    write_sales(folder, ROWS)
    daemon = Node(folder, POD.format(engine=request.param))
    with running(daemon):
        wait_for(lambda: daemon.dataset("totals")["status"] == "Ready", "the view of the view")
        yield daemon
        assert daemon.stop() == 0


def write_sales(folder, rows):
    regions = ["north", "south", "east", "west"]
    table = pa.table(
        {
            "id": range(rows),
            "region": [regions[i % 4] for i in range(rows)],
            "amount": pa.array([float(i) for i in range(rows)]),
        }
    )
    pq.write_table(table, folder / "sales.parquet")


def rows(node, sql):
    return node.sql(sql).to_pylist()


def test_views_and_views_of_views(node):
    assert rows(node, "select region, n from by_region order by region limit 1") == [{"region": "east", "n": 25}]
    assert rows(node, "select total from totals") == [{"total": 4950.0}]


def test_a_federated_dataset_joins_an_accelerated_one(node):
    sql = (
        "select count(*) n from shop.federated f join sales s on f.id = s.id where f.region = 'north' and s.amount < 50"
    )
    assert rows(node, sql) == [{"n": 13}]


def test_an_empty_answer_is_asked_of_the_source(node):
    assert rows(node, "select count(*) n from recent") == [{"n": 9}]
    assert rows(node, "select amount from recent where id = 5") == [{"amount": 5.0}]
    assert rows(node, "select amount from recent where id = 95") == [{"amount": 95.0}]
    assert rows(node, "select amount from recent where id = 1000") == []


def test_a_dataset_without_its_file_says_so_and_harms_no_other(node):
    wait_for(lambda: node.dataset("missing")["status"] == "Error", "the missing file is told")
    problem = node.dataset("missing")["error"]
    assert "nowhere.parquet" in problem["message"]
    assert problem["remedy"]
    answer = node.post("/v1/sql", content=b"select * from missing")
    assert answer.status_code == 400
    assert node.get("/v1/ready").status_code == 503
    assert "[-] dataset missing" in node.get("/v1/ready?verbose").text


def test_a_written_dataset_is_there_and_empty(node):
    assert rows(node, "select count(*) n from notes") == [{"n": 0}]
    assert node.sql("select * from notes").schema.names == ["id", "text"]


def test_the_catalog_names_what_sql_can_name(node):
    listed = {(row["table_schema"], row["table_name"]) for row in rows(node, "show tables")}
    expected = {("public", "sales"), ("shop", "federated"), ("public", "by_region"), ("public", "totals")}
    assert expected <= listed
    columns = rows(node, "select column_name from information_schema.columns where table_name = 'by_region'")
    assert [row["column_name"] for row in columns] == ["region", "n", "total"]
    assert rows(node, "select count(*) n from spice.public.sales") == [{"n": ROWS}]


def test_parameters_by_place_and_by_name(node):
    by_place = node.post("/v1/sql", json={"sql": "select id from sales where id = $1", "parameters": [7]})
    by_name = node.post("/v1/sql", json={"sql": "select id from sales where id = :id", "parameters": {"id": 7}})
    assert by_place.json() == by_name.json() == [{"id": 7}]


def test_one_refresh_with_overrides_and_a_new_refresh_sql(node):
    path = "/v1/datasets/recent/acceleration"
    assert (
        node.post(f"{path}/refresh", json={"refresh_sql": "SELECT id, amount FROM recent WHERE id > 97"}).status_code
        == 201
    )
    wait_for(lambda: node.dataset("recent")["rows"] == 2, "the override's rows")
    assert node.post(f"{path}/refresh").status_code == 201
    wait_for(lambda: node.dataset("recent")["rows"] == 9, "the configured rows again")
    changed = node.patch(path, json={"refresh_sql": "SELECT id, amount FROM recent WHERE id >= 50"})
    assert changed.status_code == 200
    assert node.dataset("recent")["rows"] == 9
    assert node.post(f"{path}/refresh").status_code == 201
    wait_for(lambda: node.dataset("recent")["rows"] == 50, "the new refresh_sql")
    refused = node.patch(path, json={"refresh_sql": "SELECT id, amount FROM other"})
    assert refused.status_code == 400


def test_a_refresh_brings_the_file_as_it_is_now(node):
    write_sales(node.folder, ROWS * 2)
    assert node.post("/v1/datasets/sales/acceleration/refresh").status_code == 201
    wait_for(lambda: rows(node, "select count(*) n from sales") == [{"n": 2 * ROWS}], "the longer file")
    assert node.post("/v1/datasets/totals/acceleration/refresh").status_code == 201
    wait_for(lambda: rows(node, "select total from totals") == [{"total": 19900.0}], "the view of it")
    write_sales(node.folder, ROWS)
    assert node.post("/v1/datasets/sales/acceleration/refresh").status_code == 201
    wait_for(lambda: rows(node, "select count(*) n from sales") == [{"n": ROWS}], "the shorter file")


@pytest.mark.parametrize("name", ["nosuch", "shop.federated", "notes"])
def test_what_cannot_be_refreshed_says_why(node, name):
    answer = node.post(f"/v1/datasets/{name}/acceleration/refresh")
    assert answer.status_code in {400, 404}
    assert name in answer.json()["message"]
