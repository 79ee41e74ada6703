"""SQL names of types and the Arrow types that they stand for."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import ColumnDecl
from caraway.config.sqltypes import field_of, schema_of, type_of
from caraway.errors import ConfigError
from support.fuzz import fuzz

TYPES = [
    ("tinyint", pa.int8()), ("smallint", pa.int16()), ("int", pa.int32()), ("INTEGER", pa.int32()),
    ("bigint", pa.int64()), ("int8", pa.int64()), ("tinyint unsigned", pa.uint8()), ("unsigned smallint", pa.uint16()),
    ("int unsigned", pa.uint32()), ("UNSIGNED  BIGINT", pa.uint64()), ("float", pa.float32()), ("real", pa.float32()),
    ("double", pa.float64()), ("double precision", pa.float64()), ("float8", pa.float64()),
    ("decimal", pa.decimal128(38, 0)), ("decimal(10,2)", pa.decimal128(10, 2)), ("numeric( 5 )", pa.decimal128(5, 0)),
    ("decimal(50, 10)", pa.decimal256(50, 10)), ("boolean", pa.bool_()), ("bool", pa.bool_()), ("text", pa.utf8()),
    ("varchar", pa.utf8()), ("varchar(20)", pa.utf8()), ("character varying (20)", pa.utf8()), ("string", pa.utf8()),
    ("json", pa.utf8()), ("date", pa.date32()), ("time", pa.time64("us")), ("time(3)", pa.time32("ms")),
    ("time(9)", pa.time64("ns")), ("timestamp", pa.timestamp("us")), ("timestamp(9)", pa.timestamp("ns")),
    ("timestamp(0)", pa.timestamp("s")), ("timestamptz", pa.timestamp("us", "UTC")),
    ("timestamp(3) with time zone", pa.timestamp("ms", "UTC")), ("timestamp without time zone", pa.timestamp("us")),
    ("blob", pa.binary()), ("bytea", pa.binary()), ("binary", pa.binary()), ("varbinary(8)", pa.binary()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), TYPES)
def test_a_sql_type_is_an_arrow_type(name: str, expected: pa.DataType) -> None:
    assert field_of(ColumnDecl("c", name)) == pa.field("c", expected)
    assert field_of(ColumnDecl("c", f"{name} NOT  NULL")) == pa.field("c", expected, nullable=False)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "is not a SQL type"),
        ("varchr", "did you mean 'varchar'"),
        ("int(11)", "is not a SQL type"),
        ("decimal(0,0)", "precision is 1 to 76"),
        ("decimal(77)", "precision is 1 to 76"),
        ("decimal(5,6)", "scale at most the precision"),
        ("decimal(1,2,3)", "is not a SQL type"),
        ("timestamp(4)", "0, 3, 6 or 9"),
        ("varchar(1,2)", "is not a SQL type"),
        ("int[]", "is not a SQL type"),
        ("not null", "is not a SQL type"),
        ("text null", "is not a SQL type"),
    ],
)
def test_what_is_no_type_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        field_of(ColumnDecl("c", name))


def test_columns_make_a_schema_with_their_descriptions() -> None:
    schema = schema_of([ColumnDecl("id", "bigint not null"), ColumnDecl("Name", "text", "what it's called")])
    assert schema == pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("Name", pa.utf8())])
    assert schema.field("Name").metadata == {b"comment": b"what it's called"}


def test_a_column_without_a_type_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the column 'a' has no type"):
        schema_of([ColumnDecl("a")])


@fuzz(100)
@given(st.text(alphabet="abdeilmnoprstuvxyz(),0123 ") | st.text())
def test_any_text_is_a_type_or_a_value_error(name: str) -> None:
    try:
        found = type_of(name)
    except ValueError:
        return
    assert isinstance(found, pa.DataType)
