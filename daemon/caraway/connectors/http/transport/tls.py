"""Whom to trust and who we are: the TLS parameters, and the context made of them."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import trio

from caraway import blocking
from caraway.config.params import ConnectorParams
from caraway.errors import ConfigError

_CA: Final = "http_tls_ca_certificate_file"
_CERTIFICATE: Final = "http_tls_client_certificate"
_KEY: Final = "http_tls_client_key"
_FILED: Final = (_CERTIFICATE + "_file", _KEY + "_file")
_WRITTEN: Final = (_CERTIFICATE, _KEY)
_SHARED: WeakValueDictionary[str, ssl.SSLContext] = WeakValueDictionary()
"""The context of those who set nothing: one takes 35 ms and 0.8 MB, so that they share it."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """PEM texts, and the parameters that they are from."""

    names: tuple[str, str]
    certificate: bytes
    key: bytes = field(repr=False)


async def read_tls(params: ConnectorParams, directory: Path, *, secure: bool) -> ssl.SSLContext | None:
    """What the parameters say; None where nothing is encrypted. Relative paths start at `directory`. ConfigError."""
    for name in () if secure else (_CA, *_FILED, *_WRITTEN):
        if params.has(name):
            raise params.wrong(name, "this needs https:// in `from`; http:// is not encrypted")
    if not secure:
        return None
    ca = await _file(params, _CA, directory, "CERTIFICATE") if params.text(_CA) else None
    identity = await _identity(params, directory)
    return await blocking.call(_context, params, ca, identity, limiter=trio.CapacityLimiter(1))


def _context(params: ConnectorParams, ca: bytes | None, identity: _Identity | None) -> ssl.SSLContext:
    if ca is None and identity is None:
        shared = _SHARED.get("system")
        if shared is None:
            _SHARED["system"] = shared = ssl.create_default_context()
        return shared
    try:
        context = ssl.create_default_context(cadata=ca.decode() if ca is not None else None)
    except (ssl.SSLError, ValueError):
        raise params.wrong(_CA, f"{params.text(_CA)} holds no certificate that can be read") from None
    if identity is not None:
        _identify(params, context, identity)
    return context


def _identify(params: ConnectorParams, context: ssl.SSLContext, identity: _Identity) -> None:
    with _as_file(identity.certificate) as certificate, _as_file(identity.key) as key:
        try:
            context.load_cert_chain(certificate, key, password=b"")
        except ssl.SSLError as error:
            raise _unusable(params, identity, error) from None


def _unusable(params: ConnectorParams, identity: _Identity, error: ssl.SSLError) -> ConfigError:
    certificate, key = identity.names
    if error.reason == "KEY_VALUES_MISMATCH":
        return params.wrong(key, f"it is not the key of {certificate}")
    if b"ENCRYPTED" in identity.key:
        return params.wrong(key, "it is encrypted; give it without a password, as a secret")
    return params.wrong(certificate, f"it can't be used with {key}: {(error.reason or 'no PEM').lower()}")


async def _identity(params: ConnectorParams, directory: Path) -> _Identity | None:
    filed = [name for name in _FILED if params.text(name)]
    written = [name for name in _WRITTEN if params.text(name)]
    if filed and written:
        raise params.wrong(written[0], f"{filed[0]} is set as well; give the client's certificate by files or inline")
    for given, pair in ((filed, _FILED), (written, _WRITTEN)):
        if len(given) == 1:
            missing = next(name for name in pair if name not in given)
            raise params.wrong(missing, f"{given[0]} is set, {missing} is not; set both")
    if filed:
        key = await _file(params, _FILED[1], directory, "PRIVATE KEY")
        return _Identity(_FILED, await _file(params, _FILED[0], directory, "CERTIFICATE"), key)
    if not written:
        return None
    certificate, inline = (params.text(name, "").encode() for name in _WRITTEN)
    return _Identity(_WRITTEN, certificate, inline)


async def _file(params: ConnectorParams, name: str, directory: Path, kind: str) -> bytes:
    path = params.text(name, "")
    try:
        pem = await trio.Path(directory / path).read_bytes()
    except OSError as error:
        raise params.wrong(name, f"{path} can't be read: {error.strerror}") from error
    if kind.encode() not in pem or not pem.isascii():
        raise params.wrong(name, f"{path} holds no {kind.lower()} in PEM format")
    return pem


@contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    """A path that OpenSSL can read it from; in memory alone, for a key has no business on a disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, pem)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
