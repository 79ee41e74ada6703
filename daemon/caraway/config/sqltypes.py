"""SQL names of types, as `columns: [{name, type}]` declares them, to an Arrow schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caraway.config.model import ColumnDecl
from caraway.config.nodes import did_you_mean
from caraway.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

_SIMPLE = {
    "tinyint": "int8", "smallint": "int16", "int2": "int16", "int": "int32", "integer": "int32", "int4": "int32",
    "bigint": "int64", "int8": "int64",
    "tinyint unsigned": "uint8", "smallint unsigned": "uint16", "int unsigned": "uint32",
    "integer unsigned": "uint32", "bigint unsigned": "uint64",
    "float": "float32", "real": "float32", "float4": "float32",
    "double": "float64", "double precision": "float64", "float8": "float64",
    "boolean": "bool", "bool": "bool", "date": "date32", "json": "utf8", "jsonb": "utf8", "uuid": "utf8",
}  # fmt: skip
_SIZED = {
    "text": "utf8", "varchar": "utf8", "string": "utf8", "char": "utf8", "character": "utf8",
    "character varying": "utf8", "blob": "binary", "bytea": "binary", "binary": "binary", "varbinary": "binary",
}  # fmt: skip
_DECIMALS = frozenset({"decimal", "numeric", "dec"})
_TIMESTAMPS = {
    "timestamp": None, "datetime": None, "timestamp without time zone": None,
    "timestamptz": "UTC", "timestamp with time zone": "UTC",
}  # fmt: skip
_KNOWN = (*_SIMPLE, *_SIZED, *_DECIMALS, *_TIMESTAMPS, "time")
_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
_ARGUMENTS = re.compile(r"\(\s*(\d{1,9}(?:\s*,\s*\d{1,9})?)\s*\)", re.ASCII)
_UNSIGNED = re.compile(r"^unsigned (\w+)$", re.ASCII)


def schema_of(columns: Sequence[ColumnDecl]) -> pa.Schema:
    """The Arrow schema of declared columns; ConfigError for one that has no type or a wrong one."""
    import pyarrow as pa

    try:
        return pa.schema([field_of(column) for column in columns])
    except ValueError as error:
        raise ConfigError(str(error)) from error


def field_of(column: ColumnDecl) -> pa.Field:
    """The Arrow field of a declared column; ValueError says what is wrong with its type."""
    import pyarrow as pa

    if column.type is None:
        raise ValueError(f"the column {column.name!r} has no type")
    name = " ".join(column.type.lower().split())
    bare = name.removesuffix(" not null")
    comment = {"comment": column.description} if column.description else None
    return pa.field(column.name, type_of(bare), nullable=bare == name, metadata=comment)


def type_of(name: str) -> pa.DataType:
    """The Arrow type of a SQL type in lower case, such as `decimal(10, 2)`; ValueError for one that is not known."""
    import pyarrow as pa

    arguments = [int(number) for found in _ARGUMENTS.findall(name) for number in found.split(",")]
    base = _UNSIGNED.sub(r"\1 unsigned", " ".join(_ARGUMENTS.sub(" ", name).split()))
    if base in _SIMPLE and not arguments:
        return pa.type_for_alias({"utf8": "string"}.get(_SIMPLE[base], _SIMPLE[base]))
    if base in _SIZED and len(arguments) <= 1:
        return pa.utf8() if _SIZED[base] == "utf8" else pa.binary()
    if base in _DECIMALS and len(arguments) <= 2:
        return _decimal(name, *arguments)
    if base in _TIMESTAMPS and len(arguments) <= 1:
        return pa.timestamp(_unit(name, arguments), _TIMESTAMPS[base])
    if base == "time" and len(arguments) <= 1:
        unit = _unit(name, arguments)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    raise ValueError(f"{name!r} is not a SQL type{did_you_mean(base, _KNOWN)}")


def _decimal(name: str, precision: int = 38, scale: int = 0) -> pa.DataType:
    import pyarrow as pa

    if not 1 <= precision <= 76 or scale > precision:
        raise ValueError(f"{name!r}: the precision is 1 to 76 and the scale at most the precision")
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _unit(name: str, arguments: list[int]) -> str:
    """Microseconds unless the precision says otherwise: nanoseconds end in the year 2262."""
    if not arguments:
        return "us"
    if arguments[0] not in _UNITS:
        raise ValueError(f"{name!r}: the precision of a time is 0, 3, 6 or 9")
    return _UNITS[arguments[0]]
