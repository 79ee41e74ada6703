"""Opens the store of a caching dataset, and finds out again which answers it holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from sys import intern

import pyarrow as pa
import pyarrow.compute as pc
import trio

from caraway.blocking import call
from caraway.config.model import Dataset, StorageMode
from caraway.core.predicate import IsNull, Not
from caraway.core.row_cache import ENTRY_COLUMN, FETCHED_COLUMN, NAMESPACE_COLUMN, SIZE_COLUMN
from caraway.core.row_index import OVERHEAD, Entry, Index
from caraway.dataset.caching.columns import HIDDEN
from caraway.dataset.fetch import nanos
from caraway.dataset.fitting import storage_mode
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import DeleteWhere, Request
from caraway.ports import Accelerator, OpenStore

REQUEST_COLUMNS = ("request_path", "request_query", "request_body", "request_headers")
"""In the order of the fields of `Request`."""
_NANOS = 1e9


async def open_cache(open_store: OpenStore, config: Dataset, schema: pa.Schema) -> Accelerator | None:
    """The dataset's store, for these columns and no others; ConfigError, StoreError.

    Rows that lack a column that is new can't be completed, so they go where the operator lets tables be changed.
    """
    kept = await open_store(None)
    if kept is None:
        return await open_store(schema)
    stored = kept.spec.schema
    if stored.equals(schema):
        return kept
    empty = kept.snapshot.value is None or kept.snapshot.value.rows == 0
    await kept.aclose()
    if storage_mode(config) is not StorageMode.FILE_UPDATE:
        raise _other_columns(config.name, stored, schema)
    store = await open_store(schema)
    if store is not None and store.snapshot.value is not None and not empty:
        await store.commit([DeleteWhere(Not(IsNull(ENTRY_COLUMN)))], None)
    return store


def _other_columns(dataset: str, stored: pa.Schema, schema: pa.Schema) -> ConfigError:
    foreign = any(name not in stored.names for name in HIDDEN)
    differing = [name for name in dict.fromkeys([*stored.names, *schema.names]) if not _same(name, stored, schema)]
    what = (
        "was kept by another refresh_mode than caching"
        if foreign
        else f"has other columns than its source now: {', '.join(differing)}"
    )
    message = f"the stored table of dataset {dataset} {what}; its answers can't be used. "
    remedy = "Set acceleration.mode to file_update or file_create to begin with an empty cache"
    return ConfigError(ConfigProblem(message + remedy, "acceleration.mode"))


def _same(name: str, stored: pa.Schema, schema: pa.Schema) -> bool:
    both = name in stored.names and name in schema.names
    return both and bool(stored.field(name).equals(schema.field(name)))


async def load(store: Accelerator, index: Index, wall: Callable[[], datetime]) -> None:
    """Note in the index what the store holds, the oldest answers as the least recently used."""
    found: dict[str, Entry] = {}
    limiter = trio.CapacityLimiter(1)
    names = [name for name in REQUEST_COLUMNS if name in store.spec.schema.names]
    columns = [ENTRY_COLUMN, NAMESPACE_COLUMN, FETCHED_COLUMN, SIZE_COLUMN, *names]
    now, at = trio.current_time(), nanos(wall())
    with store.pin() as snapshot:
        async with store.scan(snapshot, columns) as batches:
            async for batch in batches:
                for entry in await call(_entries, batch, names, now, at, limiter=limiter):
                    known = found.get(entry.key)
                    found[entry.key] = entry if known is None else _joined(known, entry)
    for entry in sorted(found.values(), key=lambda entry: entry.fetched):
        index.put(entry)


def _joined(known: Entry, more: Entry) -> Entry:
    """Two parts of one entry."""
    size = known.size + more.size - OVERHEAD
    return replace(known, fetched=min(known.fetched, more.fetched), rows=known.rows + more.rows, size=size)


def _entries(batch: pa.RecordBatch, names: Sequence[str], now: float, at: int) -> list[Entry]:
    """The entries of a batch, as far as they lie in it; `at` is the wall clock's `now`, in nanoseconds."""
    grouped = pa.table(
        {
            "key": batch.column(ENTRY_COLUMN),
            "namespace": batch.column(NAMESPACE_COLUMN),
            "size": batch.column(SIZE_COLUMN),
            "fetched": _moments(batch.column(FETCHED_COLUMN)),
            **{name: pc.fill_null(batch.column(name).cast(pa.utf8()), "") for name in names},
        }
    ).group_by("key", use_threads=False)
    firsts = [(name, "first") for name in ("namespace", *names)]
    totals = grouped.aggregate([("fetched", "min"), ("size", "sum"), ("key", "count"), *firsts])
    parts = [totals[f"{name}_first"].to_pylist() if name in names else [""] * len(totals) for name in REQUEST_COLUMNS]
    sizes = pc.add(totals["size_sum"], OVERHEAD).to_pylist()
    plain = [totals[name].to_pylist() for name in ("key", "namespace_first", "fetched_min", "key_count")]
    return [
        Entry(key, intern(namespace), Request(path, query, body or None, headers), _since(moment, now, at), rows, size)
        for key, namespace, moment, rows, size, path, query, body, headers in zip(*plain, sizes, *parts, strict=True)
    ]


def _moments(fetched: pa.Array) -> pa.Int64Array:
    """Nanoseconds since 1970 UTC; -1 where that is not known."""
    moments = fetched.cast(pa.timestamp("ns", fetched.type.tz)).cast(pa.int64())
    return pc.if_else(moments.is_valid(), moments, pa.scalar(-1, pa.int64()))


def _since(moment: int, now: float, at: int) -> float:
    """A moment on the monotonic clock; none is later than now."""
    return now - max(0.0, (at - moment) / _NANOS) if moment >= 0 else -math.inf
