"""What a failed Flight call means to the operator: cause and remedy, by status and text."""

from dataclasses import dataclass

from caraway.core.flight_retry import Failure, is_reset
from caraway.errors import SourceError

RECHECK_SECONDS = 30.0
"""Least pause after a refusal: keys are rotated, rights granted and tables added at the upstream without a word."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    code: str
    what: str
    remedy: str
    transient: bool = True
    retry_after: float | None = None


_UNAUTHORIZED = _Meaning(
    "Unauthorized",
    "{endpoint} did not accept the API key: {said}.",
    "Check `spiceai_api_key` for a wrong, expired or foreign key. Self-hosted: it must be one of the upstream's "
    "`runtime.auth.api-key.keys`. Cloud: create a new key in the Console and store it.",
    retry_after=RECHECK_SECONDS,
)
_FORBIDDEN = _Meaning(
    "PermissionDenied",
    "{endpoint} does not permit to {action}: {said}.",
    "Use an API key that has the right, or grant it at the upstream.",
    retry_after=RECHECK_SECONDS,
)
_TOO_LARGE = _Meaning(
    "MessageSizeExceeded",
    "A message of {endpoint} exceeds the message size limit: {said}.",
    "Raise `max_message_size` here and `runtime.flight.max_message_size` at the upstream, or select fewer columns.",
    transient=False,
)
_NOT_FLIGHT = _Meaning(
    "UnableToQuery",
    "{endpoint} can't {action}: {said}.",
    "Check that the endpoint is the Arrow Flight port of a Spice runtime (50051 by default), not its HTTP port.",
    retry_after=RECHECK_SECONDS,
)
_HTTP1 = _Meaning("UnableToConnectToServer", "{endpoint} does not speak Arrow Flight: {said}.", _NOT_FLIGHT.remedy)
_RESET = _Meaning(
    "ConnectionReset",
    "{endpoint} closed the connection while it had to {action}: {said}.",
    "It is tried again. If it stays so, look at the upstream and at proxies in between.",
)
_TLS = _Meaning(
    "UnableToConnectToServer",
    "The TLS handshake with {endpoint} failed: {said}.",
    "If the upstream's certificate is signed by a private CA, set `spiceai_tls_ca_certificate_file` to the CA's PEM "
    "file. Check that the certificate names this host, and that the port speaks TLS.",
)
_UNREACHABLE = _Meaning(
    "UnableToConnectToServer",
    "Failed to connect to the Spice endpoint {endpoint}: {said}.",
    "Check that the upstream runs, that its name resolves, and that no firewall holds back the port.",
)
_UNAVAILABLE = _Meaning(
    "ServiceUnavailable",
    "{endpoint} is not available to {action}: {said}.",
    "It is tried again. If it stays so, check the upstream's health and its log.",
)
_REFUSED = _Meaning(
    "UnableToQuery",
    "{endpoint} could not {action}: {said}.",
    "Check at the upstream that the table exists and that it answers the same query.",
    retry_after=RECHECK_SECONDS,
)
_FAILED = _Meaning("UnableToQuery", _REFUSED.what, "It is tried again. If it stays so, look at the upstream's log.")

_SILENT = _Meaning(
    "PeerSilent",
    "{endpoint} answers no more while it had to {action}: {said}.",
    "It is tried again. Check that the upstream runs, and that nothing in between drops connections without a word.",
)
_DATA_LOSS = _Meaning(
    "DataLoss",
    "{endpoint} could not {action} without a gap: {said}.",
    "Nothing is missing here: it subscribes again, and takes a complete copy where it has to. If it happens often, "
    "the upstream's changes come faster than they are sent.",
)
_NO_SUCH_STREAM = _Meaning(
    "UnableToSubscribe",
    "{endpoint} refused to {action}: {said}.",
    "The table may not exist at the upstream, or not be one that can be subscribed to. Check its name, and that the "
    "upstream lists it.",
    retry_after=RECHECK_SECONDS,
)
_NO_STREAMS = _Meaning(
    "UnableToSubscribe",
    "{endpoint} can't {action}, for it serves no change streams (DoExchange): {said}.",
    "Poll it instead: set `refresh_mode: full`, or `append` with a `time_column`, and a `refresh_check_interval`. Or "
    "check that the endpoint is the Arrow Flight port of a Spice runtime.",
    retry_after=RECHECK_SECONDS,
)

_BY_STATUS = {
    "UNAUTHENTICATED": _UNAUTHORIZED,
    "PERMISSION_DENIED": _FORBIDDEN,
    "UNIMPLEMENTED": _NOT_FLIGHT,
    "UNAVAILABLE": _UNAVAILABLE,
    "DEADLINE_EXCEEDED": _UNAVAILABLE,
    "CANCELLED": _UNAVAILABLE,
    "RESOURCE_EXHAUSTED": _FAILED,
    "INTERNAL": _FAILED,
    "UNKNOWN": _FAILED,
    "ABORTED": _FAILED,
    "DATA_LOSS": _FAILED,
}

# How gRPC's core words what went wrong below HTTP/2, always under UNAVAILABLE; the first row that matches counts.
_BELOW_HTTP2 = (
    (("ssl handshake failed", "certificate_verify_failed", "tsi_", "ssl_error", "hostname verification"), _TLS),
    (("http1.x", "as the first frame"), _HTTP1),
    (("ping timeout", "keepalive"), _SILENT),
    (("failed to connect", "dns resolution failed", "connection refused", "no route to host"), _UNREACHABLE),
)


_BY_STATUS_OF_STREAMS = {
    "DATA_LOSS": _DATA_LOSS,
    "INVALID_ARGUMENT": _NO_SUCH_STREAM,
    "NOT_FOUND": _NO_SUCH_STREAM,
    "UNIMPLEMENTED": _NO_STREAMS,
}


def explain(failure: Failure, endpoint: str, action: str) -> SourceError:
    """The error of an `action` ("run a query") against an `endpoint` (its URL)."""
    return _worded(_meaning(failure), failure, endpoint, action)


def explain_stream(failure: Failure, endpoint: str, action: str) -> SourceError:
    """As `explain`, where the action is to subscribe: some statuses mean something of their own there."""
    own = None if failure.retryable or is_reset(failure) else _BY_STATUS_OF_STREAMS.get(failure.status)
    return _worded(own or _meaning(failure), failure, endpoint, action)


def silent(endpoint: str, action: str, seconds: float) -> SourceError:
    """The error of a peer that sends nothing for so long, though it promised heartbeats."""
    return _worded(_SILENT, Failure("UNAVAILABLE", f"nothing came for {seconds:.0f} seconds"), endpoint, action)


def _worded(meaning: _Meaning, failure: Failure, endpoint: str, action: str) -> SourceError:
    said = _told(failure.message) or failure.status
    return SourceError(
        meaning.what.format(endpoint=endpoint, action=action, said=said),
        remedy=meaning.remedy,
        transient=meaning.transient,
        retry_after=meaning.retry_after,
        code=meaning.code,
    )


def _told(message: str) -> str:
    """A peer's words on one line, without the traceback that servers of pyarrow add to theirs."""
    words = message.partition("Detail: Python exception: Traceback")[0].split()
    return " ".join(words).strip(". ")[:1000]


def _meaning(failure: Failure) -> _Meaning:
    message = failure.message.lower()
    if failure.status == "RESOURCE_EXHAUSTED" and "larger than max" in message:
        return _TOO_LARGE
    if failure.status == "UNAVAILABLE":
        for texts, meaning in _BELOW_HTTP2:
            if any(text in message for text in texts):
                return meaning
    if is_reset(failure):
        return _RESET
    if failure.retryable:
        return _FAILED
    return _BY_STATUS.get(failure.status, _REFUSED)
