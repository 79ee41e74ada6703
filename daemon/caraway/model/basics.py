"""A position as text, and a value that nothing shows."""

from typing import NewType

Cursor = NewType("Cursor", str)
"""Where to resume a source, as JSON text; opaque to accelerators, which keep it in the transaction of the rows."""


class Secret:
    """A value that no log, repr, error or API answer shows; `reveal()` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")
