"""The statements of `refresh_sql` and `retention_sql`: one table, plain columns, a condition, and nothing else."""

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from caraway.config.condition import SqlRefusedError, column_of, fold, predicate_of
from caraway.config.dialect import RowSql, text_of
from caraway.config.model import RefreshSql
from caraway.core.predicate import Predicate

_LONGEST = 100_000
_SHAPE = "write SELECT columns FROM {0} [WHERE condition]"


def read_select(text: str, dataset_name: str) -> RefreshSql:
    """The value of a `refresh_sql`; SqlRefusedError says what is not allowed in it."""
    select = _statement(text)
    if not isinstance(select, exp.Select):
        raise SqlRefusedError(f"this is not a SELECT; {_SHAPE.format(dataset_name)}")
    _only(select, {"expressions", "from_", "where"}, dataset_name)
    source = select.args.get("from_")
    if source is None:
        raise SqlRefusedError(f"FROM is missing; {_SHAPE.format(dataset_name)}")
    aliases = _check_table(source.this, dataset_name)
    columns = _columns(select, aliases)
    return RefreshSql(text, columns, _where(select, aliases))


def read_delete(text: str, dataset_name: str) -> Predicate:
    """The condition of `DELETE FROM dataset WHERE condition`; SqlRefusedError says what is not allowed in it."""
    delete = _statement(text)
    shape = f"write DELETE FROM {dataset_name} WHERE condition"
    if not isinstance(delete, exp.Delete):
        raise SqlRefusedError(f"this is not a DELETE; {shape}")
    _only(delete, {"this", "where"}, dataset_name)
    predicate = _where(delete, _check_table(delete.this, dataset_name))
    if predicate is None:
        raise SqlRefusedError(f"without WHERE this removes every row; {shape}")
    return predicate


def _statement(text: str) -> exp.Expr:
    if len(text) > _LONGEST:
        raise SqlRefusedError(f"this is longer than {_LONGEST} characters")
    try:
        statements = [statement for statement in sqlglot.parse(text, read=RowSql) if statement is not None]
    except (SqlglotError, RecursionError) as error:
        raise SqlRefusedError(f"this is not SQL: {_cause(error)}") from error
    if len(statements) != 1:
        raise SqlRefusedError(f"found {len(statements)} statements, expected one")
    return statements[0]


def _cause(error: Exception) -> str:
    details = getattr(error, "errors", None)
    if details:
        first = details[0]
        return f"{first['description']} (line {first['line']}, column {first['col']})".replace("..", ".")
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n", 1)[0]


def _only(node: exp.Expr, allowed: set[str], dataset: str) -> None:
    for name, value in node.args.items():
        if value and name not in allowed:
            raise SqlRefusedError(
                f"{name.strip('_').replace('_', ' ').upper()} is not allowed here, only one table, columns and WHERE; "
                + _SHAPE.format(dataset)
            )


def _check_table(table: exp.Expr, dataset: str) -> frozenset[str]:
    """The names by which the condition may call the table."""
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise SqlRefusedError(f"this reads something else than the dataset; {_SHAPE.format(dataset)}")
    _only(table, {"this", "db", "catalog", "alias"}, dataset)
    parts = [fold(part) for part in table.parts if isinstance(part, exp.Identifier)]
    full = ["spice", "public", *parts][-3:] if len(parts) == 1 else ["spice", *parts][-3:]
    own = dataset.split(".")
    if full != (["spice", "public", *own] if len(own) == 1 else ["spice", *own]):
        raise SqlRefusedError(f"the table {'.'.join(parts)!r} is not this dataset; {_SHAPE.format(dataset)}")
    alias = table.args.get("alias")
    return frozenset({fold(alias.this)} if alias is not None else {parts[-1]})


def _columns(select: exp.Select, aliases: frozenset[str]) -> tuple[str, ...] | None:
    names: list[str] = []
    for item in select.expressions:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star) and not any(star.args.values()):
            if len(select.expressions) > 1:
                raise SqlRefusedError("SELECT names both * and columns; one of them is enough")
            return None
        if not isinstance(item, exp.Column):
            raise SqlRefusedError(f"{text_of(item)!r} in SELECT is not a column; only names of columns may stand there")
        names.append(column_of(item, aliases))
    if not names:
        raise SqlRefusedError("SELECT names no column")
    if len(set(names)) != len(names):
        raise SqlRefusedError("SELECT names a column twice")
    return tuple(names)


def _where(statement: exp.Expr, aliases: frozenset[str]) -> Predicate | None:
    where = statement.args.get("where")
    return predicate_of(where.this, aliases) if where is not None else None
