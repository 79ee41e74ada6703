"""How many bytes of memory a value holds, as CPython and malloc take them."""

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

_SMALL = 512
"""pymalloc rounds up to 16 bytes; what is larger is malloc's, with 16 bytes before it."""
_PAGED = 128 * 1024
"""From here on malloc maps whole pages."""
_PAGE = 4096

SLOT = 110
"""A dictionary's share of an entry, half full as it is after it has grown."""


def block(size: int) -> int:
    """What is taken for a block of this size."""
    if size <= _SMALL:
        return -(-size // 16) * 16
    grain = _PAGE if size >= _PAGED else 16
    return -(-(size + 16) // grain) * grain


def held(value: object) -> int:
    """Bytes of a value and of all that it refers to, but for what exists once: None, classes, members of enums."""
    if value is None or isinstance(value, bool | Enum):
        return 0
    own = block(sys.getsizeof(value))
    if isinstance(value, str | bytes | int | float):
        return own
    if isinstance(value, Mapping):
        return own + sum(held(key) + held(item) for key, item in value.items())
    if isinstance(value, tuple | list):
        return own + sum(map(held, value))
    if is_dataclass(value):
        return own + sum(held(getattr(value, field.name)) for field in fields(value))
    return own
