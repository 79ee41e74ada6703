"""Rows as JSON objects in the spelling of Rust's arrow-json, each column by a handful of Arrow kernels."""

from collections.abc import Iterable, Sequence

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from caraway.query.worker.render_values import join, json_float_texts, raw_bytes, texts, unfolded

ESCAPED = b'"\\' + bytes(range(0x20))
SHORT = {"\\": r"\\", '"': r"\"", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
ESCAPES = SHORT | {chr(code): f"\\u{code:04x}" for code in range(0x20) if chr(code) not in SHORT}


def objects(names: Sequence[str], columns: Sequence[pa.Array], rows: int, *, lead: str = "") -> pa.Array:
    """`{"name":value,..}` for each row, after `lead`; a member whose value is NULL is left out.

    The commas hang on one column without NULLs (the pivot): before it each member brings its own comma behind, after
    it in front. Where every column has a NULL the comma in front of the first member is cut off afterwards.
    """
    if not columns:
        return pa.repeat(pa.scalar(f"{lead}{{}}"), rows)
    values = [_json_text(column) for column in columns]
    keys = [orjson.dumps(name).decode() + ":" for name in names]
    pivot = next((i for i, (text, _) in enumerate(values) if not text.null_count), None)
    if pivot is None:
        members = _members(zip(keys, values, strict=True), before=",")
        return join(lead, pc.binary_replace_slice(_merged(members), 0, 1, "{"), "}")
    text, quote = values[pivot]
    members = [lead + "{", *_members(zip(keys[:pivot], values[:pivot], strict=True), after=",")]
    members += [keys[pivot] + quote, text, quote]
    members += _members(zip(keys[pivot + 1 :], values[pivot + 1 :], strict=True), before=",")
    return _merged([*members, "}"])


def values(array: pa.Array) -> pa.Array:
    """Each value as a JSON text of its own; NULL is `null`."""
    text = _whole(array)
    return pc.fill_null(text, "null") if text.null_count else text


def _whole(array: pa.Array) -> pa.Array:
    text, quote = _json_text(array)
    return join(quote, text, quote) if quote else text


def nested_texts(array: pa.Array) -> pa.Array:
    """Lists, structs and maps as JSON, NULL where the whole value is."""
    kind = array.type
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        text = objects(names, array.flatten(), len(array))
    elif pa.types.is_map(kind):
        text = _maps(array)
    else:
        plain = _plain_list(array)
        text = join("[", _joined(plain, values(_children(plain, plain.values)), ","), "]")
    return pc.if_else(array.is_valid(), text, None) if array.null_count else text


def _json_text(column: pa.Array) -> tuple[pa.Array, str]:
    """The text of each value, and the quote that belongs around it."""
    array = unfolded(column)
    kind = array.type
    if pa.types.is_string(kind):
        return escaped(array), '"'
    if pa.types.is_floating(kind):
        return json_float_texts(array), ""
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return nested_texts(array), ""
    bare = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    return texts(array), "" if bare else '"'


def escaped(text: pa.Array) -> pa.Array:
    """JSON's escapes put in; a column without characters that need them is given back as it is."""
    data = raw_bytes(text)
    if len(data.translate(None, ESCAPED)) == len(data):
        return text
    for char, escape in ESCAPES.items():
        if char.encode() in data:
            text = pc.replace_substring(text, char, escape)
    return text


def _members(
    named: Iterable[tuple[str, tuple[pa.Array, str]]], *, before: str = "", after: str = ""
) -> list[pa.Array | str]:
    parts: list[pa.Array | str] = []
    for key, (text, quote) in named:
        whole = [before + key + quote, text, quote + after]
        parts += whole if not text.null_count else [pc.fill_null(join(*whole), "")]
    return parts


def _merged(parts: Sequence[pa.Array | str]) -> pa.Array:
    """The parts joined, neighbouring literals first: the kernel pays for each argument and row."""
    merged: list[pa.Array | str] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return join(*merged)


def _maps(array: pa.Array) -> pa.Array:
    keys, _ = _json_text(_children(array, array.keys))
    items = _whole(_children(array, array.items))
    members = join(',"', keys, '":', items)
    return join(pc.binary_replace_slice(_joined(array, pc.fill_null(members, ""), ""), 0, 1, "{"), "}")


def _plain_list(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_list(kind):
        return array
    if pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return array.cast(pa.list_(kind.value_type))
    return pa.array(array.to_pylist(), pa.list_(kind.value_type))  # list views: pyarrow 26 casts them wrongly


def _children(array: pa.Array, children: pa.Array) -> pa.Array:
    """Those of a list's or map's children that its slice refers to."""
    first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
    return children.slice(first, last - first)


def _joined(array: pa.Array, members: pa.Array, separator: str) -> pa.Array:
    """The members of each list or map in one string; `members` are what `_children` gave, as text."""
    offsets = array.offsets
    return pc.binary_join(pa.ListArray.from_arrays(pc.subtract(offsets, offsets[0]), members), separator)
