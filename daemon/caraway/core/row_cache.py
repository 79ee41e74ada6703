"""Rules for an API's answers that are kept as rows: which entry they are, and until when they may be served.

    fetched ──FRESH──▶ ttl ──STALE──▶ ttl + stale-while-revalidate ──EXPIRED──▶
                        └──stands in for a source that fails──▶ ttl + stale-if-error

Fresh answers are served. Stale ones are, too, while they are fetched anew. Expired ones are served only where that
fails. Each boundary belongs to what is before it (reference/refresh.md, Caching mode).
"""

import hashlib
import math
from dataclasses import dataclass
from enum import Enum

from caraway.model import Request

ENTRY_COLUMN = "__caraway_entry"
NAMESPACE_COLUMN = "__spice_cache_namespace"
SIZE_COLUMN = "__caraway_bytes"
FETCHED_COLUMN = "_fetched_at"

SWEEP_LEAST, SWEEP_MOST = 30.0, 300.0
FAILURE_MEMORY = 1.0
"""Seconds in which a request that failed is not sent again, where the source names no time."""
FAILURE_MOST = 300.0
_MICROS = 6
"""Ages are judged to the microsecond, which is what stored times tell."""
_KEY_BYTES = 16


class Verdict(Enum):
    """What an entry's age makes of it."""

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Policy:
    """`caching_*` of a dataset, in seconds; `stale_if_error` counts from the ttl, inf: however old."""

    ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0


def judge(age: float, policy: Policy) -> Verdict:
    """What may be done with an entry of that age; inf is one of unknown age. With a ttl of 0 nothing is ever fresh."""
    rounded, stale = round(age, _MICROS), policy.stale_while_revalidate
    if policy.ttl > 0 and rounded <= policy.ttl:
        return Verdict.FRESH
    return Verdict.STALE if stale > 0 and rounded <= policy.ttl + stale else Verdict.EXPIRED


def stands_in(age: float, policy: Policy) -> bool:
    """Whether an entry of that age is served where the source fails; `stale_if_error` 0 is never."""
    window = policy.stale_if_error
    return window > 0 and (window == math.inf or round(age, _MICROS) - policy.ttl <= window)


def kept_for(policy: Policy) -> float:
    """Seconds after which an entry is of no more use; inf: until a budget takes it."""
    return policy.ttl + max(policy.stale_while_revalidate, policy.stale_if_error)


def sweeps_every(policy: Policy) -> float:
    """Seconds between two looks for entries that are of no more use."""
    return min(max(policy.ttl, SWEEP_LEAST), SWEEP_MOST)


def silence_after(retry_after: float | None) -> float:
    """Seconds for which a source that failed on a request is not sent it again."""
    return min(max(retry_after or 0.0, FAILURE_MEMORY), FAILURE_MOST)


def is_kept(request: Request) -> bool:
    """Whether the store has part in it; a POST of an explicitly empty body passes it by."""
    return request.body != ""


def entry_key(namespace: str, request: Request) -> str:
    """Names the answer to a request within a namespace: 32 hexadecimal digits, the first two tell its share."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in (namespace, request.path, request.query, request.headers):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    digest.update(b"GET" if request.body is None else b"POST" + request.body.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
