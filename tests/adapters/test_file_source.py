"""What is special of files: paths, formats, metadata columns, schemas that disagree, and errors that help."""

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caraway.config.model import ColumnDecl, Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.file.listing import list_files, token
from caraway.connectors.file.source import FileSource, open_file_source
from caraway.connectors.formats.parquet import Parquet
from caraway.connectors.formats.pruning import row_groups
from caraway.core.predicate import Compare, Like, Literal, Predicate
from caraway.errors import ConfigError, SourceError
from caraway.model import ReadRequest, TimeColumn
from caraway.secrets import Secrets

UTC_US = pa.timestamp("us", "UTC")


async def opened(folder: Path, path: str, *, params: dict[str, str] | None = None, **options: object) -> FileSource:
    dataset = Dataset("t", FromUri("file", path, f"file:{path}"), **options)
    return await open_file_source(dataset, ConnectorParams(params or {}, Secrets({}), "t"), directory=folder)


async def rows_of(source: FileSource, **request: object) -> pa.Table:
    async with source.read(ReadRequest(**request)) as rows:
        return pa.Table.from_batches([batch async for batch in rows], (await source.schema()))


async def column(source: FileSource, name: str, predicate: Predicate | None = None) -> list[object]:
    async with source.read(ReadRequest(columns=(name,), predicate=predicate)) as rows:
        return [value async for batch in rows for value in batch.column(0).to_pylist()]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def put_parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv"]),
        ("a.csv", ["a.csv"]),
        ("sub", ["sub/c.csv", "sub/deep/d.csv"]),
        ("*.csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[ac].csv", ["a.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("*/*.csv", ["sub/c.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv"]),
        ("sub/**", ["sub/c.csv", "sub/deep/d.csv", "sub/notes.txt"]),
        ("s*/**/d.csv", ["sub/deep/d.csv"]),
        ("*.parquet", []),
    ],
)
def test_what_a_path_means(tmp_path, pattern, found):
    for name in (
        "a.csv",
        "b.csv",
        "sub/c.csv",
        "sub/deep/d.csv",
        "sub/notes.txt",
        "_tmp/x.csv",
        ".b.csv",
        "sub/_x.csv",
    ):
        put(tmp_path / name, "id\n1\n")
    assert [str(f.path.relative_to(tmp_path)) for f in list_files(tmp_path / pattern, [".csv"])] == found


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    put(tmp_path / "a[1].csv", "id\n1\n")
    put(tmp_path / "a1.csv", "id\n2\n")
    assert [f.path.name for f in list_files(tmp_path / "a[1].csv", [".csv"])] == ["a[1].csv"]


def test_the_token_tells_every_change(tmp_path):
    path = put(tmp_path / "a.csv", "id\n1\n")
    os.utime(path, ns=(0, 1))
    tokens = [token(list_files(tmp_path, [".csv"]))]
    os.utime(path, ns=(0, 2))
    tokens.append(token(list_files(tmp_path, [".csv"])))
    put(tmp_path / "b.csv", "id\n1\n")
    tokens.append(token(list_files(tmp_path, [".csv"])))
    (tmp_path / "b.csv").rename(tmp_path / "c.csv")
    tokens.append(token(list_files(tmp_path, [".csv"])))
    assert len(set(tokens)) == 4


async def test_new_files_are_seen_without_opening_again(tmp_path):
    put(tmp_path / "a.csv", "id\n1\n")
    source = await opened(tmp_path, "*.csv")
    before = await source.version()
    put(tmp_path / "b.csv", "id\n2\n")
    assert await source.version() != before
    assert await column(source, "id") == [1, 2]


async def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    path = put(tmp_path / "x" / "a.csv", "id\n1\n")
    assert await column(await opened(tmp_path / "elsewhere", str(path)), "id") == [1]


# --- metadata --------------------------------------------------------------------------------------------------------


async def test_metadata_columns_where_enabled(tmp_path):
    path = put(tmp_path / "a.csv", "id\n1\n2\n")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    source = await opened(
        tmp_path, "a.csv", metadata=dict.fromkeys(("_location", "_last_modified", "_size"), "enabled")
    )
    fields = [("_location", pa.string()), ("_last_modified", UTC_US), ("_size", pa.uint64())]
    assert await source.schema() == pa.schema([("id", pa.int64()), *fields])
    moment = datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_456)
    expected = {
        "id": [1, 2],
        "_location": [str(path)] * 2,
        "_last_modified": [moment] * 2,
        "_size": [path.stat().st_size] * 2,
    }
    assert (await rows_of(source)).to_pydict() == expected


async def test_metadata_columns_are_absent_unless_enabled(tmp_path):
    put(tmp_path / "a.csv", "id\n1\n")
    source = await opened(tmp_path, "a.csv", metadata={"_location": "disabled"})
    assert (await source.schema()).names == ["id"]


async def test_a_real_column_wins_over_a_metadata_column(tmp_path):
    put(tmp_path / "a.csv", "_size,last_modified\n7,x\n")
    source = await opened(tmp_path, "a.csv", metadata={"_size": "enabled"}, time_column=TimeColumn("last_modified"))
    assert (await rows_of(source)).to_pydict() == {"_size": [7], "last_modified": ["x"]}


async def test_last_modified_as_time_column_prunes_files(tmp_path):
    old, new = put(tmp_path / "a.csv", "id\n1\n"), put(tmp_path / "b.csv", "id\n2\n")
    os.utime(old, ns=(0, 1_000_000_000))
    os.utime(new, ns=(0, 3_000_000_000))
    source = await opened(tmp_path, "*.csv", time_column=TimeColumn("last_modified"))
    assert (await source.schema()).field("last_modified").type == UTC_US
    later = Compare("last_modified", ">", Literal(2_000_000, "timestamp[us, tz=UTC]"))
    assert await column(source, "id", later) == [2]


async def test_a_condition_on_the_location_chooses_files(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / f"{name}.csv", f"id\n{ord(name)}\n")
    source = await opened(tmp_path, "*.csv", metadata={"_location": "enabled"})
    assert await column(source, "id", Like("_location", "%/b.csv")) == [98]


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "text", "expected"),
    [
        ({}, 'a,b\n1,"x\ny"\n2,\n', {"a": [1, 2], "b": ["x\ny", None]}),
        ({"csv_delimiter": ";"}, "a;b\n1;2\n", {"a": [1], "b": [2]}),
        ({"csv_delimiter": "\\t"}, "a\tb\n1\t2\n", {"a": [1], "b": [2]}),
        ({"csv_has_header": "false"}, "1,x\n2,y\n", {"column_1": [1, 2], "column_2": ["x", "y"]}),
        ({"csv_quote": "'"}, "a\n'x,y'\n", {"a": ["x,y"]}),
        ({"csv_escape": "\\"}, 'a\n"x\\"y"\n', {"a": ['x"y']}),
        ({}, "a,b\nNA,nan\n", {"a": ["NA"], "b": [pytest.approx(float("nan"), nan_ok=True)]}),
        ({}, "only,head\n", {"only": [], "head": []}),
    ],
)
async def test_csv_dialects(tmp_path, params, text, expected):
    put(tmp_path / "a.csv", text)
    assert (await rows_of(await opened(tmp_path, "a.csv", params=params))).to_pydict() == expected


async def test_tsv_has_its_own_parameters(tmp_path):
    put(tmp_path / "a.tsv", "1\t2\n")
    source = await opened(tmp_path, "a.tsv", params={"tsv_has_header": "false", "csv_delimiter": ";"})
    assert (await rows_of(source)).to_pydict() == {"column_1": [1], "column_2": [2]}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
async def test_compressed_text(tmp_path, ending):
    text = {"csv": "id\n1\n2\n", "jsonl": '{"id":1}\n{"id":2}\n'}[ending]
    (tmp_path / f"a.{ending}.gz").write_bytes(gzip.compress(text.encode()))
    assert await column(await opened(tmp_path, f"a.{ending}.gz"), "id") == [1, 2]


async def test_declared_types_are_read(tmp_path):
    put(tmp_path / "a.csv", "id,amount\n007,1.50\n")
    columns = (ColumnDecl("id", "varchar"), ColumnDecl("amount", "decimal(10,2)"))
    source = await opened(tmp_path, "a.csv", columns=columns)
    assert await source.schema() == pa.schema([("id", pa.string()), ("amount", pa.decimal128(10, 2))])
    assert await column(source, "id") == ["007"]


async def test_json_lines_keep_texts_and_fill_what_is_missing(tmp_path):
    put(tmp_path / "a.json", '{"id":1,"at":"2026-01-31","tags":["x"],"in":{"at":"2026-01-31"}}\n{"id":2}\n')
    put(tmp_path / "b.json", '{"id":3.5,"new":true}\n')
    found = (await rows_of(await opened(tmp_path, "*.json"))).to_pydict()
    assert found == {
        "id": [1.0, 2.0, 3.5],
        "at": ["2026-01-31", None, None],
        "tags": [["x"], None, None],
        "in": [{"at": "2026-01-31"}, None, None],
        "new": [None, None, True],
    }


async def test_text_columns_without_any_value_are_text(tmp_path):
    put(tmp_path / "a.csv", "id,b\n1,\n")
    assert (await (await opened(tmp_path, "a.csv")).schema()).field("b").type == pa.string()


async def test_an_empty_file_among_others_has_no_rows(tmp_path):
    put(tmp_path / "a.csv", "")
    put(tmp_path / "b.csv", "id\n1\n")
    assert await column(await opened(tmp_path, "*.csv"), "id") == [1]


# --- parquet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "value", "kept"),
    [
        (">", 250, [2]),
        (">=", 200, [2]),
        ("<", 100, [0]),
        ("<=", 100, [0, 1]),
        ("=", 150, [1]),
        ("=", 999, []),
        ("!=", 5, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("kind", ["int64", "timestamp[us]", "timestamp[s, tz=UTC]", "decimal128(19, 0)", "date32"])
def test_row_groups_are_ruled_out_by_statistics(tmp_path, op, value, kept, kind):
    from decimal import Decimal

    from caraway.kernels import type_of

    target = type_of(kind)
    numbers = pa.arange(0, 300)
    storage = numbers if not pa.types.is_date32(target) else numbers.cast(pa.int32())
    pq.write_table(pa.table({"x": storage.cast(target)}), tmp_path / "a.parquet", row_group_size=100)
    literal = Literal(Decimal(value) if "decimal" in kind else value, kind)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert row_groups(file.metadata, file.schema_arrow, Compare("x", op, literal)) == kept


def test_row_groups_stay_where_statistics_tell_nothing(tmp_path):
    table = pa.table({"x": [1.0, float("nan")], "n": pa.nulls(2, pa.int64()), "s": [{"a": 1}, {"a": 2}]})
    pq.write_table(table, tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    for name in ("x", "n"):
        above = Compare(name, ">", Literal(10, "int64"))
        assert row_groups(file.metadata, file.schema_arrow, above) == [0]


async def test_parquet_is_read_in_bounded_batches(tmp_path):
    put_parquet(tmp_path / "a.parquet", id=pa.arange(0, 300_000))
    sizes = [
        batch.num_rows for batch in Parquet().batches(tmp_path / "a.parquet", pa.schema([("id", pa.int64())]), None)
    ]
    assert sum(sizes) == 300_000
    assert max(sizes) <= 65_536


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nope.csv", "nope.csv does not exist"),
        ("nope/*.csv", r"nope/\*\.csv does not exist"),
        ("*.csv", "no file matches"),
        ("broken.parquet", "broken.parquet is malformed"),
        ("broken.jsonl", "broken.jsonl is malformed"),
        ("empty.tsv", "empty.tsv is empty"),
        ("plain.txt", "no name that tells its format"),
        ("mixed", r"several formats \(csv, parquet\)"),
    ],
)
async def test_errors_name_the_dataset_the_file_and_what_to_do(tmp_path, path, words):
    put(tmp_path / "broken.parquet", "no parquet")
    put(tmp_path / "broken.jsonl", "[1, 2]\n")
    put(tmp_path / "empty.tsv", "")
    put(tmp_path / "plain.txt", "x")
    put(tmp_path / "mixed" / "a.csv", "id\n1\n")
    put_parquet(tmp_path / "mixed" / "b.parquet", id=[1])
    source = await opened(tmp_path, path)
    with pytest.raises(SourceError, match=words) as caught:
        await source.schema()
    assert caught.value.message.startswith("t: ")
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["null", " null\n", 'null\n{"id":1}\n', '{"id":1}\n' + " \tnull\n" * 1_000_000])
async def test_a_line_of_null_is_malformed(tmp_path, text):
    put(tmp_path / "a.jsonl", text)
    source = await opened(tmp_path, "a.jsonl")
    with pytest.raises(SourceError, match=r"a\.jsonl is malformed.*null"):
        await rows_of(source)


async def test_a_value_that_does_not_fit_names_its_file(tmp_path):
    put(tmp_path / "a.csv", "id\n" + "1\n" * 3_000_000 + "x\n")
    source = await opened(tmp_path, "a.csv")
    with pytest.raises(SourceError, match=r"a\.csv is malformed.*'x'") as caught:
        await column(source, "id")
    assert "columns" in caught.value.remedy


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"id": [1]}, {"id": ["x"]}, "'id' is int64 in one and string in the other"),
        ({"id": [1]}, {"id": [1], "b": [1]}, "only one of them has a column 'b'"),
        ({"id": [1], "b": [1]}, {"id": [1]}, "only one of them has a column 'b'"),
    ],
)
async def test_parquet_files_that_disagree(tmp_path, one, other, words):
    put_parquet(tmp_path / "a.parquet", **one)
    put_parquet(tmp_path / "b.parquet", **other)
    source = await opened(tmp_path, "*.parquet")
    with pytest.raises(SourceError, match=words) as caught:
        await source.schema()
    assert "b.parquet" in caught.value.message


async def test_parquet_columns_may_come_in_another_order(tmp_path):
    put_parquet(tmp_path / "a.parquet", id=[1], b=["x"])
    put_parquet(tmp_path / "b.parquet", b=["y"], id=[2])
    assert (await rows_of(await opened(tmp_path, "*.parquet"))).to_pydict() == {"id": [1, 2], "b": ["x", "y"]}


async def test_csv_files_that_disagree(tmp_path):
    put(tmp_path / "a.csv", "id\n1\n")
    put(tmp_path / "b.csv", "id\nx\n")
    with pytest.raises(SourceError, match=r"b\.csv.*int64 vs string"):
        await (await opened(tmp_path, "*.csv")).schema()


async def test_a_source_heals_with_its_file(tmp_path):
    path = put(tmp_path / "a.jsonl", "{")
    source = await opened(tmp_path, "a.jsonl")
    with pytest.raises(SourceError) as caught:
        await source.schema()
    assert caught.value.transient
    path.write_text('{"id":1}\n')
    assert await column(source, "id") == [1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read(tmp_path):
    put(tmp_path / "a.csv", "id\n1\n").chmod(0)
    with pytest.raises(SourceError, match="may not be read"):
        await (await opened(tmp_path, "a.csv")).schema()


@pytest.mark.parametrize(
    ("path", "params", "words"),
    [
        ("", {}, "names no path"),
        ("a.csv", {"file_format": "xlsx"}, "file_format.*'xlsx'; allowed: parquet, csv"),
        ("a.csv", {"csv_delimiter": "::"}, "csv_delimiter.*one ASCII character"),
        ("a.csv", {"csv_has_header": "maybe"}, "csv_has_header"),
        ("a.csv", {"file_compression_type": "rar"}, "file_compression_type.*allowed: gzip"),
    ],
)
async def test_wrong_parameters(tmp_path, path, params, words):
    with pytest.raises(ConfigError, match=words):
        await opened(tmp_path, path, params=params)
