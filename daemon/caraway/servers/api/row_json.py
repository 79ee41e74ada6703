"""Rows from JSON: an array of objects or one object, or an object a line (NDJSON).

pyarrow reads what is right, in bulk. What it refuses is read once more, row by row, to say what is wrong with which
row, or to take what only looked wrong. Numbers never pass through a float: pyarrow and the second reading alike keep
their digits as they came.
"""

import json
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import QueryError
from caraway.kernels.rows import RowError, assembled, shown, spelled, unknown
from caraway.kernels.spelling import from_texts, spelling
from caraway.servers.api.row_text import whole_text

SMALL_BYTES = 2048
"""Up to this size reading row by row takes half of the time (0.16 against 0.34 ms for a row of three columns)."""

_CHUNK = 8192
"""Rows of the second reading that are there as Python objects at a time."""

_SPACE = re.compile(r"[ \t\n\r]*")
_LONG = "[0-9.]{39}"
"""A number of which pyarrow may make another one: decimals with too many digits wrap around."""

_NO_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})


def json_rows(body: bytes, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    """The rows of an array of objects, or of one object; QueryError INVALID for what is neither, or is wrong."""
    whole_text(body)  # pyarrow's reader takes what is not UTF-8
    array = b"[" + body + b"]" if body.lstrip().startswith(b"{") else body
    found = _in_bulk(array, schema, required)
    return found if found is not None else _one_by_one(_elements(body.decode()), schema, required)


def ndjson_rows(body: bytes, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    """The rows of lines that are an object each; empty ones are skipped."""
    whole_text(body)
    lines = body.strip()
    found = _in_bulk(b"[" + lines.replace(b"\n", b",") + b"]", schema, required)  # no JSON text holds a bare newline
    if found is not None and found.num_rows == lines.count(b"\n") + bool(lines):
        return found
    return _one_by_one(_lines(body.decode()), schema, required)


# --- in bulk ---------------------------------------------------------------------------------------------------------


def _in_bulk(array: bytes, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch | None:
    """The rows of a JSON array of objects, or None where anything about it is unusual.

    pyarrow reads objects only, and crashes on a document that is `null`; so the array is a field of one.
    """
    if len(array) <= SMALL_BYTES:
        return None
    try:
        rows = _read(b'{"rows":' + array + b"}", schema)
        if rows is None:
            return None
        columns = {field.name: _typed(rows.field(field.name), field.type) for field in schema}
        return assembled(columns, schema, len(rows), required)
    except (pa.ArrowException, RowError):
        return None


def _read(document: bytes, schema: pa.Schema) -> pa.StructArray | None:
    from pyarrow import json as arrow_json

    if _has_decimals(schema) and pc.match_substring_regex(whole_text(document), _LONG)[0].as_py():
        return None
    wire = pa.struct([pa.field(field.name, _wire(field.type)) for field in schema])
    table = arrow_json.read_json(
        pa.BufferReader(document),
        arrow_json.ReadOptions(use_threads=False, block_size=len(document) + 1),
        arrow_json.ParseOptions(
            explicit_schema=pa.schema([("rows", pa.list_(wire))]),
            unexpected_field_behavior="error",
            newlines_in_values=True,
        ),
    )
    rows = table.column("rows").combine_chunks()
    if len(rows) != 1 or rows.null_count or rows.values.null_count:
        return None
    return rows.values


def _wire(kind: pa.DataType) -> pa.DataType:
    """What pyarrow's reader itself makes of a value; all else it reads as a text."""
    native = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if native or pa.types.is_decimal(kind) else pa.string()


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind) and pc.any(pc.is_inf(column)).as_py():
        raise pa.ArrowInvalid("a number that is too great became infinite")
    return column if column.type == kind else from_texts(column, kind)


def _has_decimals(schema: pa.Schema) -> bool:
    return any(pa.types.is_decimal(field.type) for field in schema)


# --- one by one ------------------------------------------------------------------------------------------------------


class _Number(str):
    """A number as it was written."""

    __slots__ = ()
    __repr__ = str.__str__


class _RepeatedError(ValueError):
    pass


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedError(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def _elements(text: str) -> Iterator[object]:
    """The elements of the array, or the one object, that a text is."""
    place = _after_space(text, 0)
    if not text.startswith("[", place):
        value, place = _value(text, place, 1)
        if not isinstance(value, dict):
            raise QueryError("The body is a JSON array of objects, or one object.")
        yield value
    else:
        place = yield from _in_brackets(text, place + 1)
    if _after_space(text, place) < len(text):
        raise _syntax(json.JSONDecodeError("Extra data", text, _after_space(text, place)))


def _in_brackets(text: str, place: int) -> Generator[object, None, int]:
    """The elements; returns the place behind the bracket that closes them."""
    place, row = _after_space(text, place), 0
    if text.startswith("]", place):
        return place + 1
    while True:
        row += 1
        value, place = _value(text, place, row)
        yield value
        place = _after_space(text, place)
        if text.startswith("]", place):
            return place + 1
        if not text.startswith(",", place):
            raise _syntax(json.JSONDecodeError("Expecting ',' or ']'", text, place), row)
        place = _after_space(text, place + 1)


def _lines(text: str) -> Iterator[object]:
    """The values of the lines, each of which is whole in its line."""
    row, start = 0, _after_space(text, 0)
    while start < len(text):
        row += 1
        value, place = _value(text, start, row)
        if "\n" in text[start:place]:
            raise QueryError(f"Row {row}: an object goes over several lines, but in NDJSON each line is one.")
        start = _after_space(text, place)
        if start < len(text) and "\n" not in text[place:start]:
            raise _syntax(json.JSONDecodeError("Extra data", text, start), row)
        yield value


def _after_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _value(text: str, place: int, row: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        raise _syntax(error, row) from error
    except _RepeatedError as error:
        raise RowError(row, shown(str(error)), "it stands there twice") from error
    except RecursionError as error:
        raise QueryError(f"Row {row}: the body is nested too deeply.") from error


def _syntax(error: json.JSONDecodeError, row: int | None = None) -> QueryError:
    where = "The" if row is None else f"Row {row}: the"
    return QueryError(f"{where} body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.")


def _one_by_one(rows: Iterator[object], schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    """The rows in chunks, as columns of texts that are read by what CSV is read by."""
    found = [assembled({}, schema, 0, required)]
    first = 1
    while chunk := list(islice(rows, _CHUNK)):
        found.append(_chunk(chunk, schema, required, first))
        first += len(chunk)
    return pa.concat_batches(found)


def _chunk(rows: Sequence[object], schema: pa.Schema, required: Collection[str], first: int) -> pa.RecordBatch:
    objects = list(_checked(rows, schema, first))
    columns, wrong = {}, []
    for field in schema:
        try:
            columns[field.name] = spelled(_texts(objects, field, first), field, first=first)
        except RowError as error:
            wrong.append(error)
    if wrong:
        raise min(wrong, key=lambda error: error.row)
    return assembled(columns, schema, len(objects), required, first=first)


def _checked(rows: Iterable[object], schema: pa.Schema, first: int) -> Iterator[dict[str, object]]:
    """Rows that are objects and have no other keys than the table has columns."""
    names = set(schema.names)
    for row, value in enumerate(rows, first):
        if not isinstance(value, dict):
            raise QueryError(f"Row {row}: {_as_json(value)} is not an object.")
        if not value.keys() <= names:
            raise unknown(row, next(key for key in value if key not in names), schema)
        yield value


def _texts(rows: Iterable[dict[str, object]], field: pa.Field, first: int) -> pa.StringArray:
    """One column's values as they were spelled."""
    texts: list[str | None] = []
    for row, found in enumerate(rows, first):
        value = found.get(field.name)
        try:
            texts.append(_text_of(value, field.type))
        except ValueError as error:
            raise RowError(row, field.name, f"{_as_json(value)} is not {spelling(field.type)}") from error
    return pa.array(texts, pa.string())


def _text_of(value: object, kind: pa.DataType) -> str | None:
    """The text, null for null; ValueError for a JSON value that has none for this type."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    match value:
        case None:
            return None
        case bool() if pa.types.is_boolean(kind):
            return "true" if value else "false"
        case _Number() if is_number or pa.types.is_decimal(kind):
            return str(value)
        case str() if not (isinstance(value, _Number) or is_number or pa.types.is_boolean(kind)):
            value.encode()  # refuses half of a surrogate pair
            return value
        case str() if pa.types.is_floating(kind) and value in _NO_NUMBERS:
            return value
    raise ValueError(value)


def _as_json(value: object) -> str:
    is_nested = isinstance(value, _Number | list | dict)
    return shown(repr(value) if is_nested else json.dumps(value))
