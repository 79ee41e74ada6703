"""Rows from CSV (RFC 4180): a header line names columns, in any order; an empty field is null, `""` an empty text."""

from collections.abc import Collection

import pyarrow as pa

from caraway.errors import QueryError
from caraway.kernels.rows import RowError, assembled, shown, spelled
from caraway.servers.api.row_text import whole_text

_HEADER = "CSV begins with a line that names the columns."


def csv_rows(body: bytes, schema: pa.Schema, required: Collection[str]) -> pa.RecordBatch:
    """The rows of a CSV text; QueryError INVALID for what is none, or is wrong."""
    whole_text(body)
    if not body.strip():
        raise QueryError(f"The body is empty. {_HEADER}")
    if body.count(b'"') % 2:
        raise QueryError("A quotation mark of the CSV text is not closed.")
    table = _read(body if body.endswith((b"\n", b"\r")) else body + b"\n", schema)
    _check_names(table.column_names, schema)
    columns, wrong = {}, []
    for name in table.column_names:
        texts = table.column(name).combine_chunks()
        try:
            columns[name] = spelled(texts, schema.field(name))
        except RowError as error:
            wrong.append(error)
    if wrong:
        raise min(wrong, key=lambda error: error.row)
    return assembled(columns, schema, table.num_rows, required)


def _read(body: bytes, schema: pa.Schema) -> pa.Table:
    """All columns as texts. Empty lines count for nothing."""
    from pyarrow import csv

    uneven: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        uneven.append(row)
        return "error"

    try:
        return csv.read_csv(
            pa.BufferReader(body),
            csv.ReadOptions(use_threads=False, block_size=len(body) + 1),
            csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            csv.ConvertOptions(
                column_types=dict.fromkeys(schema.names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowException as error:
        raise _failure(uneven, error) from error


def _failure(uneven: list, error: Exception) -> QueryError:  # type: ignore[type-arg]
    if uneven:
        row = uneven[0]
        fields = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        return QueryError(f"Row {row.number - 1}: {fields}: {shown(row.text)}")
    return QueryError(f"The body is not CSV: {error}.")


def _check_names(names: list[str], schema: pa.Schema) -> None:
    for name in names:
        if name not in schema.names:
            raise QueryError(f"There is no column {shown(name)!r}. Columns: {', '.join(schema.names)}. {_HEADER}")
        if names.count(name) > 1:
            raise QueryError(f"The column {name!r} stands twice in the header line.")
