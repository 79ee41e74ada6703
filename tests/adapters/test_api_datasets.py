"""Dataset routes: shapes and statuses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import Acceleration, Caching, RefreshMode
from caraway.errors import ConfigError, QueryError, QueryFailure, StoreError
from caraway.model import (
    CachingStatus,
    DatasetStatus,
    Problem,
    RefreshOverrides,
    Snapshot,
    SqliteTable,
    State,
    StreamState,
    StreamStatus,
)
from caraway.servers.api.app import create_app
from support.fake_services import FakeServices, ask, dataset
from support.fuzz import fuzz

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def fake_services() -> FakeServices:
    fake = FakeServices(
        dataset("orders"), dataset("plain", accelerated=False, source="s3://b/x"), dataset("Quoted.Name"), keys=None
    )
    fake.datasets["orders"].status.publish(
        DatasetStatus(
            "orders",
            state=State.ERROR,
            ready=True,
            problem=Problem("core is away", "start it", AT),
            snapshot=Snapshot("e1", 7, 100, 90, 4096, 10**18 + 1500, SqliteTable(Path("f"), "t")),
            failures=3,
            last_refresh=AT,
            next_refresh=AT,
            proven_at=datetime.now(UTC) - timedelta(seconds=60),
        )
    )
    return fake


async def test_list() -> None:
    app = create_app(fake_services().services)
    answer = await ask(app, "GET", "/v1/datasets")
    assert answer.status == 200
    assert orjson.loads(answer.body)[:2] == [
        {"from": "postgres:public.t", "name": "orders", "replication_enabled": False, "acceleration_enabled": True},
        {"from": "s3://b/x", "name": "plain", "replication_enabled": False, "acceleration_enabled": False},
    ]
    with_status = orjson.loads((await ask(app, "GET", "/v1/datasets?status=true")).body)
    assert [row["status"] for row in with_status] == ["Error", "Initializing", "Initializing"]
    assert [row.get("error_message") for row in with_status] == ["core is away", None, None]
    assert [row.get("remedy") for row in with_status] == ["start it", None, None]
    some = orjson.loads((await ask(app, "GET", "/v1/datasets?source=s3")).body)
    assert [row["name"] for row in some] == ["plain"]


async def test_list_as_csv() -> None:
    app = create_app(fake_services().services)
    answer = await ask(app, "GET", "/v1/datasets?format=csv&status=true")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.text.splitlines()[:2] == [
        "from,name,replication_enabled,acceleration_enabled,status",
        "postgres:public.t,orders,false,true,Error",
    ]


@pytest.mark.parametrize("query", ["format=xml", "status=maybe"])
async def test_parameters_that_make_no_sense_are_400(query: str) -> None:
    answer = await ask(create_app(fake_services().services), "GET", f"/v1/datasets?{query}")
    assert answer.status == 400
    assert answer.text.endswith(".")


async def test_detail() -> None:
    app = create_app(fake_services().services)
    detail = orjson.loads((await ask(app, "GET", "/v1/datasets/ORDERS")).body)
    assert 60 <= detail.pop("lag") < 70
    assert detail == {
        "name": "orders",
        "source": "postgres:public.t",
        "engine": "sqlite",
        "refresh_mode": "full",
        "status": "Error",
        "ready": True,
        "error": {"message": "core is away", "remedy": "start it", "since": "2026-01-02T03:04:05+00:00"},
        "epoch": "e1",
        "generation": 7,
        "end_offset": 100,
        "rows": 90,
        "bytes": 4096,
        "max_time": "2001-09-09T01:46:40.000001+00:00",
        "last_refresh": "2026-01-02T03:04:05+00:00",
        "next_refresh": "2026-01-02T03:04:05+00:00",
        "failures": 3,
        "rows_loading": 0,
        "rate": 0.0,
        "activity": None,
        "acceptable_lag": None,
        "stream": None,
        "caching": None,
    }
    bare = orjson.loads((await ask(app, "GET", "/v1/datasets/quoted.name")).body)
    assert (bare["name"], bare["error"], bare["lag"], bare["epoch"]) == ("Quoted.Name", None, None, None)


async def test_a_dataset_in_caching_mode_tells_of_its_cache() -> None:
    fake = FakeServices(dataset("shows"))
    shows = fake.datasets["shows"]
    keys = Caching(ttl=30.0, stale_while_revalidate=60.0, stale_if_error=inf, max_items=100)
    shows.config = replace(shows.config, acceleration=Acceleration(refresh_mode=RefreshMode.CACHING, caching=keys))
    caching = CachingStatus(
        2, 20, 2000, None, 100, 1.23456, hits=1, stale=1, misses=1, stale_if_error=1, evictions={"items": 3}
    )
    shows.now = DatasetStatus("shows", State.READY, caching=caching)
    told = orjson.loads((await ask(create_app(fake.services), "GET", "/v1/datasets/shows")).body)
    assert told["caching"] == {
        "ttl": 30.0,
        "stale_while_revalidate": 60.0,
        "stale_if_error": "enabled",
        "max_size": None,
        "max_items": 100,
        "entries": 2,
        "rows": 20,
        "bytes": 2000,
        "oldest": 1.235,
        "hit_ratio": 0.5,
        "hits": 1,
        "stale": 1,
        "misses": 1,
        "coalesced": 0,
        "stale_if_errors": 1,
        "failures": 0,
        "revalidations": 0,
        "revalidating": 0,
        "skipped": 0,
        "evictions": {"items": 3},
    }


async def test_a_stream_in_list_and_detail() -> None:
    fake = fake_services()
    stream = StreamStatus(StreamState.LIVE, AT, 2, 1, 1234, -0.51251, AT, AT, 7)
    newest = datetime.now(UTC) - timedelta(seconds=5)
    orders = fake.datasets["orders"]
    orders.now = DatasetStatus("orders", State.READY, proven_at=newest, stream=stream, acceptable_lag=60.0)
    app = create_app(fake.services)
    told = orjson.loads((await ask(app, "GET", "/v1/datasets/orders")).body)
    assert told["stream"] == {
        "state": "live",
        "since": "2026-01-02T03:04:05+00:00",
        "behind": 1234,
        "clock_skew": -0.513,
        "reconnects": 2,
        "snapshots": 1,
        "received_at": "2026-01-02T03:04:05+00:00",
        "applied_at": "2026-01-02T03:04:05+00:00",
        "skipped": 7,
    }
    assert 5 <= told["lag"] < 6
    assert told["acceptable_lag"] == 60.0
    row, plain, _ = orjson.loads((await ask(app, "GET", "/v1/datasets?status=true")).body)
    assert 5 <= row["lag"] < 6
    assert (row["status"], row["behind"], "error_message" in row) == ("Ready", 1234, False)
    assert (plain["lag"], plain["behind"]) == (None, None)
    orders.now = DatasetStatus("orders", stream=StreamStatus(StreamState.CONNECTING, AT))
    told = orjson.loads((await ask(app, "GET", "/v1/datasets/orders")).body)
    unknown = ("behind", "clock_skew", "received_at", "applied_at")
    assert [told["stream"][key] for key in unknown] == [None] * 4
    assert (told["stream"]["state"], told["lag"]) == ("connecting", None)


REFRESH = "/v1/datasets/{}/acceleration/refresh"


@pytest.mark.parametrize(
    ("body", "overrides"),
    [
        (b"", RefreshOverrides()),
        (b"{}", RefreshOverrides()),
        (b'{"refresh_sql":null}', RefreshOverrides()),
        (
            b'{"refresh_sql":"SELECT * FROM orders","refresh_mode":"append","refresh_jitter_max":"10s"}',
            RefreshOverrides("SELECT * FROM orders", "append", 10.0),
        ),
    ],
)
async def test_refresh(body: bytes, overrides: RefreshOverrides) -> None:
    fake = fake_services()
    answer = await ask(create_app(fake.services), "POST", REFRESH.format("Orders"), body)
    assert (answer.status, orjson.loads(answer.body)) == (201, {"message": "Dataset refresh triggered for Orders."})
    assert fake.datasets["orders"].requests == [overrides]


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("nothing", b"", 404, "Dataset nothing not found"),
        ("plain", b"", 400, "Dataset plain does not have acceleration enabled"),
        ("orders", b"{", 400, "not JSON"),
        ("orders", b"[]", 400, "JSON object"),
        ("orders", b'{"mode":"full"}', 400, "Unknown keys: mode"),
        ("orders", b'{"refresh_mode":"sometimes"}', 400, "refresh_mode 'sometimes'"),
        ("orders", b'{"refresh_sql":1}', 400, "refresh_sql is a string"),
        ("orders", b'{"refresh_jitter_max":"soon"}', 400, "refresh_jitter_max"),
    ],
)
async def test_refreshes_that_cannot_be(name: str, body: bytes, status: int, words: str) -> None:
    fake = fake_services()
    answer = await ask(create_app(fake.services), "POST", REFRESH.format(name), body)
    assert answer.status == status
    assert words in orjson.loads(answer.body)["message"]
    assert not fake.datasets["orders"].requests


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("no such column"), 400),
        (StoreError("disk full"), 500),
        (QueryError("busy", QueryFailure.OVERLOADED), 500),
    ],
)
async def test_a_refresh_that_the_dataset_refuses(error: Exception, status: int) -> None:
    fake = fake_services()
    fake.datasets["orders"].fails = error
    answer = await ask(create_app(fake.services), "POST", REFRESH.format("orders"))
    assert (answer.status, orjson.loads(answer.body)) == (status, {"message": str(error)})


PATCH = "/v1/datasets/{}/acceleration"


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("orders", b'{"refresh_sql":"SELECT a FROM orders"}', 200, ""),
        ("orders", b"{}", 200, ""),
        ("orders", b"", 400, "not JSON"),
        ("orders", b"x", 400, "not JSON"),
        ("orders", b'{"refresh_sql":[]}', 400, "string"),
        ("orders", b'{"other":1}', 400, "Unknown keys"),
        ("nothing", b"{}", 404, "not found"),
        ("plain", b"{}", 400, "does not have acceleration enabled"),
    ],
)
async def test_patch(name: str, body: bytes, status: int, words: str) -> None:
    fake = fake_services()
    answer = await ask(create_app(fake.services), "PATCH", PATCH.format(name), body)
    assert answer.status == status
    assert words in answer.text
    assert bool(answer.body) == bool(words)
    assert fake.datasets["orders"].refresh_sqls == (["SELECT a FROM orders"] if b"SELECT" in body else [])


async def test_a_patch_that_the_dataset_refuses() -> None:
    fake = fake_services()
    fake.datasets["orders"].fails = ConfigError("no such column")
    answer = await ask(create_app(fake.services), "PATCH", PATCH.format("orders"), b'{"refresh_sql":"x"}')
    assert (answer.status, answer.text) == (400, '{"message":"Request failed. no such column"}')


PATHS = ["/v1/sql", "/v1/datasets", "/v1/datasets/orders", PATCH.format("orders"), REFRESH.format("orders")]
PATHS += ["/v1/ready", "/health", "/v1/spicepods", "/v1/catalogs", "/v1/nothing", "/", "*"]
words = st.text(max_size=8)
names = st.lists(st.sampled_from(["format", "status", "source", "from", "verbose", "x"]), max_size=3)
queries = st.tuples(names, st.text("=&%+a1é\x00", max_size=6)).map(lambda q: "&".join(q[0]) + "=" + q[1])
keys = st.sampled_from(["sql", "parameters", "refresh_sql", "z"])
bodies = st.binary(max_size=30) | st.dictionaries(keys, words | st.none()).map(orjson.dumps)
lines = st.sampled_from(["Accept", "Content-Type", "X-API-Key", "Origin"])
header_values = st.text("a/*,;=q0.é\x01", max_size=9) | st.just("application/json")


@fuzz(200)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"]),
    st.sampled_from(PATHS) | words.map(lambda w: f"/v1/datasets/{w}"),
    queries,
    bodies,
    st.dictionaries(lines, header_values),
)
async def test_no_request_is_a_500(method: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> None:
    app = create_app(fake_services().services)
    answer = await ask(app, method, f"{path.replace('?', '')}?{query}", body, headers)
    assert 200 <= answer.status < 500 or answer.text.endswith("not ready\n") or answer.text == "not ready"
    assert answer.whole
    assert "vary" in answer.headers
