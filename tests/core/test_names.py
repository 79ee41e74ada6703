"""Names of datasets and columns, and the forms of `from:`."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.names import parse_column_ref, parse_dataset_name, parse_table_ref, split_from

NAMES = [
    ("orders", "orders"), ("Orders", "orders"), ("ORDERS_2", "orders_2"), ('"LINEITEM"', "LINEITEM"),
    ("sales.Orders", "sales.orders"), ('Sales."Orders"', "sales.Orders"), ('"Sales".orders', "Sales.orders"),
    ("public.orders", "orders"), ("PUBLIC.Orders", "orders"), ('"select"', "select"), ("_x", "_x"), ("a$b", "a$b"),
    ("größe", "größe"), ('"two words"', "two words"),
]  # fmt: skip
BAD_NAMES = [
    ("a.b.c", "3 parts"), ("", "not a table name"), (".", "not a table name"), ("a.", "not a table name"),
    (".a", "not a table name"), ("select", "reserved word"), ("SELECT", "reserved word"), ("public.Table", "reserved"),
    ("my-table", "not an identifier"), ("1a", "not an identifier"), ("a b", "not an identifier"),
    ('"a', "not a table name"), ('a"b"', "quotes"), ('""', "empty"), ('"a.b"', "dot"), ('"a""b"', "quote"),
    ('"a\nb"', "unprintable"), ("information_schema.x", "system"), ("runtime.x", "system"),
    ("a;b", "not an identifier"),
    ("a/b", "not an identifier"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_a_dataset_name_is_folded_unless_quoted(text: str, name: str) -> None:
    assert parse_dataset_name(text) == name


@pytest.mark.parametrize(("text", "complaint"), BAD_NAMES)
def test_a_bad_name_is_refused_with_its_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_dataset_name(text)


def test_a_table_reference_has_any_number_of_parts() -> None:
    assert parse_table_ref('Spice.public."A.b"') == ("spice", "public", "A.b")


COLUMNS = [
    ("a", ("a",)), ("A", ("A",)), (" a ", ("a",)), ("a, b", ("a", "b")), ("(a, b)", ("a", "b")), ("(a)", ("a",)),
    ('"a b"', ("a b",)), ("a b,c", ("a b", "c")), ('("A", b)', ("A", "b")), ("ünder", ("ünder",)),
]  # fmt: skip
BAD_COLUMNS = ["", "()", "a,", ",a", "(a", "a)", "a;b", "a:b", '"a', '""', "((a))", '"a""b"', "a,a", "(a,b),c"]


@pytest.mark.parametrize(("text", "columns"), COLUMNS)
def test_a_column_reference_is_taken_as_written(text: str, columns: tuple[str, ...]) -> None:
    assert parse_column_ref(text) == columns


@pytest.mark.parametrize("text", BAD_COLUMNS)
def test_a_bad_column_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse column reference"):
        parse_column_ref(text)


FORMS = [
    ("", ("spice.ai", "")), ("orders", ("spice.ai", "orders")), ("sales.orders", ("spice.ai", "sales.orders")),
    ("spice.ai/org/app/datasets/x", ("spice.ai", "org/app/datasets/x")), ("spice.ai:x", ("spice.ai", "x")),
    ("spice.ai://x/y", ("spice.ai", "x/y")), ("spiceai:http://h:1", ("spice.ai", "http://h:1")),
    ("spice.ai:grpc+tls://h:1", ("spice.ai", "grpc+tls://h:1")), ("https://a.b/c", ("https", "a.b/c")),
    ("file:data/x.parquet", ("file", "data/x.parquet")), ("file:/data/x", ("file", "/data/x")),
    ("file:///data/x", ("file", "/data/x")), ("synthetic:orders", ("synthetic", "orders")),
    ("memory:x", ("memory", "x")), ("postgres:public.x", ("postgres", "public.x")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "split"), FORMS)
def test_from_is_a_connector_and_a_path(text: str, split: tuple[str, str]) -> None:
    assert split_from(text) == split


@given(st.text())
def test_any_text_is_parsed_or_a_value_error(text: str) -> None:
    split_from(text)
    for parse in (parse_dataset_name, parse_column_ref, parse_table_ref):
        with suppress(ValueError):
            assert parse(text)


@given(st.text(alphabet='aA".$_ 1'))
def test_a_canonical_name_that_is_quoted_again_means_the_same(text: str) -> None:
    try:
        name = parse_dataset_name(text)
    except ValueError:
        return
    assert parse_dataset_name(".".join(f'"{part}"' for part in name.split("."))) == name
