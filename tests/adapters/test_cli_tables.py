"""How the command line shows rows: boxes that fit, records where none would, every type in words."""

import pyarrow as pa
import pytest
from rich.console import Console

from caraway.cli.tables import render, type_name

ROWS = pa.table(
    {
        "id": pa.array([1, 22], pa.int64()),
        "words": ["häuser 日本語", None],
        "st": [{"a": 1, "b": "x"}, None],
        "raw": [b"\x00\xff", b""],
    }
)
STEERING = pa.table({"a\x1b[2J": ["\x1b]0;title\x07", "two\nlines"]})


def shown(rows: pa.Table, width: int) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as captured:
        console.print(render(rows, width))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


BOX = """\
+-------+---------------+---------------------------+--------+
|    id | words         | st                        | raw    |
| int64 | string        | struct<a int64, b string> | binary |
+-------+---------------+---------------------------+--------+
|     1 | häuser 日本語 | {"a":1,"b":"x"}           | 00ff   |
|    22 | NULL          | NULL                      |        |
+-------+---------------+---------------------------+--------+"""


def test_a_box_with_types_under_the_names():
    assert shown(ROWS, 100) == BOX


def test_what_is_a_little_too_wide_is_folded():
    text = shown(pa.table({"a": ["x" * 50], "b": [1]}), 40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("x") == 50
    assert "[ 1 ]" not in text


def test_what_is_far_too_wide_is_shown_as_records():
    wide = pa.table({f"column_{i}": [f"value {i}", None] for i in range(10)})
    text = shown(wide, 80)
    assert text.count("-[ ") == 2
    assert "column_3 value 3" in text
    assert "column_3 NULL" in text
    assert "+--" not in text


@pytest.mark.parametrize("width", [10, 20, 80, 300])
def test_any_width_shows_every_row(width):
    assert "NULL" in shown(ROWS, width)
    shown(ROWS.slice(0, 0), width)


def test_nothing_steers_the_terminal():
    text = shown(STEERING, 80)
    assert "\x1b" not in text
    assert "\\x1b]0;title\\x07" in text
    assert "two" in text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.binary_view(), "binary"),
        (pa.float64(), "float64"),
        (pa.date32(), "date"),
        (pa.time64("us"), "time64"),
        (pa.timestamp("ms"), "timestamp[ms]"),
        (pa.timestamp("us", "UTC"), "timestamp[us, UTC]"),
        (pa.decimal256(40, 3), "decimal(40,3)"),
        (pa.dictionary(pa.int32(), pa.large_string()), "string"),
        (pa.run_end_encoded(pa.int32(), pa.int8()), "int8"),
        (pa.list_(pa.string()), "list<string>"),
        (pa.list_(pa.int8(), 3), "list<int8>"),
        (pa.map_(pa.string(), pa.list_(pa.date32())), "map<string, list<date>>"),
        (pa.struct({"a": pa.int8(), "b": pa.float32()}), "struct<a int8, b float32>"),
        (pa.month_day_nano_interval(), "interval"),
        (pa.duration("s"), "duration"),
        (pa.null(), "null"),
        (pa.bool_(), "bool"),
    ],
)
def test_types_in_few_letters(kind, name):
    assert type_name(kind) == name


def test_a_type_that_answers_never_have_is_shown_all_the_same():
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    assert "b" in shown(pa.table({"u": union}), 80)
