"""Vectorised Arrow functions that every layer above shares; expected failures are StoreError, never transient."""

from caraway.kernels.batches import conform, keep, rechunk, take
from caraway.kernels.predicates import filter_batch, mask
from caraway.kernels.times import max_nanos, time_literal, to_nanos
from caraway.kernels.types import exact_scalar, plain, scalar_of, type_of, viewless

__all__ = [
    "conform",
    "exact_scalar",
    "filter_batch",
    "keep",
    "mask",
    "max_nanos",
    "plain",
    "rechunk",
    "scalar_of",
    "take",
    "time_literal",
    "to_nanos",
    "type_of",
    "viewless",
]
