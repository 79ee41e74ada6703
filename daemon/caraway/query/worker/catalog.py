"""The names that SQL can use, in two guises: empty tables to plan with, and one query's real ones to run on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import CatalogProvider, SchemaProvider, Table

from caraway.errors import QueryError
from caraway.model import Catalog, TableInfo
from caraway.query.worker.failures import not_ready
from caraway.query.worker.tables import memory_table

CATALOG = "spice"
SCHEMA = "public"


def qualified(name: str) -> str:
    """`t` and `s.t` as `schema.table`."""
    return name if "." in name else f"{SCHEMA}.{name}"


@dataclass(frozen=True, slots=True)
class View:
    """`reads` are the qualified names of what its SQL mentions."""

    sql: str
    table: Table
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class Names:
    """A catalog in the form that planning needs; keys are qualified names, views come after what they read."""

    version: int
    infos: Mapping[str, TableInfo] = field(default_factory=dict)
    schemas: Mapping[str, pa.Schema] = field(default_factory=dict)
    empty: Mapping[str, Table] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Views that can't be planned, and why."""
    pending: frozenset[str] = frozenset()
    """Datasets whose columns are not known yet."""

    def table(self, name: str) -> Table | None:
        if name in self.pending:
            raise not_ready(name.removeprefix(f"{SCHEMA}."))
        if name in self.broken:
            raise QueryError(f"View {name!r} can't be planned: {self.broken[name]}")
        view = self.views.get(name)
        return view.table if view is not None else self.empty.get(name)

    def __iter__(self) -> Iterator[str]:
        yield from self.empty
        yield from self.views

    def reached(self, names: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tables, and the views in order of dependence, that `names` lead to."""
        reached = set(names)
        for name, view in reversed(tuple(self.views.items())):
            if name in reached:
                reached |= view.reads
        return (
            tuple(name for name in self.empty if name in reached),
            tuple(name for name in self.views if name in reached),
        )


class Namespace(CatalogProvider):  # type: ignore[misc]
    """A DataFusion catalog over `Names`: what one query put in place hides the rest; remembers what was looked up.

    One query uses it at a time.
    """

    def __init__(self) -> None:
        self.names = Names(version=-1)
        self.real: dict[str, Table] = {}
        self.looked_up: set[str] = set()

    def reset(self, names: Names) -> None:
        self.names, self.real, self.looked_up = names, {}, set()

    def table(self, name: str) -> Table | None:
        self.looked_up.add(name)
        return self.real.get(name) or self.names.table(name)

    def schema_names(self) -> set[str]:
        return {SCHEMA, *(name.partition(".")[0] for name in (*self.names, *self.names.pending))}

    def schema(self, name: str) -> "Folder | None":
        return Folder(self, name) if name in self.schema_names() else None


class Folder(SchemaProvider):  # type: ignore[misc]
    """One schema of a Namespace."""

    def __init__(self, space: Namespace, name: str) -> None:
        self._space = space
        self._prefix = f"{name}."

    @property
    def table_names(self) -> list[str]:
        # The binding reads a sequence off an attribute where its base class declares a method (datafusion 55).
        return [name.removeprefix(self._prefix) for name in self._space.names if name.startswith(self._prefix)]

    def table(self, name: str) -> Table | None:
        return self._space.table(self._prefix + name)

    def table_exist(self, name: str) -> bool:
        qualified_name = self._prefix + name
        names = self._space.names
        return any(qualified_name in some for some in (names.empty, names.views, names.broken, names.pending))


def load(catalog: Catalog, context: SessionContext, space: Namespace) -> Names:
    """`Names` of a catalog, planned in `context`, whose catalog is `space`."""
    infos = {qualified(info.name): info for info in catalog.tables}
    schemas = {name: pa.ipc.read_schema(pa.py_buffer(info.schema)) for name, info in infos.items()}
    empty = {name: memory_table(schema, [[]]) for name, schema in schemas.items()}
    pending = frozenset(map(qualified, catalog.pending))
    names = Names(catalog.version, infos, schemas, empty, pending=pending)
    todo = {qualified(view.name): view.sql for view in catalog.views}
    while todo:
        views, broken = _plan_views(todo, names, context, space)
        names = replace(names, views={**names.views, **views}, broken=broken)
        todo = {name: sql for name, sql in todo.items() if name in broken} if views else {}
    return names


def _plan_views(
    todo: Mapping[str, str], names: Names, context: SessionContext, space: Namespace
) -> tuple[dict[str, View], dict[str, str]]:
    """Those of the views that can be planned over `names`, and why the others can't."""
    views: dict[str, View] = {}
    broken: dict[str, str] = {}
    names = replace(names, broken={})
    for name, sql in todo.items():
        space.reset(names)
        try:
            table = context.sql(sql).into_view()
        except Exception as error:  # noqa: BLE001 - the binding raises bare Exception; the view is reported when named
            broken[name] = str(error)
        else:
            views[name] = View(sql, table, frozenset(space.looked_up))
    return views, broken
