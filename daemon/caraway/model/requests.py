"""Calls of an HTTP API as a query names them, and what they bring."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Request:
    """One call, by all that makes it another one; "" is none.

    Its rows carry these values in `request_path`, `request_query`, `request_body` and `request_headers`, whatever page
    of the answer they come from, so that the conditions that named the request hold for each of them.
    """

    path: str = ""
    query: str = ""
    body: str | None = None
    """None is a GET, "" a POST of nothing; rows say "" for both."""
    headers: str = ""
    """A JSON object, as the query wrote it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The whole answer to a request, all pages, as rows of the source's schema; `at` is when the origin gave it.

    `at` is aware UTC by our clock: where an answer comes out of an HTTP cache, its age (RFC 9111 4.2.3) before now.
    """

    rows: tuple[pa.RecordBatch, ...]
    at: datetime
