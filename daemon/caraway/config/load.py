"""A spicepod file as a `Spicepod`, or every problem in it at once (reference/spicepod.md 1)."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from caraway.config.connectors import read_from
from caraway.config.dataset import read_dataset, read_view
from caraway.config.document import override, read_document
from caraway.config.model import (
    LOCALPOD,
    Acceleration,
    CatalogDecl,
    Dataset,
    RefreshMode,
    SecretStoreDecl,
    Spicepod,
    View,
)
from caraway.config.nodes import Findings, did_you_mean
from caraway.config.runtime import read_runtime
from caraway.config.section import Section
from caraway.core.names import parse_dataset_name
from caraway.errors import ConfigError, ConfigProblem
from caraway.secrets import ANY_STORE, AVAILABLE

T = TypeVar("T")

FILE_NAMES = ("spicepod.yaml", "spicepod.yml")
_OUT_OF_SCOPE = (
    "models",
    "embeddings",
    "evals",
    "tools",
    "workers",
    "functions",
    "rerankers",
    "management",
    "snapshots",
    "extensions",
)
_STORE_PARAMS = {"env": ("file_path",), "file": ("path",)}
_LATER_STORES = ("kubernetes", "keyring", "aws-secrets-manager", "aws_secrets_manager", "vault")


def load(path: Path, runtime_overrides: Sequence[str] = ()) -> Spicepod:
    """The pod in a file, or in a directory's spicepod.yaml or spicepod.yml; ConfigError holds every problem.

    `runtime_overrides` are `key.subkey=value` texts that replace values below `runtime:`.
    """
    file = pod_file(path)
    root = read_document(file)
    for assignment in runtime_overrides:
        root = override(root, assignment)
    findings = Findings()
    pod = _read_pod(Section(root, "", findings), file.parent)
    findings.finish()
    return replace(pod, warnings=tuple(findings.warnings))


def pod_file(path: Path) -> Path:
    """The file that a path stands for; ConfigError where there is none."""
    if not os.path.isdir(path):  # noqa: PTH112  see _first_file
        return path
    found = _first_file(path, FILE_NAMES)
    if found is None:
        raise ConfigError(ConfigProblem(f"there is no {' or '.join(FILE_NAMES)} in this directory", file=path))
    return found


def _first_file(folder: Path, names: Sequence[str]) -> Path | None:
    # os.path and not Path.is_file, which raises for a name that is too long or a folder that is closed to us.
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)  # noqa: PTH113


def _read_pod(root: Section, directory: Path) -> Spicepod:
    root.out_of_scope(*_OUT_OF_SCOPE)
    pod = Spicepod(
        version=_version(root),
        name=_kind_and_name(root),
        directory=directory,
        runtime=read_runtime(root.section("runtime")),
        secrets=_stores(root),
        datasets=_with_keys_of_parents(_components(root, "datasets", "dataset", read_dataset)),
        views=_components(root, "views", "view", read_view),
        catalogs=tuple(_catalog(item) for item in root.items("catalogs")),
        dependencies=root.texts("dependencies"),
        metadata=root.free("metadata"),
    )
    if root.has("catalogs"):
        root.warn("catalogs", "catalogs are not available in this version; their tables are missing")
    if pod.dependencies:
        root.warn("dependencies", "other pods are not loaded in this version")
    root.close()
    root.findings.check_references(store.name for store in pod.secrets)
    cached = [dataset.name for dataset in pod.datasets if _is_cached(dataset)]
    accelerated = [dataset.name for dataset in pod.datasets if dataset.acceleration is not None]
    root.findings.check_parents(accelerated, cached=cached)
    _check_revalidation(root, pod)
    _check_warm_up(root, pod)
    _check_depends_on(root, pod)
    return pod


def _version(root: Section) -> str:
    version = root.required_text("version")
    if version == "v1beta1":
        root.problem("version", "v1beta1 is no longer supported; write v2 and adapt the keys that changed")
    elif version and version not in ("v1", "v2"):
        root.problem("version", f"unknown version {version!r}; allowed: v1, v2")
    return version


def _kind_and_name(root: Section) -> str:
    kind = root.required_text("kind")
    if kind and kind != "Spicepod":
        root.problem("kind", f"found {kind!r}, expected Spicepod")
    return root.required_text("name")


def _stores(root: Section) -> tuple[SecretStoreDecl, ...]:
    stores: dict[str, SecretStoreDecl] = {}
    for item in root.items("secrets"):
        store = _store(item)
        if store.name in stores:
            item.problem("name", f"the secret store {store.name!r} stands here twice")
        stores[store.name] = store
    return tuple(stores.values()) or (SecretStoreDecl("env", "env"),)


def _store(section: Section) -> SecretStoreDecl:
    kind, _, selector = section.required_text("from").partition(":")
    name = section.text("name", kind)
    if kind in _LATER_STORES:
        section.problem("from", f"the secret store {kind!r} is not available in this version; {_available()}")
    elif kind and kind not in AVAILABLE:
        section.problem("from", f"there is no secret store {kind!r}; {_available()}")
    if name == ANY_STORE:
        section.problem("name", f"{ANY_STORE!r} stands for all stores; choose another name")
    section.text("description")
    params = section.scalars("params")
    _check_store_params(section, kind, selector)
    section.close()
    return SecretStoreDecl(name, kind, selector, {"path": selector, **params} if selector else params)


def _check_store_params(section: Section, kind: str, selector: str) -> None:
    """`file:/folder` is a short form of `params.path`; no other store takes anything after the colon."""
    if kind == "env" and selector:
        section.problem("from", "the env store takes nothing after its name")
    params = section.section("params")
    known = _STORE_PARAMS.get(kind, params.names())
    for name in params.names():
        if name not in known:
            params.problem(name, f"the {kind} store does not know this parameter{did_you_mean(name, known)}")


def _available() -> str:
    return f"available: {', '.join(AVAILABLE)}"


def _catalog(section: Section) -> CatalogDecl:
    for key in ("include", "exclude", "dependsOn"):
        section.texts(key)
    section.text("description")
    section.word("access", "read", "read_write", "read_write_create")
    section.free("metadata")
    section.scalars("dataset_params")
    catalog = CatalogDecl(section.required_text("name"), read_from(section), section.scalars("params"))
    section.close()
    return catalog


def _components(root: Section, key: str, file: str, read: Callable[[Section, tuple[str, ...]], T]) -> tuple[T, ...]:
    """Inline definitions, and those that `ref:` finds in a directory's `dataset.yaml` or `view.yaml`."""
    return tuple(component for item in root.items(key) for component in _component(item, file, read))


def _component(item: Section, file: str, read: Callable[[Section, tuple[str, ...]], T]) -> list[T]:
    ref = item.optional_text("ref")
    if ref is None:
        return [read(item, ())]
    depends_on = item.texts("dependsOn")
    item.close()
    folder = Path(item.node.start_mark.name).parent / ref
    try:
        path = _first_file(folder, (f"{file}.yaml", f"{file}.yml"))
        if path is None:
            item.problem("ref", f"there is no {file}.yaml or {file}.yml in {folder}")
            return []
        return [read(Section(read_document(path), item.key, item.findings), depends_on)]
    except ConfigError as error:
        item.findings.problems += error.problems
        return []


def _with_keys_of_parents(datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    """A copy of a dataset of this pod has its primary key, unless it sets one, adds rows only, or lacks its columns."""
    by_name = {dataset.name: dataset for dataset in datasets}
    return tuple(_with_key_of_parent(dataset, by_name) for dataset in datasets)


def _with_key_of_parent(child: Dataset, datasets: Mapping[str, Dataset]) -> Dataset:
    keys, ancestor = child.acceleration, child
    if keys is None or keys.primary_key or not child.follows or keys.refresh_mode is RefreshMode.APPEND:
        return child
    for _ in datasets:
        parent = datasets.get(_canonical(ancestor.from_.path)) if ancestor.from_.connector == LOCALPOD else None
        if parent is None or parent.acceleration is None:
            return child
        if parent.acceleration.primary_key:
            return _with_key(child, keys, parent.acceleration.primary_key)
        ancestor = parent
    return child


def _with_key(child: Dataset, keys: Acceleration, primary_key: tuple[str, ...]) -> Dataset:
    selected = keys.refresh_sql.columns if keys.refresh_sql is not None else None
    if selected is not None and not set(primary_key) <= set(selected):
        return child
    return replace(child, acceleration=replace(keys, primary_key=primary_key))


def _check_revalidation(root: Section, pod: Spicepod) -> None:
    """Two layers that revalidate the same rows would hide each other's staleness (reference/spicepod.md 3.1)."""
    results = pod.runtime.sql_results
    if not results.enabled or results.stale_while_revalidate_ttl == 0:
        return
    for dataset in pod.datasets:
        if dataset.acceleration is not None and dataset.acceleration.caching.stale_while_revalidate > 0:
            root.section("runtime").section("caching").section("sql_results").problem(
                "stale_while_revalidate_ttl",
                f"the dataset {dataset.name!r} sets caching_stale_while_revalidate_ttl too; use one of them",
            )


def _is_cached(dataset: Dataset) -> bool:
    """Whether no localpod can follow it: the rows of caching mode belong to those who asked for them."""
    return dataset.acceleration is not None and dataset.acceleration.refresh_mode is RefreshMode.CACHING


def _check_warm_up(root: Section, pod: Spicepod) -> None:
    """What is fetched unasked belongs to nobody's key, and no key sees the rows of another."""
    if pod.runtime.auth is None or not pod.runtime.auth.enabled:
        return
    for dataset in pod.datasets:
        keys = dataset.acceleration
        if keys is not None and keys.refresh_mode is RefreshMode.CACHING and keys.refresh_sql is not None:
            reason = "each API key has its own rows"
            root.warn("datasets", f"the refresh_sql of {dataset.name!r} warms its cache for nobody: {reason}")


def _check_depends_on(root: Section, pod: Spicepod) -> None:
    components: tuple[Dataset | View, ...] = (*pod.datasets, *pod.views)
    names = {component.name for component in components}
    for component in components:
        for name in component.depends_on:
            if _canonical(name) not in names:
                hint = did_you_mean(name, names)
                root.warn("datasets", f"{component.name!r} depends on {name!r}, which is not in this pod{hint}")


def _canonical(name: str) -> str:
    try:
        return parse_dataset_name(name)
    except ValueError:
        return name
