"""Whom to trust and who we are: the TLS parameters of the connector as PEM texts."""

import ssl
from pathlib import Path
from typing import Final

import trio

from caraway.config.params import ConnectorParams
from caraway.flight.connection import Tls
from caraway.model import Secret

_PREFIX: Final = "spiceai_tls_"
_CERTIFICATE, _KEY = _PREFIX + "client_certificate", _PREFIX + "client_key"
_SYSTEM_ROOTS = (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/cert.pem")


async def read_tls(params: ConnectorParams, directory: Path) -> Tls:
    """The CA (the system's by default) and the client's identity; relative paths start at `directory`. ConfigError."""
    ca = await _file(params, _PREFIX + "ca_certificate_file", directory)
    certificate, key = await _client_identity(params, directory)
    return Tls(ca if ca is not None else await _system_roots(), certificate, key)


async def _client_identity(params: ConnectorParams, directory: Path) -> tuple[bytes | None, Secret | None]:
    by_file, inline = (_CERTIFICATE + "_file", _KEY + "_file"), (_CERTIFICATE, _KEY)
    filed = [name for name in by_file if params.text(name)]
    written = [name for name in inline if _set(params.secret(name))]
    if filed and written:
        raise params.wrong(
            written[0], f"AmbiguousClientIdentity: {filed[0]} is set as well; give the identity by files or inline"
        )
    for present, pair in ((filed, by_file), (written, inline)):
        if len(present) == 1:
            missing = next(name for name in pair if name not in present)
            raise params.wrong(missing, f"IncompleteClientIdentity: {present[0]} is set, {missing} is not; set both")
    if filed:
        key = await _file(params, by_file[1], directory, "PRIVATE KEY")
        return await _file(params, by_file[0], directory), Secret((key or b"").decode())
    certificate, secret = (params.secret(name) for name in inline) if written else (None, None)
    return (certificate.reveal().encode() if certificate is not None else None), secret


def _set(secret: Secret | None) -> bool:
    return secret is not None and bool(secret.reveal())


async def _file(params: ConnectorParams, name: str, directory: Path, kind: str = "CERTIFICATE") -> bytes | None:
    path = params.text(name)
    if not path:
        return None
    try:
        pem = await trio.Path(directory / path).read_bytes()
    except OSError as error:
        raise params.wrong(name, f"InvalidParameterValue: {path} can't be read: {error.strerror}") from error
    if kind.encode() not in pem or not pem.isascii():
        raise params.wrong(name, f"InvalidParameterValue: {path} holds no {kind.lower()} in PEM format")
    return pem


async def _system_roots() -> bytes | None:
    """The system's trusted certificates; None leaves it to those that gRPC brings along."""
    for path in _SYSTEM_ROOTS:
        if path and await trio.Path(path).is_file():
            return await trio.Path(path).read_bytes()
    return None
