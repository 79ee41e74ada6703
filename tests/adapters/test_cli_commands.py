"""The verbs against a server of the standard library that answers as the daemon does, or as it should not."""

import io
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from caraway.cli import main as cli
from caraway.cli.caches import told
from caraway.cli.results import MOST_ROWS, Answer

ARROW = "application/vnd.apache.arrow.stream"


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Fake:
    """Routes are `METHOD path` without its query; an answer is (status, body), or a function of the request."""

    routes: dict[str, object] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, request: Asked) -> tuple[int, bytes]:
        self.asked.append(request)
        found = self.routes.get(f"{request.method} {request.path.split('?')[0]}", (404, {"message": "not here"}))
        status, body = found(request) if isinstance(found, Callable) else found
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def server():
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = fake.answer(Asked(self.command, self.path, headers, body))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = handle_any  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        fake.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield fake
        http.shutdown()
        thread.join()


@pytest.fixture
def caraway(server, capsys, monkeypatch):
    monkeypatch.delenv("SPICE_API_KEY", raising=False)

    def run(*argv: str) -> tuple[int, str, str]:
        where = () if "--data-dir" in argv else ("--http-endpoint", server.url)
        code = cli.main([argv[0], *where, *argv[1:]])
        return code, *capsys.readouterr()

    return run


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# --- lists -----------------------------------------------------------------------------------------------------------


def test_datasets(server, caraway):
    listed = [
        {"from": "file:a", "name": "a", "replication_enabled": False, "acceleration_enabled": True, "status": "Ready",
         "lag": 0.4321, "behind": None},
        {"from": "file:b", "name": "b", "replication_enabled": False, "acceleration_enabled": False, "status": "Error",
         "lag": None, "behind": None, "error_message": "gone\x1b[2J"},
        {"from": "spice.ai/c", "name": "c", "replication_enabled": False, "acceleration_enabled": True,
         "status": "Error", "lag": 75.2, "behind": 12345, "error_message": "Late.", "remedy": "Wait."},
    ]  # fmt: skip
    server.routes["GET /v1/datasets"] = 200, listed
    code, out, _ = caraway("datasets")
    assert code == 0
    assert rows(out) == [
        ["NAME", "FROM", "REPLICATION", "ACCELERATION", "STATUS", "LAG", "BEHIND", "ERROR"],
        ["a", "file:a", "false", "true", "Ready", "0.4s"],
        ["b", "file:b", "false", "false", "Error", "gone\\x1b[2J"],
        ["c", "spice.ai/c", "false", "true", "Error", "1m15s", "12,345", "Late.", "Wait."],
    ]
    assert server.asked[0].path == "/v1/datasets?status=true"
    assert json.loads(caraway("datasets", "--json")[1]) == listed


def test_status(server, caraway):
    server.routes["GET /v1/status"] = 200, [{"name": "http", "endpoint": "127.0.0.1:8090", "status": "Ready"}]
    assert rows(caraway("status")[1]) == [["NAME", "ENDPOINT", "STATUS"], ["http", "127.0.0.1:8090", "Ready"]]


def test_pods(server, caraway):
    pod = {"name": "p", "version": "v2", "datasets_count": 2, "models_count": 0, "dependencies_count": 1}
    server.routes["GET /v1/spicepods"] = 200, [pod]
    assert rows(caraway("pods")[1]) == [
        ["NAME", "VERSION", "DATASETS", "MODELS", "DEPENDENCIES"],
        ["p", "v2", "2", "0", "1"],
    ]


# --- sql -------------------------------------------------------------------------------------------------------------


TABLE = """\
+-------+--------+--------------+
|    id | name   | tags         |
| int64 | string | list<string> |
+-------+--------+--------------+
|     1 | a      | ["x"]        |
|    22 | NULL   | []           |
+-------+--------+--------------+
"""


def test_sql_prints_a_table_with_types(server, caraway):
    table = pa.table({"id": [1, 22], "name": ["a", None], "tags": [["x"], []]})
    server.routes["POST /v1/sql"] = 200, arrow(table)
    code, out, _ = caraway("sql", "-c", "select 1;")
    assert code == 0
    assert out == TABLE
    assert server.asked[0].body == b"select 1"
    assert server.asked[0].headers["accept"] == ARROW


def test_sql_shows_the_first_rows_and_counts_all(server, caraway):
    server.routes["POST /v1/sql"] = 200, arrow(pa.table({"id": pa.arange(0, 1234)}))
    _, out, err = caraway("sql", "-c", "select 1")
    assert len(out.splitlines()) == MOST_ROWS + 5
    assert "500 of 1,234 rows" in err


@pytest.mark.parametrize(
    ("flag", "accept", "body"),
    [("--json", "application/json", b'[{"id":1}]'), ("--csv", "text/csv", b"id\n1\n")],
)
def test_sql_passes_json_and_csv_through(server, caraway, flag, accept, body):
    server.routes["POST /v1/sql"] = 200, body
    code, out, _ = caraway("sql", flag, "-c", "select 1")
    assert (code, out) == (0, body.decode().rstrip("\n") + "\n")
    assert server.asked[0].headers["accept"] == accept


def test_sql_from_a_pipe_runs_each_statement_until_one_fails(server, caraway, monkeypatch):
    def answer(request: Asked) -> tuple[int, bytes]:
        return (400, b"no such table") if b"nope" in request.body else (200, b"[]")

    server.routes["POST /v1/sql"] = answer
    monkeypatch.setattr(sys, "stdin", io.StringIO("select ';' ;\n-- c;\nselect nope; select 3"))
    code, out, err = caraway("sql", "--json")
    assert (code, out, err) == (1, "[]\n", "no such table\n")
    assert [asked.body for asked in server.asked] == [b"select ';'", b"-- c;\nselect nope"]


@pytest.mark.parametrize(("flags", "sent"), [([], None), (["cache"], None), (["no-cache"], "no-cache")])
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_sql_says_with_each_statement_what_it_asks_of_the_cache(server, caraway, flags, sent, form):
    server.routes["POST /v1/sql"] = 200, b"[]" if form else arrow(pa.table({"id": [1]}))
    asked = [part for flag in flags for part in ("--cache-control", flag)]
    assert caraway("sql", *asked, *form, "-c", "select 1; select 2")[0] == 0
    assert [each.headers.get("cache-control") for each in server.asked] == [sent, sent]


@pytest.mark.parametrize("value", ["no-store", "", "Cache", "max-age=0"])
def test_sql_refuses_other_words_of_cache_control(server, caraway, capsys, value):
    with pytest.raises(SystemExit) as ended:
        caraway("sql", "--cache-control", value, "-c", "select 1")
    assert ended.value.code == 2
    assert "--cache-control: invalid choice" in capsys.readouterr().err
    assert not server.asked


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, ""),
        ({"results-cache-status": "HIT"}, "(cache hit)"),
        ({"results-cache-status": "STALE"}, "(cache hit, stale)"),
        ({"results-cache-status": "MISS"}, "(cache miss)"),
        ({"results-cache-status": "BYPASS"}, "(cache bypassed)"),
        ({"results-cache-status": "NEW", "dataset-cache-status": "t; new; age=1, ;;,"}, ""),
        ({"dataset-cache-status": "tv_shows; hit; age=12"}, "(tv_shows hit, 12s old)"),
        (
            {"results-cache-status": "MISS", "dataset-cache-status": 'a.b; stale; age=75, "x, \\"y"; fwd=miss'},
            '(cache miss; a.b stale, 1m15s old; x, "y fetched)',
        ),
        ({"dataset-cache-status": "t; stale-if-error; age=300"}, "(t stale since its source fails, 5m old)"),
        ({"dataset-cache-status": '"\x1b[2J"; hit; age=0'}, "(\\x1b[2J hit, 0s old)"),
    ],
)
def test_what_the_caches_did_stands_beside_the_time(headers, words):
    answer = Answer(pa.table({}), 3, 0.00123, told(headers))
    assert answer.timing.plain == "Time: 0.0012 seconds. 3 rows." + (f" {words}" if words else "")


def test_sql_that_is_cut_off_fails(server, caraway):
    server.routes["POST /v1/sql"] = 200, arrow(pa.table({"id": pa.arange(0, 1000)}))[:-3000]
    code, _, err = caraway("sql", "-c", "select 1")
    assert code == 1
    assert "Arrow" in err


# --- refresh ---------------------------------------------------------------------------------------------------------


REFRESH = "POST /v1/datasets/orders/acceleration/refresh"


def detail(**changed: object) -> dict[str, object]:
    base = {
        "status": "Ready",
        "last_refresh": "T0",
        "failures": 0,
        "rows": 5,
        "rows_loading": 0,
        "rate": 0,
        "error": None,
    }
    return base | changed


def states(*details: dict[str, object]) -> Callable[[Asked], tuple[int, object]]:
    """Each request for the dataset finds it in the next state."""
    left = list(details)
    return lambda _: (200, left.pop(0) if len(left) > 1 else left[0])


def test_refresh_says_what_it_does(server, caraway):
    server.routes[REFRESH] = 201, {"message": "Dataset refresh triggered for orders."}
    code, out, _ = caraway("refresh", "orders", "--refresh-mode", "full", "--refresh-sql", "select * from orders")
    assert (code, out) == (0, "Refreshing dataset orders ...\nDataset refresh triggered for orders.\n")
    assert json.loads(server.asked[0].body) == {"refresh_sql": "select * from orders", "refresh_mode": "full"}


def test_refresh_waits_for_success(server, caraway):
    server.routes[REFRESH] = 201, {"message": "triggered"}
    running = detail(status="Refreshing", rows_loading=3)
    server.routes["GET /v1/datasets/orders"] = states(detail(), running, detail(last_refresh="T1", rows=1234))
    code, out, _ = caraway("refresh", "orders", "--wait")
    assert code == 0
    assert out.splitlines()[-1] == "Loaded: orders has 1,234 rows."


def test_refresh_waits_for_failure(server, caraway):
    server.routes[REFRESH] = 201, {"message": "triggered"}
    broken = detail(status="Error", failures=3, error={"message": "core is away.", "remedy": "Start it."})
    server.routes["GET /v1/datasets/orders"] = states(detail(status="Error", failures=2), broken)
    code, _, err = caraway("refresh", "orders", "--wait")
    assert (code, err) == (1, "core is away. Start it. No attempt follows.\n")


def test_refresh_says_that_attempts_go_on(server, caraway):
    server.routes[REFRESH] = 201, {"message": "triggered"}
    broken = detail(status="Error", failures=1, error={"message": "core is away."}, next_refresh="2026-01-31T12:00:00Z")
    server.routes["GET /v1/datasets/orders"] = states(detail(), broken)
    code, _, err = caraway("refresh", "orders", "--wait")
    assert (code, err) == (1, "core is away. The next attempt is at 2026-01-31T12:00:00Z.\n")


def test_refresh_waits_for_its_own_run_and_not_for_one_that_was_there(server, caraway):
    server.routes[REFRESH] = 201, {"message": "triggered"}
    server.routes["GET /v1/datasets/orders"] = states(
        detail(status="Refreshing", last_refresh="1"),
        detail(status="Refreshing", last_refresh="2", rows=1),
        detail(status="Ready", last_refresh="3", rows=2),
    )
    code, out, _ = caraway("refresh", "orders", "--wait")
    assert code == 0
    assert "Loaded: orders has 2 rows." in out


def test_refresh_of_an_unknown_dataset(server, caraway):
    server.routes["POST /v1/datasets/no%20pe%2Fx/acceleration/refresh"] = 404, {"message": "Dataset no pe/x not found"}
    code, _, err = caraway("refresh", "no pe/x")
    assert (code, err) == (1, "Dataset no pe/x not found\n")


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_one_helpful_sentence(capsys):
    assert cli.main(["status", "--endpoint", "http://127.0.0.1:1"]) == 1
    _, err = capsys.readouterr()
    assert err.startswith("No caraway answers at http://127.0.0.1:1")
    assert "caraway run" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("how", "key"), [("flag", "k1"), ("env", "k2")])
def test_the_key_is_sent(server, caraway, monkeypatch, how, key):
    server.routes["GET /v1/status"] = 200, []
    if how == "env":
        monkeypatch.setenv("SPICE_API_KEY", key)
    caraway("status", *(["--api-key", key] if how == "flag" else []))
    assert server.asked[0].headers["x-api-key"] == key


def test_a_wrong_key(server, caraway):
    server.routes["GET /v1/status"] = server.routes["POST /v1/sql"] = 401, b"Unauthorized"
    code, _, err = caraway("status", "--api-key", "geheim")
    assert code == 1
    assert err.startswith("ERROR unauthorized: invalid or missing Spice API key.")
    assert "geheim" not in err
    assert caraway("sql", "-c", "select 1")[2].startswith("Authentication Failed: Invalid credentials.")


def test_the_data_directory_tells_the_address(server, caraway, tmp_path):
    server.routes["GET /v1/status"] = 200, []
    (tmp_path / "endpoints.json").write_text(json.dumps({"http": server.url.removeprefix("http://")}))
    assert caraway("status", "--data-dir", str(tmp_path))[0] == 0
    code, _, err = caraway("status", "--data-dir", str(tmp_path / "no"))
    assert code == 1
    assert "No caraway runs" in err


def test_what_is_no_caraway_is_said_so(server, caraway):
    server.routes["GET /v1/status"] = 200, b"<html>"
    code, _, err = caraway("status")
    assert code == 1
    assert "is it a caraway?" in err


@pytest.mark.parametrize("argv", [["bogus"], ["refresh"], ["status", "--endpoint", "x", "--data-dir", "y"]])
def test_wrong_usage_is_code_2(argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


def test_validate(tmp_path, capsys):
    (tmp_path / "spicepod.yaml").write_text("version: v2\nkind: Spicepod\nname: p\n")
    assert cli.main(["validate", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("OK p (")
    (tmp_path / "spicepod.yaml").write_text("version: v2\nkind: Spicepod\nnam: p\n")
    assert cli.main(["validate", str(tmp_path)]) == 1
    assert "spicepod.yaml:3" in capsys.readouterr().err
    assert cli.main(["validate", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["valid"] is False


def test_version(capsys):
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("caraway ")
