"""What a scrape tells: the text format, the families, and that ages are ages at that moment."""

import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.metrics import KNOWN, OPT_IN
from caraway.config.model import Acceleration, RefreshMode, Runtime
from caraway.connectors.http.transport.control import ControlStatistics
from caraway.model import (
    CachingStatus,
    DatasetStatus,
    ResponseCacheStatistics,
    ResultsCacheStatistics,
    Snapshot,
    SqliteTable,
    State,
    StreamState,
    StreamStatus,
)
from caraway.servers.exposition import Family, Kind, Sample
from caraway.servers.flight.streams import FlightStatistics
from caraway.servers.metrics import create_metrics_app, families
from support.fake_services import FakeServices, ask, dataset

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AT_MS = AT.timestamp() * 1000
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
FLIGHT = FlightStatistics(3, 40, {"orders": 5}, {"orders": 600})


def parse(text):
    """The families of an exposition as {name: (kind, {labels: value})}; AssertionError where it is not one."""
    assert text.endswith("\n")
    found, name = {}, None
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert NAME.fullmatch(name)
            assert name not in found
            assert re.fullmatch(r"(?:[^\\]|\\\\|\\n)+", line.split(" ", 3)[3])
            helped = name
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == helped
            assert kind in {"gauge", "counter"}
            found[name] = kind, {}
        else:
            sample = re.fullmatch(r"([a-zA-Z0-9_:]+)(?:\{(.*)\})? (\S+)", line)
            assert sample, line
            assert sample[1] == name
            labels = labels_of(sample[2] or "")
            assert labels not in found[name][1]
            found[name][1][labels] = float(sample[3])
    return found


def labels_of(text):
    found, end = [], 0
    while end < len(text):
        match = LABEL.match(text, end)
        assert match, text
        found.append((match[1], re.sub(r"\\[\\\"n]", lambda escape: ESCAPES[escape[0]], match[2])))
        end = match.end()
    return tuple(found)


def snapshot(max_time=None):
    return Snapshot("e1", 7, 100, 90, 4096, max_time, SqliteTable(Path("f"), "t"))


STREAM = StreamStatus(
    StreamState.LIVE,
    AT,
    reconnects=2,
    snapshots=1,
    behind=1234,
    clock_skew=-0.25,
    received_at=AT - timedelta(seconds=1),
    applied_at=AT - timedelta(seconds=0.5),
    skipped=7,
)


CACHING = CachingStatus(
    entries=3,
    rows=30,
    bytes=3000,
    max_size=10_000,
    oldest=12.3456,
    hits=5,
    stale=1,
    misses=2,
    coalesced=1,
    stale_if_error=4,
    failures=6,
    revalidations=7,
    revalidating=8,
    skipped=9,
    evictions={"size": 10, "expired": 11},
)
RESULTS = ResultsCacheStatistics(
    max_size_bytes=1000,
    size_bytes=900,
    items_count=8,
    requests=10,
    hits=7,
    misses=3,
    coalesced=1,
    stale_swr_count=2,
    swr_background_query_count=5,
    invalidation_stale_hits=4,
    evictions={"size": 6, "odd": 1},
    stale_rejections={"no_window": 9},
    swr_revalidations={"stored": 3, "unboundable": 2},
)
HTTP = {field.name: 20 + number for number, field in enumerate(fields(ControlStatistics))} | {
    f"response_cache_{field.name}": 60 + number for number, field in enumerate(fields(ResponseCacheStatistics))
}
"""A number for each thing that the sources count."""


def services(*, metrics=None):
    fake = FakeServices(
        dataset("orders"),
        dataset("plain", accelerated=False),
        dataset("shows"),
        runtime=Runtime(metrics=metrics or {}),
        results_cache=lambda: RESULTS,
        http_sources=lambda: {"shows": HTTP, "files": {"inflight_operations": 0, "response_cache_items": None}},
    )
    orders, plain, shows = fake.datasets.values()
    shows.now = DatasetStatus("shows", State.READY, caching=CACHING)
    orders.config = replace(orders.config, acceleration=Acceleration(refresh_mode=RefreshMode.APPEND))
    orders.now = DatasetStatus(
        "orders",
        State.ERROR,
        ready=True,
        snapshot=snapshot(int((AT_MS - 3000) * 1e6)),
        last_refresh=AT - timedelta(seconds=9),
        proven_at=AT - timedelta(seconds=75),
        stream=STREAM,
        acceptable_lag=60.0,
        max_time_before=int((AT_MS - 13000) * 1e6),
    )
    plain.now = DatasetStatus("plain", State.READY)
    return fake.services


def told(metrics=None, flight=FLIGHT, at=AT):
    text = "".join(map(str, families(services(metrics=metrics), flight, at)))
    return {name: samples for name, (_, samples) in parse(text).items()}


ORDERS = (("dataset", "orders"),)
SHOWS = (("dataset", "shows"),)
ORDERS_BY_MODE = (*ORDERS, ("mode", "append"))


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("dataset_load_state", {ORDERS: 3, (("dataset", "plain"),): 1, SHOWS: 1}),
        ("dataset_acceleration_last_refresh_unix_time_ms", {ORDERS: AT_MS - 9000}),
        ("dataset_acceleration_size_bytes", {ORDERS: 4096}),
        ("dataset_acceleration_cdc_replication_lag_ms", {ORDERS: 75_000}),
        ("dataset_acceleration_cdc_received_commit_unix_time_ms", {ORDERS: AT_MS - 1000}),
        ("dataset_acceleration_cdc_applied_commit_unix_time_ms", {ORDERS: AT_MS - 500}),
        ("dataset_acceleration_stream_offsets_behind", {ORDERS: 1234}),
        ("dataset_acceleration_stream_clock_skew_ms", {ORDERS: -250}),
        ("dataset_acceleration_stream_reconnects", {ORDERS: 2}),
        ("dataset_acceleration_stream_snapshots", {ORDERS: 1}),
        ("dataset_acceleration_stream_changes_skipped", {ORDERS: 7}),
        ("dataset_acceleration_max_timestamp_before_refresh_ms", {ORDERS_BY_MODE: AT_MS - 13000}),
        ("dataset_acceleration_max_timestamp_after_refresh_ms", {ORDERS_BY_MODE: AT_MS - 3000}),
        ("dataset_acceleration_refresh_lag_ms", {ORDERS_BY_MODE: 10_000}),
        ("dataset_acceleration_ingestion_lag_ms", {ORDERS_BY_MODE: 3000}),
        ("flight_do_put_rows_written", {ORDERS: 5}),
        ("flight_do_put_bytes_written", {ORDERS: 600}),
        ("flight_do_exchange_data_updates_sent", {(): 40}),
        ("flight_do_exchange_subscriptions", {(): 3}),
    ],
)
def test_a_family(name, samples):
    assert told(dict.fromkeys(OPT_IN, True))[name] == samples


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("max_size_bytes", {(): 1000}),
        ("size_bytes", {(): 900}),
        ("items_count", {(): 8}),
        ("requests", {(): 10}),
        ("hits", {(): 7}),
        ("misses", {(): 3}),
        ("hit_ratio", {(): 0.7}),
        ("coalesced", {(): 1}),
        ("stale_swr_count", {(): 2}),
        ("swr_background_query_count", {(): 5}),
        ("invalidation_stale_hits", {(): 4}),
        ("evictions", {"size": 6, "expired": 0, "invalidated": 0, "odd": 1}),
        ("stale_rejections", {"no_window": 9, "window_expired": 0, "fresh_required": 0}),
        (
            "swr_revalidations",
            {"stored": 3, "query_failed": 0, "collect_failed": 0, "invalidated_mid_flight": 0, "transient_errors": 0,
             "put_failed": 0, "unboundable": 2},
        ),
    ],
)  # fmt: skip
def test_the_results_cache(name, samples):
    found = told()[f"results_cache_{name}"]
    assert {labels[0][1] if labels else (): value for labels, value in found.items()} == samples


def test_before_anything_was_cached_all_is_0():
    found = parse("".join(map(str, families(FakeServices().services, None, AT))))
    cache = {name: samples for name, (_, samples) in found.items() if name.startswith("results_cache_")}
    assert len(cache) == 14
    assert {value for samples in cache.values() for value in samples.values()} == {0}
    assert all(cache.values())
    assert not any(name.startswith(("dataset_caching_", "dataset_http_")) for name in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("entries", 3),
        ("rows", 30),
        ("size_bytes", 3000),
        ("max_size_bytes", 10_000),
        ("oldest_age_ms", 12346),
        ("hits", 5),
        ("stale_hits", 1),
        ("misses", 2),
        ("coalesced", 1),
        ("stale_if_error_hits", 4),
        ("hit_ratio", 0.5),
        ("fetch_failures", 6),
        ("revalidations", 7),
        ("revalidations_running", 8),
        ("revalidations_skipped", 9),
    ],
)
def test_a_dataset_in_caching_mode(name, value):
    assert told()[f"dataset_caching_{name}"] == {SHOWS: value}


def test_evictions_of_a_dataset_by_reason():
    found = told()["dataset_caching_evictions"]
    assert found == {(*SHOWS, ("reason", "size")): 10, (*SHOWS, ("reason", "expired")): 11}


def test_every_number_of_a_source_over_http_is_told():
    found = {name: samples for name, samples in told().items() if name.startswith("dataset_http_")}
    by_name = {name: samples[("name", "shows"),] for name, samples in found.items()}
    assert sorted(by_name.values()) == sorted(HTTP.values())
    assert by_name["dataset_http_inflight_operations"] == HTTP["inflight_operations"]
    assert by_name["dataset_http_response_cache_items_count"] == HTTP["response_cache_items"]
    assert found["dataset_http_inflight_operations"][("name", "files"),] == 0
    assert (("name", "files"),) not in found["dataset_http_response_cache_items_count"]


def test_all_that_can_be_switched_is_there():
    assert told(dict.fromkeys(OPT_IN, True)).keys() == KNOWN


def test_what_is_not_asked_for_is_not_told():
    assert told().keys() == KNOWN - OPT_IN
    found = told({"dataset_load_state": False, "dataset_acceleration_ingestion_lag_ms": True, "nothing": True})
    assert "dataset_load_state" not in found
    assert found.keys() & OPT_IN == {"dataset_acceleration_ingestion_lag_ms"}


def test_lags_rise_while_nothing_comes():
    metrics = dict.fromkeys(OPT_IN, True)
    later = told(metrics, at=AT + timedelta(seconds=10))
    assert later["dataset_acceleration_cdc_replication_lag_ms"][ORDERS] == 85_000
    assert later["dataset_acceleration_ingestion_lag_ms"][ORDERS_BY_MODE] == 13_000
    earlier = told(metrics, at=AT - timedelta(seconds=100))  # a clock that was set back
    assert earlier["dataset_acceleration_cdc_replication_lag_ms"][ORDERS] == 0
    assert earlier["dataset_acceleration_ingestion_lag_ms"][ORDERS_BY_MODE] == -97_000


def test_what_is_not_known_has_no_sample():
    fake = FakeServices(dataset("t"), runtime=Runtime(metrics=dict.fromkeys(OPT_IN, True)))
    fake.datasets["t"].now = DatasetStatus("t", stream=StreamStatus(StreamState.CONNECTING, AT), snapshot=snapshot())
    found = parse("".join(map(str, families(fake.services, None, AT))))
    assert not any(name.startswith(("flight_", "dataset_http_", "dataset_caching_")) for name in found)
    known = {name for name, (_, samples) in found.items() if samples}
    assert known == {
        "dataset_load_state",
        "dataset_acceleration_size_bytes",
        "dataset_acceleration_stream_reconnects",
        "dataset_acceleration_stream_snapshots",
        "dataset_acceleration_stream_changes_skipped",
        "process_resident_memory_bytes",
    } | {name for name in known if name.startswith("results_cache_")}


def test_counters_and_gauges():
    kinds = {name: kind for name, (kind, _) in parse("".join(map(str, families(services(), FLIGHT, AT)))).items()}
    caches = ("results_cache_", "dataset_caching_", "dataset_http_")
    ours = {name: kind for name, kind in kinds.items() if not name.startswith(caches)}
    assert {name for name, kind in kinds.items() if name.startswith(caches) and kind == "gauge"} == GAUGES_OF_CACHES
    assert {name for name, kind in ours.items() if kind == "counter"} == {
        "dataset_acceleration_stream_reconnects",
        "dataset_acceleration_stream_snapshots",
        "dataset_acceleration_stream_changes_skipped",
        "flight_do_put_rows_written",
        "flight_do_put_bytes_written",
        "flight_do_exchange_data_updates_sent",
    }


GAUGES_OF_CACHES = {
    *(f"results_cache_{name}" for name in ("max_size_bytes", "size_bytes", "items_count", "hit_ratio")),
    *(
        f"dataset_caching_{name}"
        for name in (
            "entries", "rows", "size_bytes", "max_size_bytes", "oldest_age_ms", "hit_ratio", "revalidations_running"
        )
    ),
    *(
        f"dataset_http_{name}"
        for name in (
            "response_cache_items_count", "response_cache_size_bytes", "inflight_operations",
            "rate_control_max_concurrent_requests", "rate_control_requests_per_second_limit",
            "rate_control_requests_per_minute_limit", "rate_control_jitter_min_ms", "rate_control_jitter_max_ms",
            "rate_control_available_permits", "rate_control_adaptive_admission_ratio",
            "rate_limit_retry_after_remaining_ms",
        )
    ),
}  # fmt: skip


async def test_the_listener() -> None:
    app = create_metrics_app(services(), lambda: FLIGHT)
    answer = await ask(app, "GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parse(answer.text).keys() == KNOWN - OPT_IN
    assert parse(answer.text)["process_resident_memory_bytes"][1][()] > 10_000_000
    assert (await ask(app, "GET", "/health")).text == "OK"
    without = await ask(create_metrics_app(services()), "GET", "/metrics")
    assert "\nflight_" not in without.text


names = st.text(min_size=1, max_size=12) | st.text('\\"n\n{},=é', min_size=1, max_size=8)
numbers = st.integers(-(2**63), 2**63) | st.floats()


@given(names, st.dictionaries(names, numbers, max_size=4))
def test_whatever_is_told_can_be_parsed(help_text, values):
    samples = tuple(Sample(value, {"dataset": name}) for name, value in values.items())
    found = parse(str(Family("a_b", Kind.GAUGE, "Help. " + help_text, samples)))["a_b"][1]
    assert list(found) == [(("dataset", name),) for name in values]
    assert list(map(repr, found.values())) == [repr(float(value)) for value in values.values()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (2**60 + 1, "1152921504606846977"), (0.5, "0.5"), (1767323045123.0, "1767323045123"),
     (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (-250.0, "-250")],
)  # fmt: skip
def test_numbers(value, text):
    assert str(Family("a", Kind.COUNTER, "b", (Sample(value),))) == f"# HELP a b\n# TYPE a counter\na {text}\n"
