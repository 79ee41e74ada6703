"""`datasets:` and `views:` (reference/spicepod.md 4, 7)."""

from pathlib import Path

from caraway.config.acceleration import Subject, read_acceleration
from caraway.config.connectors import TYPE_ACTION_CONNECTORS, check_params, read_from
from caraway.config.model import (
    LOCALPOD,
    STREAMS_ONLY,
    Acceleration,
    Access,
    ColumnDecl,
    Dataset,
    OnSchemaChange,
    ReadyState,
    RefreshMode,
    View,
)
from caraway.config.rules import VIEW
from caraway.config.section import Section
from caraway.core.endpoint import parse_endpoint
from caraway.core.names import parse_dataset_name
from caraway.errors import ConfigError
from caraway.model import TimeColumn, TimeFormat

_TIME_FORMATS = {form.value: form for form in TimeFormat} | {"iso8601": TimeFormat.ISO8601}
_ACCESS = {access.value: access for access in Access}
_OUT_OF_SCOPE = ("embeddings", "vectors", "full_text_search", "drasi")
_ENDPOINTS = ("spiceai_endpoint", "spiceai_flight_endpoint")
_LATER = ("has_metadata_table", "check_availability", "metrics")


def read_dataset(section: Section, depends_on: tuple[str, ...] = ()) -> Dataset:
    """One dataset; what is wrong in it is noted in the section's findings."""
    from_ = read_from(section)
    name = _name(section)
    section.out_of_scope(*_OUT_OF_SCOPE)
    section.without_effect(*_LATER)
    check_params(section, from_.connector)
    time_column = _time_column(section, "time_column", "time_format")
    block = section.section("acceleration")
    acceleration = read_acceleration(block, Subject(name, from_.connector, time_column)) if block.present else None
    dataset = Dataset(
        name=name,
        from_=from_,
        description=section.text("description"),
        metadata=section.free("metadata"),
        columns=read_columns(section, needed=from_.connector in ("memory", *STREAMS_ONLY)),
        access=_access(section),
        params=section.scalars("params"),
        time_column=time_column,
        time_partition_column=_time_column(section, "time_partition_column", "time_partition_format"),
        acceleration=_effective(acceleration, from_.connector),
        has_metadata_table=section.flag("has_metadata_table", False),
        unsupported_type_action=_type_action(section, from_.connector),
        ready_state=_ready_state(section, block),
        on_schema_change=section.member("on_schema_change", OnSchemaChange.BLOCK),
        replication_enabled=_replication(section.section("replication")),
        check_availability=section.word("check_availability", "auto", "disabled"),
        check_availability_interval=section.duration("check_availability_interval"),
        depends_on=depends_on + section.texts("dependsOn"),
        metrics=section.switches("metrics"),
    )
    _check(section, dataset, acceleration)
    section.close()
    return dataset


def read_view(section: Section, depends_on: tuple[str, ...] = ()) -> View:
    """One view; `sql_ref` is read here, relative to the file that names it."""
    name = _name(section)
    block = section.section("acceleration")
    acceleration = read_acceleration(block, Subject(name, VIEW)) if block.present else None
    view = View(
        name=name,
        sql=_sql(section),
        description=section.text("description"),
        metadata=section.free("metadata"),
        columns=read_columns(section),
        acceleration=_effective(acceleration, VIEW),
        ready_state=_ready_state(section, block),
        depends_on=depends_on + section.texts("dependsOn"),
    )
    section.close()
    return view


def read_columns(section: Section, *, needed: bool = False) -> tuple[ColumnDecl, ...]:
    """`columns:`; a name that stands twice is a problem, and a type that is missing though `needed`, or unknown."""
    columns: dict[str, ColumnDecl] = {}
    for item in section.items("columns"):
        item.out_of_scope("embeddings", "full_text_search")
        column = ColumnDecl(
            name=item.required_text("name"),
            type=item.optional_text("type"),
            description=item.text("description"),
            metadata=item.free("metadata"),
        )
        item.close()
        _check_type(item, column, needed=needed)
        if column.name in columns:
            item.problem("name", f"the column {column.name!r} stands here twice")
        columns[column.name] = column
    return tuple(columns.values())


def _check_type(item: Section, column: ColumnDecl, *, needed: bool) -> None:
    from caraway.config.sqltypes import field_of

    if column.type is None and not needed:
        return
    try:
        field_of(column)
    except ValueError as error:
        item.problem("type", str(error))


def _name(section: Section) -> str:
    name = section.parsed("name", parse_dataset_name, "") if section.required_text("name") else ""
    owner = section.findings.claim(name, section.key) if name else None
    if owner is not None:
        section.problem("name", f"the name {name!r} is taken by {owner}")
    return name


def _time_column(section: Section, key: str, format_key: str) -> TimeColumn | None:
    name = section.optional_text(key)
    form = section.choice(format_key, _TIME_FORMATS, TimeFormat.TIMESTAMP)
    if name is None and section.has(format_key):
        section.warn(format_key, f"this has no effect without {key}")
    return TimeColumn(name, form) if name else None


def _access(section: Section) -> Access:
    if not section.has("mode"):
        return section.choice("access", _ACCESS, Access.READ)
    if section.has("access"):
        section.problem("mode", "this is another name of access, which is there too")
    section.warn("mode", "this is an older name of access")
    return section.choice("mode", _ACCESS, Access.READ)


def _type_action(section: Section, connector: str) -> str:
    new, old = "unsupported_type_action", "invalid_type_action"
    if section.has(old):
        section.warn(old, f"this key is deprecated; use {new}")
    key = new if section.has(new) or not section.has(old) else old
    words = ("error", "warn", "ignore", "string") if key == new else ("error", "warn", "ignore")
    if section.has(key) and connector not in TYPE_ACTION_CONNECTORS:
        section.problem(key, f"the {connector} connector has no types to act on; remove this key")
    section.word(old, "error", "warn", "ignore")
    return section.word(key, *words)


def _replication(section: Section) -> bool:
    enabled = section.flag("enabled", False)
    section.close()
    return enabled


def _ready_state(section: Section, block: Section) -> ReadyState:
    """The deprecated key inside `acceleration` wins where it is set (reference/spicepod.md 5)."""
    if not block.has("ready_state"):
        return section.member("ready_state", ReadyState.ON_LOAD)
    block.warn("ready_state", "this key is deprecated here; put it beside acceleration")
    section.member("ready_state", ReadyState.ON_LOAD)
    return block.member("ready_state", ReadyState.ON_LOAD)


def _effective(acceleration: Acceleration | None, connector: str) -> Acceleration | None:
    """None where the source answers; a `memory:` dataset always has a store."""
    if connector == "memory":
        return acceleration or Acceleration(refresh_mode=RefreshMode.DISABLED)
    return acceleration if acceleration is not None and acceleration.enabled else None


def _check(section: Section, dataset: Dataset, acceleration: Acceleration | None) -> None:
    if dataset.from_.connector == LOCALPOD:
        _check_parent(section, dataset)
    if dataset.from_.connector == "spice.ai":
        _check_upstream(section, dataset)
    if dataset.from_.connector == "memory":
        _check_memory(section, dataset, acceleration)
    if dataset.from_.connector in STREAMS_ONLY:
        _check_streamed(section, dataset)
    if dataset.check_availability_interval is not None:
        where = "on an accelerated dataset" if dataset.acceleration is not None else "in this version"
        section.warn("check_availability_interval", f"this has no effect {where}")
    if dataset.access is Access.READ_WRITE and dataset.from_.connector != "memory":
        section.problem("access", f"the {dataset.from_.connector} connector is read-only; only memory: is written to")


def _check_upstream(section: Section, dataset: Dataset) -> None:
    """Warn of a URL that the connector will refuse; one with a reference to a secret is not complete yet."""
    for place, key, url in (
        (section, "from", dataset.from_.path),
        *((section.section("params"), key, dataset.params.get(key, "")) for key in _ENDPOINTS),
    ):
        if "://" in url and "${" not in url:
            try:
                parse_endpoint(url, key)
            except ConfigError as error:
                place.warn(key, f"the dataset will be in Error: {error.problems[0].message}")


def _check_parent(section: Section, dataset: Dataset) -> None:
    try:
        parent = parse_dataset_name(dataset.from_.path)
    except ValueError as error:
        section.problem("from", str(error))
        return
    place = section.node_of("from") or section.node
    section.findings.follow(place, section.path("from"), child=dataset.name, parent=parent)


def _check_memory(section: Section, dataset: Dataset, acceleration: Acceleration | None) -> None:
    if acceleration is not None and not acceleration.enabled:
        section.problem("acceleration", "a memory: dataset is nothing but its acceleration; it can't be disabled")
    if not dataset.columns:
        section.problem("columns", "a memory: dataset declares its columns, each with a name and a type")
    else:
        _check_declared(section, dataset)


def _check_streamed(section: Section, dataset: Dataset) -> None:
    """What tells no schema and can't be asked."""
    if dataset.acceleration is None:
        section.problem("acceleration", "a WebSocket tells what happens and can't be asked: add an acceleration")
    if not dataset.columns:
        section.problem("columns", "a WebSocket tells no schema: declare the columns, each with a name and a type")
    else:
        _check_declared(section, dataset)


def _check_declared(section: Section, dataset: Dataset) -> None:
    """The columns that keys refer to, where the schema is known already."""
    declared = [column.name for column in dataset.columns]
    found = dataset.acceleration or Acceleration()
    block = section.section("acceleration")
    indexed = tuple(name for index in found.indexes for name in index.columns)
    timed = (dataset.time_column.name,) if dataset.time_column else ()
    for place, key, what, names in (
        (block, "primary_key", "Primary key column", found.primary_key),
        (block, "indexes", "Column for index", indexed),
        (section, "time_column", "Time column", timed),
    ):
        for name in names:
            if name not in declared:
                valid = ", ".join(declared)
                place.problem(key, f"{what} '{name}' was not found in the schema. Valid columns: {valid}")


def _sql(section: Section) -> str:
    if section.has("sql") == section.has("sql_ref"):
        section.problem("sql", "exactly one of sql and sql_ref is needed")
    path = section.optional_text("sql_ref")
    if path is None:
        return section.text("sql")
    file = Path(section.node.start_mark.name).parent / path
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not a text file"
        section.problem("sql_ref", f"{file} can't be read: {cause}")
        return ""
