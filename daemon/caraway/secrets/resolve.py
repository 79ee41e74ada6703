"""References in text, `${ store:KEY }`, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caraway.errors import ConfigError
from caraway.model import Secret

if TYPE_CHECKING:
    # At run time the ports would bring Arrow and trio with them, which `caraway validate` does not need.
    from caraway.ports import SecretStore

ANY_STORE = "secrets"
"""`${secrets:KEY}` searches all stores."""

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][\w-]*)\s*:\s*([^\s}]+)\s*\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    store: str
    key: str

    def __str__(self) -> str:
        return f"${{{self.store}:{self.key}}}"


def references(text: str) -> tuple[Reference, ...]:
    """What a text refers to, from left to right."""
    return tuple(Reference(*match.groups()) for match in _REFERENCE.finditer(text))


class Secrets:
    """The declared stores by name, in order of declaration; a later one is asked before an earlier one."""

    def __init__(self, stores: Mapping[str, SecretStore]) -> None:
        self._stores = dict(stores)

    def resolve(self, text: str) -> Secret:
        """The text with every reference replaced; ConfigError names the store and the key that is missing."""
        return Secret(_REFERENCE.sub(lambda match: self._value(Reference(*match.groups())).reveal(), text))

    def lookup(self, key: str) -> Secret | None:
        """What `${secrets:key}` would be, None where no store has it."""
        found = (store.get(key) for store in reversed(self._stores.values()))
        return next((secret for secret in found if secret is not None), None)

    def _value(self, reference: Reference) -> Secret:
        secret = self.lookup(reference.key) if reference.store == ANY_STORE else self._from(reference)
        if secret is None:
            raise ConfigError(self._complaint(reference))
        return secret

    def _from(self, reference: Reference) -> Secret | None:
        store = self._stores.get(reference.store)
        if store is None:
            raise ConfigError(
                f"{reference}: no secret store is named {reference.store!r}; declared: {self._names()}. "
                "Add it to `secrets:`."
            )
        return store.get(reference.key)

    def _complaint(self, reference: Reference) -> str:
        where = f"any store ({self._names()})" if reference.store == ANY_STORE else f"store {reference.store!r}"
        return f"{reference}: the secret {reference.key!r} was not found in {where}. Set it there, or correct the key."

    def _names(self) -> str:
        return ", ".join(self._stores) or "none"

    def __repr__(self) -> str:
        return f"Secrets({self._names()})"
