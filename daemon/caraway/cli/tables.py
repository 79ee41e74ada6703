"""How rows look on a terminal: a box with a row of types, or where that would be too wide, a record at a time."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from caraway.cli.output import plain
from caraway.errors import QueryError
from caraway.query.worker.render_csv import display

NARROWEST = 20
"""A column of a box may be folded down to this; what needs more folding is shown as records."""

_SHORT = {"double": "float64", "float": "float32", "halffloat": "float16", "month_day_nano_interval": "interval"}


def render(rows: pa.Table, width: int) -> RenderableType:
    """All rows of a table within so many columns; values as the server writes them into CSV, no value as NULL."""
    names = [plain(name) for name in rows.schema.names]
    kinds = [type_name(kind) for kind in rows.schema.types]
    columns = [_texts(column) for column in rows.columns]
    natural = [
        max(cell_len(name), cell_len(kind), *(_widest(text) for text in column), 0)
        for name, kind, column in zip(names, kinds, columns, strict=True)
    ]
    if _box_width(min(each, NARROWEST) for each in natural) > width:
        return Group(*(_record(number, names, row, width) for number, row in enumerate(zip(*columns, strict=True), 1)))
    return _box(rows.schema, names, kinds, columns)


def type_name(kind: pa.DataType) -> str:
    """A type in few letters: what it holds, not how it is laid out."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}]" if kind.tz is None else f"timestamp[{kind.unit}, {kind.tz}]"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name} {type_name(field.type)}' for field in kind)}>"
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return f"list<{type_name(kind.value_type)}>"
    bare = str(kind).partition("[")[0].removeprefix("large_").removesuffix("_view")
    return "date" if pa.types.is_date(kind) else _SHORT.get(bare, bare)


def _box(schema: pa.Schema, names: Sequence[str], kinds: Sequence[str], columns: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=box.ASCII2, header_style="bold")
    for name, kind, field in zip(names, kinds, schema, strict=True):
        title = Text.assemble(name, ("\n" + plain(kind), "dim not bold"))
        table.add_column(title, justify="right" if _is_number(field.type) else "left", overflow="fold")
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _record(number: int, names: Sequence[str], row: Sequence[Text], width: int) -> Group:
    """One row, a line or more for each value."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(style="bold", overflow="fold", max_width=max(width // 3, 1))
    table.add_column(overflow="fold")
    for name, value in zip(names, row, strict=True):
        table.add_row(Text(name), value)
    return Group(Text(f"-[ {number} ]".ljust(min(width, 40), "-"), style="dim"), table)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _box_width(columns: Iterable[int]) -> int:
    return 1 + sum(each + 3 for each in columns)


def _widest(text: Text) -> int:
    return max(map(cell_len, text.plain.split("\n")))


def _texts(column: pa.ChunkedArray) -> list[Text]:
    values = [value for chunk in column.chunks for value in _written(chunk)]
    return [Text("NULL", style="dim") if value is None else Text(plain(value)) for value in values]


def _written(chunk: pa.Array) -> list[str | None]:
    try:
        return [str(value) if value is not None else None for value in display(chunk).to_pylist()]
    except QueryError:  # a type that no answer of ours has
        return [None if value is None else str(value) for value in chunk.to_pylist()]
