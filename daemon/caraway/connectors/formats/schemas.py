"""One schema for several files, or a clear word about where they disagree."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from caraway.errors import SourceError

DECLARE = "Declare the column's type under the dataset's `columns`, or move files that do not belong out of the path."


def merged(schemas: Iterable[tuple[Path, pa.Schema]], *, loose: bool, dataset: str) -> pa.Schema:
    """The common schema; SourceError names the file and the column that do not fit.

    Without `loose` all files must have the same columns of the same types, in any order. With it a column may be
    missing and numbers widen. A column that has no value anywhere is text.
    """
    (first, whole), *others = schemas
    for path, schema in others:
        if not loose and (problem := _difference(whole, schema)):
            raise _disagree(dataset, first, path, problem)
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive" if loose else "default")
        except pa.ArrowException as error:
            raise _disagree(dataset, first, path, str(error)) from error
    return pa.schema([pa.field(column.name, _valued(column.type), column.nullable) for column in whole])


def with_declared(schema: pa.Schema, declared: Mapping[str, pa.DataType]) -> pa.Schema:
    """The schema with the types that the dataset's `columns` declare."""
    return pa.schema([pa.field(f.name, declared.get(f.name, f.type), f.nullable) for f in schema])


def _difference(one: pa.Schema, other: pa.Schema) -> str:
    for left, right in ((one, other), (other, one)):
        missing = [name for name in left.names if name not in right.names]
        if missing:
            return f"only one of them has a column {missing[0]!r}"
    for column in one:
        if other.field(column.name).type != column.type:
            return f"column {column.name!r} is {column.type} in one and {other.field(column.name).type} in the other"
    return ""


def _disagree(dataset: str, first: Path, other: Path, problem: str) -> SourceError:
    return SourceError(f"{dataset}: {first} and {other} have different columns: {problem}.", remedy=DECLARE)


def _valued(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind
