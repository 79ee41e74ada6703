"""Query parameters: `:name` as DataFusion's `$name`, JSON values as Arrow scalars."""

import re
from collections.abc import Mapping
from decimal import Decimal

import pyarrow as pa

from caraway.errors import QueryError
from caraway.model import Parameters

# What must be skipped comes first: strings, quoted names, comments, dollar quotes, casts; then what is wanted.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|::|(?<![\w\])]):(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL,
)
_INT64 = range(-(2**63), 2**63)


def named_placeholders(sql: str) -> str:
    """The text with each `:name` written `$name`, outside of strings, quoted names, comments, slices and casts."""
    return _TOKEN.sub(lambda match: f"${match['name']}" if match["name"] else match[0], sql)


def bind(sql: str, parameters: Parameters) -> tuple[str, dict[str, pa.Scalar]]:
    """SQL as DataFusion takes it and a scalar for each placeholder; QueryError for a value that SQL has no type for."""
    if isinstance(parameters, Mapping):
        values = {name.lstrip(":$"): value for name, value in parameters.items()}
        return named_placeholders(sql), {name: scalar_of(name, value) for name, value in values.items()}
    return sql, {str(place): scalar_of(f"${place}", value) for place, value in enumerate(parameters, 1)}


def scalar_of(name: str, value: object) -> pa.Scalar:
    """The Arrow scalar of a JSON value: int64 where it fits, else decimal; lists of one type."""
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        value = Decimal(value)
    if isinstance(value, tuple):
        value = list(value)
    try:
        if isinstance(value, Mapping):
            raise pa.ArrowTypeError("an object is no SQL value")
        return pa.scalar(value)
    except (pa.ArrowException, OverflowError) as error:
        raise QueryError(f"Parameter {name} can't be bound: {error}") from error
