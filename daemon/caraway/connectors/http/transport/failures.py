"""What an exchange that brought no answer means to the operator: cause and remedy."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from caraway.core.http_retry import Fault
from caraway.core.http_urls import server_of
from caraway.errors import SourceError

_AGAIN = "If it stays so, look at the API and at proxies in between."
_TLS_REMEDY = {
    10: "Renew the certificate at the server.",
    9: "Check the clocks of both machines.",
    62: "Check the host in `from`: the certificate names others.",
    64: "Check the address in `from`: the certificate names others.",
}
"""By OpenSSL's X509_V_ERR numbers: expired, not yet valid, another host, another address."""
_UNTRUSTED = "If the certificate is signed by a private CA, set http_tls_ca_certificate_file to the CA's PEM file."
_REFUSED_US = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "HANDSHAKE_FAILURE")
"""Alerts by which a server says that it wants another client certificate, or one at all."""


class ExchangeError(SourceError):
    """No answer; `fault` says of what kind."""

    def __init__(self, meaning: "_Meaning", place: str, said: str = "") -> None:
        message = f"{place} {meaning.what}{f': {said}' if said else ''}."
        super().__init__(message, remedy=meaning.remedy, transient=meaning.transient, code=meaning.code)
        self.fault = meaning.fault


@dataclass(frozen=True, slots=True)
class _Meaning:
    fault: Fault
    code: str
    what: str
    remedy: str
    transient: bool = True


_UNREACHABLE = _Meaning(
    Fault.UNREACHED,
    "UnableToConnectToServer",
    "can't be reached",
    "Check that the name resolves, that the server listens there, and that no firewall holds back the port.",
)
_BROKEN = _Meaning(Fault.BROKEN, "ConnectionLost", "ended the connection before the answer was complete", _AGAIN)
_SENSELESS = _Meaning(
    Fault.BROKEN,
    "NoHttp",
    "answered with something else than HTTP",
    "Check scheme and port of `from`: https:// where the server speaks TLS, http:// where it does not.",
)
_GARBLED = _Meaning(Fault.GARBLED, "InvalidEncoding", "sent a body that does not decode", _AGAIN)
_OVERSIZED = _Meaning(
    Fault.OVERSIZED,
    "ResponseTooLarge",
    "sent a body that is larger than the limit",
    "Ask for less at a time: narrower requests, or smaller pages (pagination_*).",
    transient=False,
)
_UNSENDABLE = _Meaning(
    Fault.UNSENDABLE,
    "InvalidRequest",
    "can't be asked so",
    "Check http_headers and what the query sets in request_headers.",
    transient=False,
)


def oversized(place: str, limit: int) -> ExchangeError:
    return ExchangeError(_OVERSIZED, place, f"{limit:,} bytes")


def garbled(place: str, why: str) -> ExchangeError:
    return ExchangeError(_GARBLED, place, why)


def unsendable(place: str, why: str) -> ExchangeError:
    return ExchangeError(_UNSENDABLE, place, why)


def slow(place: str, seconds: float) -> ExchangeError:
    remedy = "Raise client_timeout if the API needs longer; check its health and the network."
    meaning = _Meaning(Fault.TIMEOUT, "Timeout", f"did not answer within {seconds:g} s", remedy)
    return ExchangeError(meaning, place)


def unconnected(place: str, seconds: float) -> ExchangeError:
    said = f"no connection within {seconds:g} s (connect_timeout)"
    return ExchangeError(_UNREACHABLE, server_of(place), said)


def explain(place: str, error: BaseException) -> ExchangeError:
    """Of what the HTTP library raised, by what is at the bottom of it."""
    import httpcore2

    connecting = isinstance(error, httpcore2.ConnectError)
    for cause in _causes(error):
        told = _by_cause(place, cause, connecting=connecting)
        if told is not None:
            return told
    match error:
        case httpcore2.LocalProtocolError():
            return unsendable(place, str(error))
        case httpcore2.RemoteProtocolError() if "without" not in str(error):
            return ExchangeError(_SENSELESS, place, str(error)[:200])
        case httpcore2.ConnectError():
            return ExchangeError(_UNREACHABLE, server_of(place), str(error)[:200])
    return ExchangeError(_BROKEN, place)


def _by_cause(place: str, cause: BaseException, *, connecting: bool) -> ExchangeError | None:
    server = server_of(place)
    match cause:
        case ssl.SSLCertVerificationError():
            return _untrusted(server, cause)
        case ssl.SSLError():
            return _tls_failure(server, cause)
        case socket.gaierror():
            return ExchangeError(_UNREACHABLE, server, f"its name does not resolve ({cause.strerror})")
        case UnicodeError():
            return ExchangeError(_UNREACHABLE, server, "its name is not a host name")
        case OSError(errno=int(number)) if number in errno.errorcode:
            said = os.strerror(number)
            return ExchangeError(_UNREACHABLE, server, said) if connecting else ExchangeError(_BROKEN, place, said)
    return None


def _untrusted(server: str, error: ssl.SSLCertVerificationError) -> ExchangeError:
    remedy = _TLS_REMEDY.get(error.verify_code, _UNTRUSTED)
    meaning = _Meaning(Fault.UNTRUSTED, "UntrustedCertificate", "has a certificate that is refused", remedy)
    return ExchangeError(meaning, server, error.verify_message.rstrip("."))


def _tls_failure(server: str, error: ssl.SSLError) -> ExchangeError:
    reason = error.reason or ""
    if any(alert in reason for alert in _REFUSED_US):
        remedy = "Set http_tls_client_certificate_file and http_tls_client_key_file to a certificate that it accepts."
        what = "did not accept our client certificate, or wants one"
        return ExchangeError(
            _Meaning(Fault.UNTRUSTED, "ClientCertificateRefused", what, remedy), server, reason.lower()
        )
    meaning = _Meaning(Fault.BROKEN, "TlsFailure", "failed in the TLS handshake", _SENSELESS.remedy)
    return ExchangeError(meaning, server, (reason or str(error)).lower().replace("_", " "))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """What it came of, the deepest of them last; of several that failed at once, each."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__
