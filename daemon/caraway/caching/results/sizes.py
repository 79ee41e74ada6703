"""How many bytes of memory a value holds, as CPython and malloc take them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from sys import getsizeof
from typing import Any

_SMALL = 512
"""pymalloc rounds up to 16 bytes; what is larger is malloc's, with 16 bytes before it."""
_PAGED = 128 * 1024
"""From here on malloc maps whole pages."""
_PAGE = 4096

SLOT = 110
"""A dictionary's share of an entry, half full as it is after it has grown."""


_ATOMS = frozenset({str, bytes, int, float})
_ONCE = frozenset({type(None), bool})


def block(size: int) -> int:
    """What is taken for a block of this size."""
    if size <= _SMALL:
        return -(-size // 16) * 16
    grain = _PAGE if size >= _PAGED else 16
    return -(-(size + 16) // grain) * grain


def text(value: str | bytes) -> int:
    """Bytes of a text: `held` for what is known to be one."""
    return block(getsizeof(value))


def held(value: Any) -> int:
    """Bytes of a value and of all that it refers to, but for what exists once: None, classes, members of enums."""
    kind = type(value)
    if kind in _ATOMS:
        return block(getsizeof(value))
    if kind in _ONCE or isinstance(value, Enum):
        return 0
    own = block(getsizeof(value))
    if kind is tuple or kind is list:
        return own + sum(map(held, value))
    if isinstance(value, Mapping):
        return own + sum(held(key) + held(item) for key, item in value.items())
    for name in _fields(kind):  # type: ignore[arg-type]  # mypy takes no class for hashable
        own += held(getattr(value, name))
    return own


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()
