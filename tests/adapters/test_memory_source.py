"""A table that is only written to."""

import pyarrow as pa
import pytest

from caraway.config.model import ColumnDecl, Dataset, FromUri
from caraway.connectors.memory import open_memory_source
from caraway.errors import ConfigError


def dataset(*columns: ColumnDecl) -> Dataset:
    return Dataset("t", FromUri("memory", "t", "memory:t"), columns=columns)


async def test_columns_declare_the_schema():
    source = await open_memory_source(dataset(ColumnDecl("id", "bigint"), ColumnDecl("text", "varchar(10)")))
    assert await source.schema() == pa.schema([("id", pa.int64()), ("text", pa.string())])


@pytest.mark.parametrize(
    ("columns", "words"),
    [((), "declares its columns"), ((ColumnDecl("id"),), "'id' has no type"), ((ColumnDecl("id", "blah"),), "blah")],
)
async def test_a_schema_that_is_not_declared(columns, words):
    with pytest.raises(ConfigError, match=words):
        await open_memory_source(dataset(*columns))
