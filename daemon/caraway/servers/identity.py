"""The servers' certificate and key (`runtime.tls`), from files or from the pod."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from caraway.config.model import Tls
from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.servers.flight.server import ServerIdentity


def read_identity(tls: Tls | None, directory: Path, resolve: Callable[[str], Secret]) -> ServerIdentity | None:
    """What all servers show, None without TLS; ConfigError for a missing or mismatched pair. Files may be relative."""
    if tls is None or not tls.enabled:
        return None
    identity = ServerIdentity(
        _pem("certificate", tls.certificate, tls.certificate_file, directory, resolve).reveal().encode(),
        _pem("key", tls.key, tls.key_file, directory, resolve),
    )
    ssl_context(identity)
    return identity


def ssl_context(identity: ServerIdentity) -> ssl.SSLContext:
    """For HTTP; ConfigError if certificate and key are not a pair."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL reads a pair from a path only; a nameless file in memory keeps the key off the disk.
    pair = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(pair, identity.key.reveal().encode() + b"\n" + identity.certificate)
        context.load_cert_chain(f"/proc/self/fd/{pair}")
    except ssl.SSLError as error:
        raise ConfigError(
            f"runtime.tls: certificate and key can't be used ({error.reason or 'not PEM'}); "
            "both must be PEM, and the key that of the first certificate"
        ) from error
    finally:
        os.close(pair)
    return context


def _pem(what: str, text: str | None, file: Path | None, directory: Path, resolve: Callable[[str], Secret]) -> Secret:
    if text is not None:
        return resolve(text)
    if file is None:
        raise ConfigError(f"runtime.tls: neither {what} nor {what}_file is given")
    try:
        return Secret((directory / file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"runtime.tls.{what}_file: {file} can't be read: {cause}") from None
