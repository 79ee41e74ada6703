"""Which failed Flight calls are tried again, when, and what a failure tells the operator."""

import random

import pytest

from caraway.core.flight_errors import explain
from caraway.core.flight_retry import Failure, RetryPolicy, is_reset, is_retryable, pause

POLICY = RetryPolicy(attempts=4, unit=1.0, jitter=0.5)


@pytest.mark.parametrize(
    ("status", "message", "reset", "retryable"),
    [
        ("INTERNAL", "HTTP2 error: stream closed", True, True),
        ("CANCELLED", "operation was canceled", True, True),
        ("UNKNOWN", "transport error", True, True),
        ("INTERNAL", "protocol error: grpc-status header missing, mapped from 200", True, True),
        ("INTERNAL", "Received RST_STREAM with error code 2", True, True),
        ("UNAVAILABLE", "Socket closed", True, True),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", True, True),
        ("UNAVAILABLE", "transport error", False, True),
        ("UNAVAILABLE", "dataset is loading", False, True),
        ("DATA_LOSS", "transport error", False, False),
        ("INVALID_ARGUMENT", "transport error", False, False),
        ("INTERNAL", "worker panicked", False, False),
        ("UNAUTHENTICATED", "connection reset", False, False),
        ("DEADLINE_EXCEEDED", "", False, False),
    ],
)
def test_classification(status, message, reset, retryable):
    assert is_reset(Failure(status, message)) is reset
    assert is_retryable(Failure(status, message)) is retryable


def test_the_servers_mark_counts_whatever_the_status():
    assert is_retryable(Failure("INVALID_ARGUMENT", "upstream went away", retryable=True))


def test_pauses_follow_fibonacci_and_end():
    failure = Failure("UNAVAILABLE")
    policy = RetryPolicy(attempts=7, unit=0.5, jitter=0.0)
    assert [pause(failure, n, policy, 0.5) for n in range(1, 8)] == [0.5, 0.5, 1.0, 1.5, 2.5, 4.0, None]
    assert pause(Failure("NOT_FOUND"), 1, policy, 0.5) is None


def test_what_fails_slowly_is_not_tried_again():
    failure = Failure("UNAVAILABLE", "ping timeout")
    policy = RetryPolicy(jitter=0.0, patience=10.0)
    assert pause(failure, 1, policy, 0.5, elapsed=9.9) == policy.unit
    assert pause(failure, 1, policy, 0.5, elapsed=10.0) is None


def test_jitter_stays_in_its_bounds():
    chances = random.Random(3)
    pauses = [pause(Failure("UNAVAILABLE"), 1, POLICY, chances.random()) for _ in range(1000)]
    assert 0.5 <= min(pauses) < 0.55
    assert 1.45 < max(pauses) < 1.5


@pytest.mark.parametrize(
    ("status", "message", "code", "transient", "remedy"),
    [
        ("UNAUTHENTICATED", "invalid credentials", "Unauthorized", True, "runtime.auth.api-key.keys"),
        ("PERMISSION_DENIED", "no", "PermissionDenied", True, "API key"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)", "MessageSizeExceeded", False, "max_message_size"),  # noqa: E501
        ("RESOURCE_EXHAUSTED", "memory pool exhausted", "UnableToQuery", True, "tried again"),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "UnableToConnectToServer", True, "spiceai_tls_ca_certificate_file"),  # noqa: E501
        ("UNAVAILABLE", "failed to connect to all addresses", "UnableToConnectToServer", True, "firewall"),
        ("UNAVAILABLE", "DNS resolution failed for nowhere", "UnableToConnectToServer", True, "resolves"),
        ("UNAVAILABLE", "Socket closed", "ConnectionReset", True, "proxies"),
        ("UNAVAILABLE", "initial data of dataset x is loading", "ServiceUnavailable", True, "health"),
        ("UNKNOWN", "transport error", "ConnectionReset", True, "proxies"),
        ("INVALID_ARGUMENT", "table 'x' not found", "UnableToQuery", True, "table exists"),
        ("NOT_FOUND", "Table not found", "UnableToQuery", True, "table exists"),
        ("UNIMPLEMENTED", "", "UnableToQuery", True, "50051"),
        ("INTERNAL", "worker panicked", "UnableToQuery", True, "log"),
        ("DATA_LOSS", "", "UnableToQuery", True, "log"),
    ],
)  # fmt: skip
def test_what_an_operator_reads(status, message, code, transient, remedy):
    error = explain(Failure(status, message), "https://up:50051", "run the query")
    assert (error.code, error.transient) == (code, transient)
    assert remedy in error.remedy
    assert "https://up:50051" in error.message
    assert (message or status) in error.message


def test_a_refused_key_is_tried_again_later():
    assert explain(Failure("UNAUTHENTICATED"), "http://up:1", "connect").retry_after == 30.0


def test_braces_in_a_foreign_message_are_only_text():
    assert "{said}" in explain(Failure("INTERNAL", "{said} {0}"), "http://up:1", "x").message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("The table is\n  gone.", "The table is gone"),
        (". Detail: Python exception: Traceback (most recent call last):\n  File x\nNotImplementedError", "INTERNAL"),
        ("No. Detail: Python exception: Traceback (most recent call last):\n  File x", "No"),
        ("", "INTERNAL"),
    ],
)
def test_a_peers_words_are_one_line_without_its_traceback(message, said):
    error = explain(Failure("INTERNAL", message), "http://core:50051", "run the query")
    assert error.message == f"http://core:50051 could not run the query: {said}."
