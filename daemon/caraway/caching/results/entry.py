"""One kept answer, with all that is needed to judge it, to serve it at once, and to compute it again."""

from dataclasses import dataclass

from caraway.caching.results.body import Body, Served
from caraway.caching.results.chunks import Chunks, Packed
from caraway.caching.results.reports import Told
from caraway.caching.results.sizes import block, held, text
from caraway.core.results_cache import Noted, Standing
from caraway.model import CacheStatus, Query

_FIXED = block(128) + block(104) + 2 * block(72) + 2 * block(48) + block(49) + 4 * block(24)
"""The entry, its query, its body and what it serves as a hit, its schema and its standing, its key, and the numbers in
them (sys.getsizeof, CPython 3.11)."""
_NOTED = block(56)
"""A table that is noted, but for its name and its parts; what it held is known to others as well."""


@dataclass(slots=True)
class Entry:
    """An answer under its key; `query` is what asked for it, `began` when its tables were noted."""

    key: bytes
    query: Query
    body: Body
    packed: Packed | None
    """The chunks, where `body` has none."""
    noted: tuple[Noted, ...]
    began: float
    standing: Standing
    told: Told
    size: int = 0
    _hit: Served | None = None

    def __post_init__(self) -> None:
        query, body = self.query, self.body  # of the query, the principal and all that is not here exists once
        rare = (query.parameters, query.cache_key, body.readings, self.packed)
        tables = sum(_NOTED + text(each.table) + (held(each.parts) if each.parts else 0) for each in self.noted)
        self.size = _FIXED + text(query.sql) + text(body.schema.header) + tables + held(body.chunks)
        self.size += sum(held(each) for each in rare if each)
        if self.packed is None:
            self._hit = body.served(body.chunks, self.told[CacheStatus.HIT], ())

    def served(self, status: CacheStatus, now: float) -> Served:
        """What to answer where it is not packed; the usual case is made once."""
        if self._hit is not None and status is CacheStatus.HIT and not self.body.readings:
            return self._hit
        return self.unpacked(self.body.chunks, status, now)

    def unpacked(self, chunks: Chunks, status: CacheStatus, now: float) -> Served:
        """What to answer with these chunks."""
        return self.body.served(chunks, self.told[status], self.body.readings_at(now))
