"""The columns of an API's table: those that tell of the exchange, and those that a dataset takes out of the body."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from caraway.config.model import ColumnDecl
from caraway.config.sqltypes import field_of
from caraway.connectors.http.bodies import BodyError, Rows
from caraway.core.http_requests import REQUEST_COLUMNS
from caraway.errors import ConfigError, ConfigProblem

CONTENT, STATUS, HEADERS, FETCHED_AT = "content", "response_status", "response_headers", "_fetched_at"

EXCHANGE = pa.schema(
    [
        pa.field("request_path", pa.utf8(), nullable=False),
        *(pa.field(name, pa.utf8()) for name in REQUEST_COLUMNS[1:]),
        pa.field(CONTENT, pa.utf8(), nullable=False),
        pa.field(STATUS, pa.uint16(), nullable=False),
        pa.field(HEADERS, pa.map_(pa.utf8(), pa.utf8())),
        pa.field(FETCHED_AT, pa.timestamp("ns")),  # UTC
    ]
)
"""The table of a dataset that declares no columns of the body; these names always mean these columns."""

CATCH_ALL = "json_object"
_ONE_DAY = pa.scalar("1970-01-01T")


@dataclass(frozen=True, slots=True)
class Layout:
    """The table's columns; `rest` is the one that takes what no other column does, None where none is of the body."""

    schema: pa.Schema
    rest: str | None = None

    @property
    def request_columns(self) -> tuple[str, ...]:
        return tuple(name for name in REQUEST_COLUMNS if name in self.schema.names)

    def column(self, field: pa.Field, rows: Rows) -> pa.Array:
        """A column out of the body; BodyError for a value that does not fit its type."""
        if field.name == self.rest:
            return _texts([rows.spell(value).decode() for value in self._left_over(rows.values)], rows)
        values = [value.get(field.name) if isinstance(value, dict) else None for value in rows.values]
        return _typed(values, field, rows)

    def _left_over(self, values: Iterable[object]) -> list[object]:
        taken = {*self.schema.names, *EXCHANGE.names} - {self.rest}
        return [
            {name: inner for name, inner in value.items() if name not in taken} if isinstance(value, dict) else value
            for value in values
        ]


def read_layout(columns: Sequence[ColumnDecl], dataset: str) -> Layout:
    """The layout that a dataset's `columns` declare; ConfigError names the column.

    Without a catch-all they only describe the columns of EXCHANGE.
    """
    rest = [column for column in columns if CATCH_ALL in column.metadata]
    if not rest:
        strange = next((column for column in columns if column.name not in EXCHANGE.names), None)
        if strange is not None:
            needed = f"columns of the body need one that takes the rest, with metadata: {{{CATCH_ALL}: '*'}}"
            raise _wrong(dataset, strange, needed)
        return Layout(_described(EXCHANGE, columns))
    _check_catch_all(rest, dataset)
    fields = [_field(column, dataset, column is rest[0]) for column in columns]
    known = {field.name for field in fields}
    fields += [EXCHANGE.field(FETCHED_AT)] if FETCHED_AT not in known else []
    return Layout(_described(pa.schema(fields), columns), rest[0].name)


def _check_catch_all(rest: Sequence[ColumnDecl], dataset: str) -> None:
    first, *others = rest
    if others:
        raise _wrong(dataset, others[0], f"only one column can take the rest, and {first.name!r} does")
    if first.metadata[CATCH_ALL] != "*":
        raise _wrong(dataset, first, f"metadata.{CATCH_ALL} is {first.metadata[CATCH_ALL]!r}; allowed: '*'")
    if first.name in EXCHANGE.names:
        raise _wrong(dataset, first, f"{first.name!r} tells of the exchange and can't take the rest; rename it")


def _field(column: ColumnDecl, dataset: str, takes_rest: bool) -> pa.Field:
    if column.name in EXCHANGE.names:
        return EXCHANGE.field(column.name)
    if column.type is None:
        return pa.field(column.name, pa.utf8())
    try:
        field = field_of(column)
    except ValueError as error:
        raise _wrong(dataset, column, str(error)) from error
    if takes_rest and field.type != pa.utf8():
        raise _wrong(dataset, column, f"what takes the rest is JSON in a text; found the type {column.type}")
    return field


def _described(schema: pa.Schema, columns: Sequence[ColumnDecl]) -> pa.Schema:
    comments = {column.name: {"comment": column.description} for column in columns if column.description}
    return pa.schema([field.with_metadata(comments.get(field.name)) for field in schema])


def _wrong(dataset: str, column: ColumnDecl, message: str) -> ConfigError:
    return ConfigError(ConfigProblem(message, f"datasets[{dataset}].columns[{column.name}]"))


# --- values ----------------------------------------------------------------------------------------------------------


def _typed(values: list[object], field: pa.Field, rows: Rows) -> pa.Array:
    try:
        made = _texts(values, rows) if field.type == pa.utf8() else _converted(values, field.type, rows)
    except pa.ArrowException as error:
        raise BodyError(_misfit(values, field, rows)) from error
    if not field.nullable and made.null_count:
        raise BodyError(f"has no value for the column {field.name!r} in {made.null_count} rows, which is NOT NULL.")
    return made


def _texts(values: list[object], rows: Rows) -> pa.Array:
    """Texts as they are, other values as JSON."""
    try:
        return pa.array(values, pa.utf8())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        spelt = (v if v is None or isinstance(v, str) else rows.spell(v).decode() for v in values)
        return pa.array(spelt, pa.utf8())


def _converted(values: list[object], kind: pa.DataType, rows: Rows) -> pa.Array:
    """Numbers and truth values as they are where they fit; all else by its text, as SQL casts it."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        try:
            plain = pa.array(values)
            if pa.types.is_null(plain.type) or pa.types.is_boolean(plain.type) == pa.types.is_boolean(kind):
                return plain.cast(kind)
        except (pa.ArrowException, OverflowError):
            pass
    return _cast(_texts(values, rows), kind)


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times of day and zones are what Arrow has no cast for: a time without a zone is UTC, one with it loses it."""
    if pa.types.is_time(kind):
        return pc.binary_join_element_wise(_ONE_DAY, texts, "").cast(pa.timestamp(kind.unit)).cast(kind)
    if not pa.types.is_timestamp(kind):
        return texts.cast(kind)
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        other = pa.timestamp(kind.unit, None if kind.tz else "UTC")
        return texts.cast(other).cast(kind)


def _misfit(values: list[object], field: pa.Field, rows: Rows) -> str:
    for value in values:
        try:
            _converted([value], field.type, rows)
        except pa.ArrowException:
            shown = rows.spell(value).decode()
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            return f"has {shown} in the column {field.name!r}, which is declared as {field.type}."
    return f"has values in the column {field.name!r} that do not go together as {field.type}."
