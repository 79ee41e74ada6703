"""An Arrow schema as arrow-rs serialises it (serde), which the JSON envelope carries: reference/http_api.md 1.2."""

from collections.abc import Callable

import pyarrow as pa

from caraway.errors import QueryError, QueryFailure

Json = object

UNIT_NAMES = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}

SIMPLE: dict[pa.DataType, str] = {
    pa.null(): "Null",
    pa.bool_(): "Boolean",
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.float16(): "Float16",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.string(): "Utf8",
    pa.large_string(): "LargeUtf8",
    pa.string_view(): "Utf8View",
    pa.binary(): "Binary",
    pa.large_binary(): "LargeBinary",
    pa.binary_view(): "BinaryView",
    pa.date32(): "Date32",
    pa.date64(): "Date64",
}

_PARAMETRISED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Json]], ...] = (
    (pa.types.is_timestamp, lambda t: {"Timestamp": [UNIT_NAMES[t.unit], t.tz]}),
    (pa.types.is_time32, lambda t: {"Time32": UNIT_NAMES[t.unit]}),
    (pa.types.is_time64, lambda t: {"Time64": UNIT_NAMES[t.unit]}),
    (pa.types.is_duration, lambda t: {"Duration": UNIT_NAMES[t.unit]}),
    (pa.types.is_interval, lambda _: {"Interval": "MonthDayNano"}),
    (pa.types.is_decimal, lambda t: {f"Decimal{t.bit_width}": [t.precision, t.scale]}),
    (pa.types.is_fixed_size_binary, lambda t: {"FixedSizeBinary": t.byte_width}),
    (pa.types.is_list, lambda t: {"List": field_json(t.value_field)}),
    (pa.types.is_large_list, lambda t: {"LargeList": field_json(t.value_field)}),
    (pa.types.is_list_view, lambda t: {"ListView": field_json(t.value_field)}),
    (pa.types.is_large_list_view, lambda t: {"LargeListView": field_json(t.value_field)}),
    (pa.types.is_fixed_size_list, lambda t: {"FixedSizeList": [field_json(t.value_field), t.list_size]}),
    (pa.types.is_struct, lambda t: {"Struct": [field_json(t.field(i)) for i in range(t.num_fields)]}),
    (pa.types.is_map, lambda t: {"Map": [_map_entries(t), t.keys_sorted]}),
    (pa.types.is_dictionary, lambda t: {"Dictionary": [type_json(t.index_type), type_json(t.value_type)]}),
    (pa.types.is_run_end_encoded, lambda t: {"RunEndEncoded": _run_ends(t)}),
)


def schema_json(schema: pa.Schema) -> Json:
    return {"fields": [field_json(field) for field in schema], "metadata": _metadata(schema.metadata)}


def field_json(field: pa.Field) -> Json:
    return {
        "name": field.name,
        "data_type": type_json(field.type),
        "nullable": field.nullable,
        "dict_id": 0,
        "dict_is_ordered": False,
        "metadata": _metadata(field.metadata),
    }


def type_json(kind: pa.DataType) -> Json:
    """`"Int64"`, or `{"Timestamp":["Nanosecond",null]}` for a type with parameters."""
    if isinstance(kind, pa.BaseExtensionType):
        return type_json(kind.storage_type)
    if kind in SIMPLE:
        return SIMPLE[kind]
    for test, build in _PARAMETRISED:
        if test(kind):
            return build(kind)
    raise QueryError(f"Can't describe a column of type {kind} in JSON; cast the column.", QueryFailure.INTERNAL)


def _metadata(metadata: dict[bytes, bytes] | None) -> Json:
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in (metadata or {}).items()}


def _map_entries(kind: pa.MapType) -> Json:
    return field_json(pa.field("entries", pa.struct([kind.key_field, kind.item_field]), nullable=False))


def _run_ends(kind: pa.RunEndEncodedType) -> Json:
    ends = pa.field("run_ends", kind.run_end_type, nullable=False)
    return [field_json(ends), field_json(pa.field("values", kind.value_type))]
