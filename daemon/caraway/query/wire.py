"""Frozen dataclasses as JSON text and back: the part of the worker protocol that has structure.

A dataclass becomes `{"$": "Name", field: value ...}`; only classes that the reader lists come back. Tuples are arrays,
those of literals of one type without repeating it: a condition may list thousands.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import orjson

from caraway.core.predicate import Literal

_INT64 = range(-(2**63), 2**64)
_SCALARS: Mapping[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "path": Path,
}


def dumps(value: object) -> bytes:
    """JSON text of a value made of dataclasses, enums, tuples, mappings and scalars."""
    return orjson.dumps(_plain(value))


def loads(data: bytes, classes: Mapping[str, type]) -> Any:
    """The value that `dumps` was given, with lists as tuples; ValueError, TypeError or KeyError for anything else."""
    return _value(orjson.loads(data), classes)


def _plain(value: object) -> object:
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if value in _INT64 else {"$": "int", "v": str(value)}
        case float():
            return value if math.isfinite(value) else {"$": "float", "v": repr(value)}
        case bytes():
            return {"$": "bytes", "v": base64.b64encode(value).decode()}
        case Decimal():
            return {"$": "decimal", "v": str(value)}
        case Path():
            return {"$": "path", "v": str(value)}
        case Enum():
            return {"$": type(value).__name__, "v": value.value}
        case tuple() | list():
            return _literals(value) or [_plain(item) for item in value]
        case Mapping():
            return {"$": "map", "v": [[key, _plain(item)] for key, item in value.items()]}
        case _:
            kind = type(value)
            return {"$": kind.__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]


def _literals(values: Sequence[object]) -> object:
    """Two or more literals of one type; None for anything else."""
    literals = [value for value in values if isinstance(value, Literal)]
    if len(literals) < max(2, len(values)) or len({literal.type for literal in literals}) > 1:
        return None
    return {"$": "literals", "type": literals[0].type, "v": [_plain(literal.value) for literal in literals]}


def _value(plain: object, classes: Mapping[str, type]) -> Any:
    if isinstance(plain, list):
        return tuple(_value(item, classes) for item in plain)
    if not isinstance(plain, dict):
        return plain
    name, value = str(plain.get("$")), plain.get("v")
    if name in _SCALARS:
        return _SCALARS[name](str(value))
    if name == "literals" and isinstance(value, list):
        return tuple(Literal(_value(each, classes), str(plain.get("type"))) for each in value)
    if name == "map" and isinstance(value, list):
        return {key: _value(item, classes) for key, item in value}
    if name not in classes:
        raise ValueError(f"{name!r} is no part of this protocol")
    if issubclass(classes[name], Enum):
        return classes[name](value)
    return classes[name](**{key: _value(item, classes) for key, item in plain.items() if key != "$"})
