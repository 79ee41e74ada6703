"""Which failed Flight calls are worth another attempt, and when (reference/spiceai_connector.md, Retry)."""

from dataclasses import dataclass

RETRYABLE_HEADER = "spiceai-retryable"
"""A Spice server sets it to 1 where the same request may well succeed when it is sent again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call ended: the name of the gRPC status, its text, and whether the server marked it as retryable."""

    status: str
    message: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` in all; the pauses are `unit` seconds times 1, 1, 2, 3, 5 .. with a random part of `jitter`.

    None starts after `patience` seconds: what fails that slowly is to be known to the operator.
    """

    attempts: int = 5
    unit: float = 0.1
    jitter: float = 0.3
    patience: float = 10.0


_RESETS = {
    # what tonic says, by the list of the reference
    frozenset({"INTERNAL", "CANCELLED", "UNKNOWN"}): (
        "operation was canceled",
        "http2 error",
        "grpc-status header missing",
        "received message with invalid compression flag",
        "error reading a body from connection",
        "transport error",
    ),
    # what gRPC's own core says where a connection ends under a call
    frozenset({"INTERNAL", "CANCELLED", "UNKNOWN", "UNAVAILABLE"}): (
        "rst_stream",
        "goaway",
        "connection reset",
        "socket closed",
        "broken pipe",
        "stream removed",
        "connection closed",
        "endpoint closing",
        "stream closed",
    ),
}


def is_reset(failure: Failure) -> bool:
    """Whether the connection ended under the call, which says nothing about the request."""
    message = failure.message.lower()
    return any(
        failure.status in statuses and any(text in message for text in texts) for statuses, texts in _RESETS.items()
    )


def is_retryable(failure: Failure) -> bool:
    """Whether the same call, sent again, may succeed; an authentication that failed won't."""
    return failure.retryable or failure.status == "UNAVAILABLE" or is_reset(failure)


def pause(failure: Failure, attempt: int, policy: RetryPolicy, chance: float, *, elapsed: float = 0.0) -> float | None:
    """Seconds until the next attempt after number `attempt` (from 1) failed; None to give up. 0 <= chance < 1."""
    if not is_retryable(failure) or attempt >= policy.attempts or elapsed >= policy.patience:
        return None
    return policy.unit * _fibonacci(attempt) * (1 + policy.jitter * (2 * chance - 1))


def _fibonacci(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
