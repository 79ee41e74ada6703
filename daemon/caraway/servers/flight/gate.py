"""Who asks: handshakes, sessions and API keys (reference/flight_wire.md 1)."""

import base64
import binascii
from collections.abc import Mapping
from typing import Protocol, TypeAlias
from uuid import uuid4

import trio

from caraway.model import Principal
from caraway.servers.flight.sessions import Sessions
from caraway.servers.flight.status import Code, RefusalError

Metadata: TypeAlias = Mapping[str, str]


class Authenticator(Protocol):
    """What the server asks of `servers.auth`."""

    @property
    def required(self) -> bool: ...

    def admit(self, key: str | None) -> Principal | None: ...


class Gate:
    """Lets callers in by the metadata of their calls, or raises RefusalError."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._sessions = Sessions()

    def handshake(self, metadata: Metadata) -> tuple[str, Metadata]:
        """A session id and the reply's headers; the header `authorization` only where a key was checked."""
        if not self._authenticator.required:
            session = str(uuid4())
            return session, {"x-session-id": session}
        key = _basic_password(metadata)
        if self._authenticator.admit(key) is None:
            raise RefusalError(Code.UNAUTHENTICATED, "invalid credentials")
        session = self._sessions.open(key, trio.current_time())
        return session, {"x-session-id": session, "authorization": f"Bearer {session}"}

    def admit(self, metadata: Metadata) -> Principal:
        """Who calls."""
        key = None
        if self._authenticator.required:
            token = _bearer_token(metadata)
            key = self._sessions.key(token, trio.current_time()) or token
        principal = self._authenticator.admit(key)
        if principal is None:
            raise RefusalError(Code.UNAUTHENTICATED, "invalid credentials")
        return principal

    def admit_writer(self, metadata: Metadata) -> Principal:
        """Who calls, and may write: as over HTTP anybody where no keys are configured, else a key that ends in :rw."""
        principal = self.admit(metadata)
        if not principal.write:
            message = "Write access denied. Use an API key with write access (it ends in :rw where it is configured)."
            raise RefusalError(Code.PERMISSION_DENIED, message)
        return principal


def _bearer_token(metadata: Metadata) -> str:
    header = _authorization(metadata)
    if not header.startswith("Bearer "):
        raise RefusalError(Code.UNAUTHENTICATED, "invalid authorization header")
    return header.removeprefix("Bearer ")


def _basic_password(metadata: Metadata) -> str:
    header = _authorization(metadata)
    if not header.startswith("Basic "):
        raise RefusalError(Code.UNAUTHENTICATED, "invalid authorization header")
    try:
        _, _, password = base64.b64decode(header.removeprefix("Basic "), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        # Without its cause, which holds the credentials.
        raise RefusalError(Code.UNAUTHENTICATED, "invalid handshake request") from None
    return password


def _authorization(metadata: Metadata) -> str:
    header = metadata.get("authorization")
    if header is None:
        raise RefusalError(Code.UNAUTHENTICATED, "missing authorization header")
    return header
