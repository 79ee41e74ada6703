"""One origin's limits, shared by all datasets that ask it: who waits, who goes, and what was told about it."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from math import inf

import trio

from caraway.connectors.http.transport.limits import read_default_acquire_timeout, read_default_limits
from caraway.core.rate_control import (
    NO_LIMITS,
    Limits,
    Traffic,
    Verdict,
    admission_ratio,
    admit,
    concurrency,
    conflicts,
    cool,
    finish,
    strictest,
)
from caraway.errors import SourceError
from caraway.events import RateControlsDiffer
from caraway.ports import Emit

MOST_WAITING = 1024
"""Requests that wait for one origin; more are refused at once."""


@dataclass(frozen=True, slots=True)
class ControlStatistics:
    """Counts since the start; the names are those of the metrics (reference/http_connector.md)."""

    inflight_operations: int = 0
    rate_control_max_concurrent_requests: int | None = None
    rate_control_requests_per_second_limit: int | None = None
    rate_control_requests_per_minute_limit: int | None = None
    rate_control_jitter_min_ms: float = 0.0
    rate_control_jitter_max_ms: float = 0.0
    rate_control_available_permits: int = 0
    rate_control_acquisitions_total: int = 0
    rate_control_acquire_errors_total: int = 0
    rate_control_wait_duration_ms: float = 0.0
    rate_control_adaptive_admission_ratio: float = 1.0
    rate_control_adaptive_throttled_total: int = 0
    rate_limit_retry_after_updates_total: int = 0
    rate_limit_retry_after_waits_total: int = 0
    rate_limit_retry_after_wait_duration_ms: float = 0.0
    rate_limit_retry_after_remaining_ms: float = 0.0


class Turn:
    """One request in flight; its `verdict` is what it told of the origin's health, once that is known."""

    verdict = Verdict.NEITHER


class RateControls:
    """The controls of all origins, kept as long as the daemon runs: a dataset that starts anew meets its cooldown.

    `runtime` is `runtime.params`, whose `http_*` hold where datasets set nothing; ConfigError names the key.
    """

    def __init__(self, emit: Emit, runtime: Mapping[str, str] | None = None) -> None:
        self.acquire_timeout = read_default_acquire_timeout(runtime or {})
        self._emit = emit
        self._defaults = read_default_limits(runtime or {})
        self._controls: dict[str, OriginControl] = {}

    def of(self, origin: str) -> "OriginControl":
        """The control of `scheme://host:port`."""
        return self._controls.setdefault(origin, OriginControl(origin, self._emit, self._defaults))


class OriginControl:
    """Requests to one origin, let through in the order that they came. Warns of datasets that do not agree."""

    def __init__(
        self,
        origin: str,
        emit: Emit,
        defaults: Limits = NO_LIMITS,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.limits = defaults
        self._origin = origin
        self._emit = emit
        self._defaults = defaults
        self._chance = chance
        self._members: dict[object, tuple[str, Limits]] = {}
        self._told: tuple[str, ...] = ()
        self._traffic = Traffic()
        self._waiting = 0
        self._door = trio.CapacityLimiter(1)
        self._changed = trio.Event()
        self._count = ControlStatistics()

    def join(self, member: object, dataset: str, limits: Limits) -> None:
        """Heed the limits of a dataset too, until its `member` leaves; the stricter win."""
        self._members[member] = (dataset, limits)
        differing = self._settle()
        if differing and differing != self._told:
            names = tuple(dict.fromkeys(name for name, _ in self._members.values()))
            self._emit(RateControlsDiffer(self._origin, names, differing))
        self._told = differing

    def leave(self, member: object) -> None:
        """Heed its limits no longer."""
        self._members.pop(member, None)
        self._settle()

    @asynccontextmanager
    async def turn(self, patience: float) -> AsyncIterator[Turn]:
        """A place among the requests in flight; SourceError if there is none within `patience` seconds."""
        await self._enter(patience)
        turn = Turn()
        try:
            yield turn
        finally:
            self._traffic = finish(self._traffic, trio.current_time(), self.limits, turn.verdict)
            self._wake()

    def cool(self, seconds: float) -> None:
        """No request within the next seconds."""
        self._traffic = cool(self._traffic, trio.current_time() + seconds)
        self._add(rate_limit_retry_after_updates_total=1)

    def statistics(self) -> ControlStatistics:
        now = trio.current_time()
        least, most = self.limits.jitter
        room = concurrency(self._traffic, now, self.limits) - self._traffic.inflight
        return replace(
            self._count,
            inflight_operations=self._traffic.inflight,
            rate_control_max_concurrent_requests=self.limits.concurrent,
            rate_control_requests_per_second_limit=self.limits.per_second,
            rate_control_requests_per_minute_limit=self.limits.per_minute,
            rate_control_jitter_min_ms=least * 1000,
            rate_control_jitter_max_ms=most * 1000,
            rate_control_available_permits=max(0, room),
            rate_control_adaptive_admission_ratio=admission_ratio(self._traffic, now, self.limits),
            rate_limit_retry_after_remaining_ms=max(0.0, self._traffic.cool_until - now) * 1000,
        )

    async def _enter(self, patience: float) -> None:
        began = trio.current_time()
        if self._waiting >= MOST_WAITING:
            raise self._refused(f"{MOST_WAITING} requests wait for it already", 1.0)
        self._waiting += 1
        try:
            with trio.move_on_after(patience) as scope:
                await self._jitter()
                async with self._door:
                    await self._pass(scope.deadline)
        finally:
            self._waiting -= 1
        if scope.cancelled_caught:
            raise self._refused(f"no request was allowed within {patience:.0f} s", 1.0)
        self._add(rate_control_acquisitions_total=1, rate_control_wait_duration_ms=(trio.current_time() - began) * 1000)

    async def _pass(self, deadline: float) -> None:
        """Until one more may be in flight; given up at once where that is certainly too late."""
        held = False
        while True:
            now = trio.current_time()
            self._traffic, wait = admit(self._traffic, now, self.limits)
            if not wait:
                return
            if wait < inf and now + wait > deadline:
                raise self._refused(f"it is not to be asked before {wait:.1f} s from now", wait)
            if not held and admission_ratio(self._traffic, now, self.limits) < 1:
                self._add(rate_control_adaptive_throttled_total=1)
            held = True
            cooling = self._traffic.cool_until > now
            with trio.move_on_after(wait):
                await self._changed.wait()
            if cooling:
                spent = (trio.current_time() - now) * 1000
                self._add(rate_limit_retry_after_waits_total=1, rate_limit_retry_after_wait_duration_ms=spent)

    async def _jitter(self) -> None:
        least, most = self.limits.jitter
        if most:
            await trio.sleep(least + (most - least) * self._chance())

    def _settle(self) -> tuple[str, ...]:
        several = tuple(limits for _, limits in self._members.values())
        self.limits = strictest(several).over(self._defaults)
        self._wake()
        return conflicts(several)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _refused(self, why: str, retry_after: float) -> SourceError:
        self._add(rate_control_acquire_errors_total=1)
        return SourceError(
            f"The rate control held back a request to {self._origin}: {why}.",
            remedy="It is tried again. Raise max_concurrent_requests, the limits per second and minute or "
            "rate_control_acquire_timeout if the API allows more; ask for less in one query; or cache the answers.",
            retry_after=retry_after,
            code="RateLimited",
        )

    def _add(self, **by: float) -> None:
        self._count = replace(self._count, **{name: getattr(self._count, name) + more for name, more in by.items()})

    def __repr__(self) -> str:
        return f"<OriginControl {self._origin}: {self._traffic.inflight} in flight, {len(self._members)} datasets>"
