"""The metrics listener (reference/observability.md 1): Prometheus text of what is known at scrape time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from caraway.model import DatasetStatus
from caraway.servers.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One family: its samples are (dataset or "", value)."""

    name: str
    help: str
    samples: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} gauge"]
        lines += [f"{self.name}{_label(dataset)} {value:.15g}" for dataset, value in self.samples]
        return "\n".join(lines) + "\n"


def create_metrics_app(services: Services) -> Starlette:
    """`GET /metrics` and `GET /health` for the listener that `--metrics` opens."""

    async def metrics(_: Request) -> PlainTextResponse:
        return PlainTextResponse("".join(map(str, gauges(services))), media_type=CONTENT_TYPE)

    async def health(_: Request) -> PlainTextResponse:
        return PlainTextResponse("OK")

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])


def gauges(services: Services) -> Iterator[Gauge]:
    """The families, read from the newest states."""
    statuses = [handle.status.value for handle in services.datasets.values()]
    yield Gauge("dataset_load_state", "State of a dataset, by number.", _each(statuses, _state))
    refreshed = "Unix time in milliseconds of the end of the last refresh."
    yield Gauge("dataset_acceleration_last_refresh_unix_time_ms", refreshed, _each(statuses, _last_refresh))
    yield Gauge("dataset_acceleration_size_bytes", "Bytes an accelerated dataset takes.", _each(statuses, _bytes))
    yield Gauge("process_resident_memory_bytes", "Resident memory of the daemon.", (("", resident_memory()),))


def resident_memory() -> int:
    """Bytes, as the kernel counts them now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _each(
    statuses: list[DatasetStatus], value: Callable[[DatasetStatus], float | None]
) -> tuple[tuple[str, float], ...]:
    known = ((status.name, value(status)) for status in statuses)
    return tuple((name, number) for name, number in known if number is not None)


def _state(status: DatasetStatus) -> float:
    return status.state.number


def _last_refresh(status: DatasetStatus) -> float | None:
    return status.last_refresh.timestamp() * 1000 if status.last_refresh else None


def _bytes(status: DatasetStatus) -> float | None:
    return status.snapshot.bytes if status.snapshot else None


def _label(dataset: str) -> str:
    escaped = dataset.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{dataset="{escaped}"}}' if dataset else ""
