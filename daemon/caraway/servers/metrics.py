"""The metrics listener (reference/observability.md): Prometheus text of what is known at scrape time.

Lags are ages at that moment, so that they rise while nothing comes. Times are ours: an upstream's clock has no part
in them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from caraway.config.metrics import shown
from caraway.model import DatasetStatus, StreamStatus
from caraway.servers.cache_metrics import dataset_families, http_families, results_families
from caraway.servers.exposition import CONTENT_TYPE, Family, Kind, Sample
from caraway.servers.flight.streams import FlightStatistics
from caraway.servers.services import DatasetHandle, Services

Flight = Callable[[], FlightStatistics | None]
"""What the Flight server has counted; None while there is none."""


def create_metrics_app(services: Services, flight: Flight = lambda: None) -> Starlette:
    """`GET /metrics` and `GET /health` for the listener that `--metrics` opens."""

    async def metrics(_: Request) -> PlainTextResponse:
        told = families(services, flight(), datetime.now(UTC))
        return PlainTextResponse("".join(map(str, told)), media_type=CONTENT_TYPE)

    async def health(_: Request) -> PlainTextResponse:
        return PlainTextResponse("OK")

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])


def families(services: Services, flight: FlightStatistics | None, at: datetime) -> Iterator[Family]:
    """What is known, but for what `runtime.metrics` switches off or does not switch on."""
    scrape = Scrape(at, tuple((handle, handle.current()) for handle in services.datasets.values()))
    caches = (
        *results_families(services.results_cache()),
        *dataset_families(status for _, status in scrape.statuses),
        *http_families(services.http_sources()),
    )
    found = (*scrape.datasets(), *scrape.streams(), *scrape.times(), *caches, *_flight(flight), _process())
    switches = services.pod.runtime.metrics
    return (family for family in found if shown(family.name, switches))


@dataclass(frozen=True, slots=True)
class Scrape:
    """All datasets at one moment."""

    at: datetime
    statuses: tuple[tuple[DatasetHandle, DatasetStatus], ...]

    def datasets(self) -> Iterator[Family]:
        yield self._each("dataset_load_state", "State of a dataset, by number.", lambda status: status.state.number)
        refreshed = "Unix time in milliseconds of the end of the last refresh."
        yield self._each("dataset_acceleration_last_refresh_unix_time_ms", refreshed, _last_refresh)
        yield self._each("dataset_acceleration_size_bytes", "Bytes an accelerated dataset takes.", _bytes)

    def streams(self) -> Iterator[Family]:
        """Of datasets that a stream feeds."""
        lag = "Milliseconds since the newest proof that the copy was current."
        yield self._each("dataset_acceleration_cdc_replication_lag_ms", lag, self._stream_lag)
        name, what = (
            "dataset_acceleration_cdc_{}_commit_unix_time_ms",
            "Unix time in milliseconds when the newest change",
        )
        yield self._stream(name.format("received"), f"{what} came.", lambda each: _millis(each.received_at))
        yield self._stream(name.format("applied"), f"{what} was stored.", lambda each: _millis(each.applied_at))
        name = "dataset_acceleration_stream_{}"
        behind = "Offsets that the upstream's log has and the copy has not."
        yield self._stream(name.format("offsets_behind"), behind, lambda each: each.behind)
        skew = "Milliseconds by which the upstream's clock is ahead of ours."
        yield self._stream(name.format("clock_skew_ms"), skew, lambda each: _scaled(each.clock_skew))
        yield self._count(name.format("reconnects"), "Connections after the first.", lambda each: each.reconnects)
        copies = "Complete copies that the upstream sent."
        yield self._count(name.format("snapshots"), copies, lambda each: each.snapshots)
        skipped = "Changes of an unknown kind that were left out."
        yield self._count(name.format("changes_skipped"), skipped, lambda each: each.skipped)

    def times(self) -> Iterator[Family]:
        """Of datasets with a time column."""
        name, greatest = "dataset_acceleration_{}_ms", "Greatest time of the dataset, in Unix milliseconds,"
        yield self._by_mode(
            name.format("max_timestamp_before_refresh"), f"{greatest} before its last refresh.", _before
        )
        yield self._by_mode(name.format("max_timestamp_after_refresh"), f"{greatest} now.", _after)
        moved = "Milliseconds by which the last refresh moved the greatest time."
        yield self._by_mode(name.format("refresh_lag"), moved, _moved)
        lag = "Milliseconds since the greatest time of the dataset."
        yield self._by_mode(name.format("ingestion_lag"), lag, self._ingestion_lag)

    def _stream_lag(self, status: DatasetStatus) -> float | None:
        if status.stream is None or status.proven_at is None:
            return None
        return max(0, round((self.at - status.proven_at).total_seconds() * 1000))

    def _ingestion_lag(self, status: DatasetStatus) -> float | None:
        after = _after(status)
        return None if after is None else round(self.at.timestamp() * 1000) - after

    def _each(self, name: str, text: str, value: Callable[[DatasetStatus], float | None]) -> Family:
        known = ((status.name, value(status)) for _, status in self.statuses)
        return Family(name, Kind.GAUGE, text, _by_dataset(known))

    def _stream(
        self, name: str, text: str, value: Callable[[StreamStatus], float | None], kind: Kind = Kind.GAUGE
    ) -> Family:
        streams = ((status.name, status.stream) for _, status in self.statuses)
        return Family(name, kind, text, _by_dataset((name, value(each)) for name, each in streams if each is not None))

    def _count(self, name: str, text: str, value: Callable[[StreamStatus], int]) -> Family:
        return self._stream(name, text, value, Kind.COUNTER)

    def _by_mode(self, name: str, text: str, value: Callable[[DatasetStatus], float | None]) -> Family:
        samples = []
        for handle, status in self.statuses:
            keys, number = handle.config.acceleration, value(status)
            if keys is not None and number is not None:
                samples.append(Sample(number, {"dataset": status.name, "mode": keys.refresh_mode.value}))
        return Family(name, Kind.GAUGE, text, tuple(samples))


def resident_memory() -> int:
    """Bytes, as the kernel counts them now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _process() -> Family:
    memory = (Sample(resident_memory()),)
    return Family("process_resident_memory_bytes", Kind.GAUGE, "Resident memory of the daemon.", memory)


def _flight(statistics: FlightStatistics | None) -> Iterator[Family]:
    if statistics is None:
        return
    put = "flight_do_put_{}_written"
    for what, counts in (("rows", statistics.rows_put), ("bytes", statistics.bytes_put)):
        yield Family(put.format(what), Kind.COUNTER, f"{what.capitalize()} that DoPut stored.", _counts(counts))
    sent = "Messages with changes that subscribers were sent."
    yield Family("flight_do_exchange_data_updates_sent", Kind.COUNTER, sent, (Sample(statistics.updates_sent),))
    subscriptions = (Sample(statistics.subscriptions),)
    yield Family("flight_do_exchange_subscriptions", Kind.GAUGE, "Subscriptions that are open.", subscriptions)


def _counts(counts: Mapping[str, int]) -> tuple[Sample, ...]:
    return _by_dataset(counts.items())


def _by_dataset(known: Iterable[tuple[str, float | None]]) -> tuple[Sample, ...]:
    return tuple(Sample(number, {"dataset": name}) for name, number in known if number is not None)


def _last_refresh(status: DatasetStatus) -> float | None:
    return _millis(status.last_refresh)


def _bytes(status: DatasetStatus) -> float | None:
    return status.snapshot.bytes if status.snapshot else None


def _after(status: DatasetStatus) -> int | None:
    newest = status.snapshot.max_time if status.snapshot else None
    return None if newest is None else newest // 10**6


def _before(status: DatasetStatus) -> int | None:
    return None if status.max_time_before is None else status.max_time_before // 10**6


def _moved(status: DatasetStatus) -> int | None:
    before, after = _before(status), _after(status)
    return None if before is None or after is None else after - before


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _scaled(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
