"""One kept answer, with all that is needed to judge it, to serve it at once, and to compute it again."""

from dataclasses import dataclass, replace

from caraway.caching.results.body import Body, Served
from caraway.caching.results.chunks import Packed
from caraway.caching.results.sizes import block, held
from caraway.core.results_cache import Noted, Standing
from caraway.model import CacheReport, CacheStatus, Query

_FIXED = block(144) + block(72) + block(48) + 2 * block(24)
"""The entry, what it serves as a hit, its standing, and the floats that these hold."""


@dataclass(slots=True)
class Entry:
    """An answer under its key; `query` is what revalidates it, `began` when its tables were noted."""

    key: bytes
    query: Query
    body: Body
    packed: Packed | None
    """The chunks, where `body` has none."""
    noted: tuple[Noted, ...]
    began: float
    standing: Standing
    hit: CacheReport
    stale: CacheReport
    size: int = 0
    _hit: Served | None = None

    def __post_init__(self) -> None:
        self.size = _FIXED + sum(map(held, (self.key, self.query, self.body, self.packed, self.noted)))
        if self.packed is None:
            self._hit = self.body.served(self.body.chunks, self.hit, ())

    def report(self, status: CacheStatus) -> CacheReport:
        return self.stale if status is CacheStatus.STALE else self.hit

    def served(self, status: CacheStatus, now: float) -> Served | None:
        """What to answer, of which the usual case is made once; None while it is packed."""
        if self._hit is None or (status is CacheStatus.HIT and not self.body.readings):
            return self._hit
        return replace(self._hit, report=self.report(status), readings=self.body.readings_at(now))
