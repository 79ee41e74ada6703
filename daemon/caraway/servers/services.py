"""What the servers need of the daemon: read-only views, and the few commands that requests can give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from caraway.config.model import Dataset, Spicepod
from caraway.latest import Latest
from caraway.model import (
    Append,
    DatasetStatus,
    Delete,
    Endpoints,
    RefreshOverrides,
    ResultsCacheStatistics,
    Written,
)
from caraway.ports import CachingEngine, Emit, Log
from caraway.servers.auth import Authenticator


@dataclass(frozen=True, slots=True)
class Component:
    """One line of `/v1/ready?verbose`; `kind` is `dataset` or `view`, `detail` its state and what keeps it."""

    name: str
    kind: str
    ready: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon is ready (reference/spicepod.md 6.6), and what that was made of."""

    ready: bool
    components: tuple[Component, ...] = ()


class DatasetHandle(Protocol):
    """A dataset as requests see it: what it is, how it fares, and two commands; neither command waits."""

    @property
    def config(self) -> Dataset: ...

    @property
    def status(self) -> Latest[DatasetStatus]: ...

    def current(self) -> DatasetStatus:
        """The status with what changes without being published: the newest proof, how far a stream is behind."""
        ...

    @property
    def log(self) -> Latest[Log | None]:
        """The log of the open store, for those who follow it; None before there is one."""
        ...

    async def write(self, changes: Sequence[Append | Delete]) -> Written:
        """Make changes durable, all or none. StoreError where constraints refuse them, or for a full disk.

        QueryError FORBIDDEN for a dataset that is not written to, NOT_READY, OVERLOADED (too much waits already).
        """
        ...

    def request_refresh(self, overrides: RefreshOverrides) -> None:
        """Queue one refresh. ConfigError for overrides that make no sense, QueryError or StoreError when it can't."""
        ...

    def set_refresh_sql(self, text: str) -> None:
        """Use this refresh_sql until the daemon ends; ConfigError if it isn't one."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the HTTP and Flight doors; `readiness` and `shutting_down` are asked anew each time."""

    pod: Spicepod
    engine: CachingEngine
    datasets: Mapping[str, DatasetHandle]
    """By name, lower-cased where the pod did not quote it."""
    endpoints: Latest[Endpoints]
    readiness: Callable[[], Readiness]
    authenticator: Authenticator
    emit: Emit
    shutting_down: Callable[[], bool]
    results_cache: Callable[[], ResultsCacheStatistics] = ResultsCacheStatistics
    http_sources: Callable[[], Mapping[str, Mapping[str, float | None]]] = dict
    """Of datasets that are read over HTTP: the fields of their ControlStatistics, and those of their
    ResponseCacheStatistics with `response_cache_` before each name."""
