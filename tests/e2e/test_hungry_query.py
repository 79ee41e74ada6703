"""A query that wants more memory than there is: it alone is refused; refreshes and other queries go on."""

import threading

from support.daemons import Node, running, wait_for

POD = """
version: v2
kind: Spicepod
name: hungry
runtime:
  query:
    memory_limit: 256MiB
datasets:
  - from: synthetic:orders
    name: orders
    params: {rows: "20000", rate: "1000"}
    time_column: time
    time_format: timestamptz
    acceleration:
      engine: sqlite
      mode: file
      refresh_mode: append
      refresh_check_interval: 100ms
"""
FOUR_GIGABYTES = "select cardinality(array_agg(a.id * b.id)) from orders a cross join orders b"
"""What is gathered into one value can't be spilled."""


def test_a_query_that_eats_gigabytes_harms_nobody(tmp_path):
    node = Node(tmp_path, POD)
    with running(node):
        node.wait_ready()
        refused = []
        hungry = threading.Thread(target=lambda: refused.append(node.post("/v1/sql", content=FOUR_GIGABYTES)))
        hungry.start()
        answered = 0
        while hungry.is_alive():
            before = node.dataset("orders")["end_offset"]
            assert node.scalar("select count(*) from orders where region = 'north'") > 0
            wait_for(lambda before=before: node.dataset("orders")["end_offset"] > before, "rows go on arriving", 10)
            answered += 1
        assert answered
        assert refused[0].status_code == 503, refused[0].text
        assert node.dataset("orders")["failures"] == 0
        assert node.stop() == 0
