"""Rows as CSV (RFC 4180 with LF), quoted where Rust's csv crate quotes."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from caraway.query.worker.render_json import nested_texts
from caraway.query.worker.render_values import float_texts, join, raw_bytes, texts, unfolded

QUOTED = b',"\r\n'


def header(names: Sequence[str]) -> str:
    return ",".join(quoted(pa.array(list(names), pa.string())).to_pylist()) + "\n"


def lines(columns: Sequence[pa.Array], rows: int) -> pa.Array:
    """One line for each row, its end included; NULL is an empty field."""
    if not columns:
        return pa.repeat("\n", rows)
    fields = [quoted(pc.fill_null(display(column), "")) for column in columns]
    if len(fields) == 1:  # a lone empty field is quoted: an empty line would be no record
        fields = [pc.if_else(pc.equal(fields[0], ""), '""', fields[0])]
    between = [part for field in fields[1:] for part in (",", field)]
    return join(fields[0], *between, "\n")


def display(column: pa.Array) -> pa.Array:
    """A column as a person reads it; nested values as JSON. NULL stays NULL."""
    array = unfolded(column)
    if pa.types.is_floating(array.type):
        return float_texts(array)
    if pa.types.is_nested(array.type) and not pa.types.is_union(array.type):
        return nested_texts(array)
    return texts(array)


def quoted(text: pa.Array) -> pa.Array:
    """Quotes put around the fields that need them; a column without any is given back as it is."""
    data = raw_bytes(text)
    if len(data.translate(None, QUOTED)) == len(data):
        return text
    inside = pc.replace_substring(text, '"', '""') if b'"' in data else text
    return pc.if_else(pc.match_substring_regex(text, '[,"\r\n]'), join('"', inside, '"'), text)
