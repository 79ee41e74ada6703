"""By what an answer is found: 128 bits of BLAKE2b over whose it is, what it looks like, and what was asked.

`hashing_algorithm` has no effect: 64 bits are too few where a collision would show one caller another's rows.
"""

from collections.abc import Mapping
from hashlib import blake2b

from caraway.model import Parameters, Query


def text_key(query: Query, version: int) -> bytes:
    """Of the SQL text with its parameters, asked of this version of the catalog."""
    sql = query.sql
    parameters = _parameters(query.parameters) if query.parameters else ""
    return _digest(b"text", query, version, f"{len(sql)}:{sql}{parameters}")


def plan_key(query: Query, version: int, plan: str) -> bytes:
    """Of a plan as `PlanFacts.key` names it."""
    return _digest(b"plan", query, version, plan)


def client_key(query: Query, version: int) -> bytes:
    """Of the key that the request named itself, in place of what it asks."""
    return _digest(b"client", query, version, query.cache_key or "")


def _digest(kind: bytes, query: Query, version: int, what: str) -> bytes:
    principal = query.principal.id
    whole = f"{len(principal)}:{principal}{query.format.value}:{query.compression}:{version}:{what}"
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16, person=kind).digest()


def _parameters(parameters: Parameters) -> str:
    """Text that differs where values do; 1, 1.0, True and '1' are different ones."""
    return repr(sorted(parameters.items()) if isinstance(parameters, Mapping) else parameters)
