"""One kept answer, with all that is needed to judge it, to serve it at once, and to compute it again."""

from dataclasses import dataclass

from caraway.caching.results.body import Body, Served
from caraway.caching.results.chunks import Chunks, Packed
from caraway.caching.results.sizes import block, held
from caraway.core.results_cache import Noted, Standing
from caraway.model import CacheReport, CacheStatus, Query

_FIXED = block(128) + block(104) + block(72) + block(48) + 2 * block(24)
"""The entry, its query, what it serves as a hit, its standing, and the floats in them (sys.getsizeof, CPython 3.11)."""


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
        query = self.query  # of which the rest exists once
        texts = (self.key, query.sql, query.parameters, query.cache_key, query.principal)
        self.size = _FIXED + sum(map(held, (*texts, self.body, self.packed, self.noted)))
        if self.packed is None:
            self._hit = self.body.served(self.body.chunks, self.hit, ())

    def served(self, status: CacheStatus, now: float) -> Served:
        """What to answer where it is not packed; the usual case is made once."""
        if self._hit is not None and status is CacheStatus.HIT and not self.body.readings:
            return self._hit
        return self.unpacked(self.body.chunks, status, now)

    def unpacked(self, chunks: Chunks, status: CacheStatus, now: float) -> Served:
        """What to answer with these chunks."""
        report = self.stale if status is CacheStatus.STALE else self.hit
        return self.body.served(chunks, report, self.body.readings_at(now))
