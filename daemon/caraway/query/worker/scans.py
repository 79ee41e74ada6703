"""What a logical plan reads, and proof that it only reads."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from datafusion import expr as nodes
from datafusion.expr import Expr
from datafusion.plan import LogicalPlan

from caraway.core.pushdown import Scan
from caraway.errors import QueryError, QueryFailure
from caraway.query.worker.expressions import expression_of, variant_of, words_of

READ_ONLY = "a read-only SQL context answers queries and nothing else"

_READING = (
    nodes.Aggregate,
    nodes.Analyze,
    nodes.DescribeTable,
    nodes.Distinct,
    nodes.EmptyRelation,
    nodes.Explain,
    nodes.Filter,
    nodes.Join,
    nodes.Limit,
    nodes.Projection,
    nodes.RecursiveQuery,
    nodes.Repartition,
    nodes.Sort,
    nodes.Subquery,
    nodes.SubqueryAlias,
    nodes.TableScan,
    nodes.Union,
    nodes.Unnest,
    nodes.Values,
    nodes.WindowExpr,
)
_SCAN_LINE = re.compile(r"^\s*TableScan: (?P<name>.*?)(?: projection=| unsupported_filters=|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reading:
    """One TableScan: the table's name as the plan writes it, the scan as values, the filter as the engine has it."""

    reference: str
    scan: Scan
    filter: Expr | None


def forbid_writes(plan: LogicalPlan) -> None:
    """QueryError FORBIDDEN for a plan with any node that is not known to read and to do nothing else.

    The planner's options refuse writes before this; a second look costs little and survives a change of theirs.
    """
    node = plan.to_variant()
    if not isinstance(node, _READING):
        raise QueryError(f"{type(node).__name__} is not allowed: {READ_ONLY}", QueryFailure.FORBIDDEN)
    for child in plan.inputs():
        forbid_writes(child)


def only_selects(plan: LogicalPlan) -> bool:
    """Whether the plan gives rows of one table as they are: columns chosen, rows filtered, nothing computed."""
    node = plan.to_variant()
    match node:
        case nodes.TableScan():
            return True
        case nodes.Filter() | nodes.SubqueryAlias():
            pass
        case nodes.Projection():
            if not all(isinstance(variant_of(Expr(column)), nodes.Column) for column in node.projections()):
                return False
        case _:
            return False
    return all(only_selects(child) for child in plan.inputs())


def scans_any(plan: LogicalPlan, names: Iterable[str]) -> bool:
    """Whether any of the tables (names `schema.table`) is read, not only mentioned, as DESCRIBE and SHOW COLUMNS do.

    Subqueries inside expressions are seen in the plan's text alone; a name too many there costs a needless snapshot.
    """
    scanned = {match["name"].removeprefix("spice.") for match in _SCAN_LINE.finditer(plan.display_indent())}
    return any(name in scanned or name.removeprefix("public.") in scanned for name in names)


def readings(plan: LogicalPlan, schemas: Mapping[str, pa.Schema]) -> tuple[Reading, ...] | None:
    """Each scan of a table in `schemas` (names `schema.table`) in an optimised plan.

    None if the plan reads more than its nodes show: an EXISTS inside a projection stays an expression, whose plan
    the binding does not give out. The text of the plan shows it, so the scans there are counted.
    """
    found = tuple(_walk(plan, None, schemas))
    return found if len(found) == len(_SCAN_LINE.findall(plan.display_indent())) else None


def _walk(plan: LogicalPlan, condition: Expr | None, schemas: Mapping[str, pa.Schema]) -> Iterator[Reading]:
    node = plan.to_variant()
    if isinstance(node, nodes.TableScan):
        yield _reading(node, condition, schemas)
    below = Expr(node.predicate()) if isinstance(node, nodes.Filter) else None
    for child in plan.inputs():
        yield from _walk(child, below, schemas)


def _reading(node: "nodes.TableScan", condition: Expr | None, schemas: Mapping[str, pa.Schema]) -> Reading:
    _, schema, table = node.fqn()
    name = f"{schema or 'public'}.{table}"
    columns = tuple(column for _, column in node.projection()) or _narrowest(schemas.get(name))
    plain = expression_of(condition) if condition is not None else None
    return Reading(node.table_name(), Scan(name, columns, plain, node.fetch()), condition)


def _narrowest(schema: pa.Schema | None) -> tuple[str, ...] | None:
    """One column for a scan that only counts rows: a source can't be asked for none."""
    return (schema.names[0],) if schema is not None and schema.names else None


def conditions_elsewhere(plan: LogicalPlan) -> frozenset[str]:
    """The words of all conditions in an optimised plan that are not right above a scan, those of joins among them.

    A column that has another name there counts under its first one as well.
    """
    conditions, renamed = set[str](), dict[str, set[str]]()
    _gather(plan, conditions, renamed)
    todo = list(conditions)
    while todo:
        more = renamed.pop(todo.pop(), set()) - conditions
        conditions |= more
        todo += more
    return frozenset(conditions)


def _gather(plan: LogicalPlan, conditions: set[str], renamed: dict[str, set[str]]) -> None:
    node = plan.to_variant()
    match node:
        case nodes.Join():
            for condition in (*(side for pair in node.on() for side in pair), node.filter()):
                conditions |= words_of(Expr(condition).canonical_name()) if condition is not None else frozenset()
        case nodes.Filter() if not isinstance(plan.inputs()[0].to_variant(), nodes.TableScan):
            conditions |= words_of(Expr(node.predicate()).canonical_name())
        case nodes.Projection():
            for column in map(Expr, node.projections()):
                if isinstance(alias := variant_of(column), nodes.Alias):
                    renamed.setdefault(alias.alias(), set()).update(words_of(column.canonical_name()))
    for child in plan.inputs():
        _gather(child, conditions, renamed)
