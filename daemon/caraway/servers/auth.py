"""API keys (reference/http_api.md 0, reference/spicepod.md 3): who is it, and may they write."""

import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from caraway.config.model import ApiKeyAuth
from caraway.errors import ConfigError, StoreError
from caraway.events import ApiKeyUnusable
from caraway.model import Principal, Secret
from caraway.ports import Emit

PUBLIC = Principal("public", write=True)
"""Everybody, where no key is asked for."""

REREAD_AFTER = 2.0
"""Seconds for which resolved keys are kept: a rotated secret works after this without a restart."""


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    write: bool


class Authenticator:
    """Tells the principal of an API key; shared by HTTP and Flight, callable from any thread.

    `resolve` replaces the secret references of a key as written, and raises ConfigError or StoreError where it can't:
    such a key admits nobody until it can, and the log says so.
    """

    def __init__(
        self,
        auth: ApiKeyAuth | None,
        resolve: Callable[[str], Secret],
        *,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._written = auth.keys if auth is not None and auth.enabled else None
        self._resolve = resolve
        self._emit = emit
        self._clock = clock
        self._told: frozenset[ApiKeyUnusable] = frozenset()
        self._read: tuple[float, tuple[_Key, ...]] = (float("-inf"), ())

    @property
    def required(self) -> bool:
        """Whether requests need a key; a configuration without a usable key admits nobody."""
        return self._written is not None

    def admit(self, key: str | None) -> Principal | None:
        """The principal of a request that brought this key or none; None turns it away."""
        if not self.required:
            return PUBLIC
        return None if key is None else self.authenticate(key)

    def authenticate(self, key: str) -> Principal | None:
        """The principal of a key, compared with every configured one in constant time; None for an unknown key."""
        presented = sha256(key.encode("utf-8", "surrogateescape"))
        digest = presented.digest()
        matches = [(hmac.compare_digest(digest, known.digest), known.write) for known in self._keys()]
        if not any(match for match, _ in matches):
            return None
        return Principal(f"apikey:{presented.hexdigest()[:16]}", write=any(match and write for match, write in matches))

    def _keys(self) -> tuple[_Key, ...]:
        if self._clock() - self._read[0] > REREAD_AFTER:
            self.read_keys()
        return self._read[1]

    def read_keys(self) -> None:
        """Read all keys anew, and tell of those that can't be had."""
        found = tuple(self._resolved())
        unusable = frozenset(each for each in found if isinstance(each, ApiKeyUnusable))
        for event in unusable - self._told:
            self._emit(event)
        keys = tuple(each for each in found if isinstance(each, _Key))
        self._told, self._read = unusable, (self._clock(), keys)

    def _resolved(self) -> Iterator[_Key | ApiKeyUnusable]:
        for number, written in enumerate(self._written or ()):
            name = f"runtime.auth.api-key.keys[{number}]"
            try:
                key, write = split_suffix(self._resolve(written).reveal())
            except (ConfigError, StoreError) as error:
                # Told instead of raised: one missing secret must not lock out the holders of the other keys.
                yield ApiKeyUnusable(name, str(error))
                continue
            if key:
                yield _Key(sha256(key.encode("utf-8", "surrogateescape")).digest(), write)
            else:
                yield ApiKeyUnusable(name, "it is empty")

    def __repr__(self) -> str:
        return f"Authenticator({'off' if self._written is None else f'{len(self._written)} keys'})"


def split_suffix(text: str) -> tuple[str, bool]:
    """A key and whether it may write: `:rw` may, `:ro` and no suffix may not; any other suffix is part of the key."""
    match text.rpartition(":"):
        case key, ":", "rw":
            return key, True
        case key, ":", "ro":
            return key, False
        case _:
            return text, False
