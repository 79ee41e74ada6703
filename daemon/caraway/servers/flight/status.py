"""How a call that can't be answered ends on the wire."""

import math

import grpc

from caraway.core.flight_retry import RETRYABLE_HEADER
from caraway.errors import QueryError, QueryFailure

Code = grpc.StatusCode

MAX_DETAILS = 2500
"""Bytes of a message: it travels in a trailer, three times as long if it is not ASCII, and peers give up at 8 KiB."""

_CODES = {
    QueryFailure.INVALID: Code.INVALID_ARGUMENT,
    QueryFailure.NOT_FOUND: Code.NOT_FOUND,
    QueryFailure.NOT_READY: Code.UNAVAILABLE,
    QueryFailure.FORBIDDEN: Code.PERMISSION_DENIED,
    QueryFailure.CANCELLED: Code.CANCELLED,
    QueryFailure.TIMEOUT: Code.DEADLINE_EXCEEDED,
    QueryFailure.RESOURCES: Code.RESOURCE_EXHAUSTED,
    QueryFailure.OVERLOADED: Code.RESOURCE_EXHAUSTED,
    QueryFailure.UNAVAILABLE: Code.UNAVAILABLE,
    QueryFailure.SOURCE: Code.UNAVAILABLE,
    QueryFailure.NOT_CACHED: Code.NOT_FOUND,
    QueryFailure.INTERNAL: Code.INTERNAL,
}
_RETRYABLE = frozenset({QueryFailure.UNAVAILABLE, QueryFailure.SOURCE})


class RefusalError(Exception):
    """Ends a call with a status, a text for the caller, and whether and when sending it again may help."""

    def __init__(
        self, code: grpc.StatusCode, details: str, *, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details.encode()[:MAX_DETAILS].decode(errors="ignore")
        again = ((RETRYABLE_HEADER, "1"),) if retryable else ()
        after = (("retry-after", str(math.ceil(retry_after))),) if retry_after is not None else ()
        self.trailers = again + after


def refusal_of(error: QueryError) -> RefusalError:
    """The status of a failed query."""
    return RefusalError(_CODES[error.failure], error.message, retryable=error.failure in _RETRYABLE)
