"""Which engines there are and the parameters that each one honours; one it can't honour is an error."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from caraway.config.model import Caching, Engine, RefreshMode
from caraway.config.nodes import did_you_mean
from caraway.config.section import Section
from caraway.core.duration import parse_duration


@dataclass(frozen=True, slots=True)
class EngineParams:
    """`own` are those that the engine itself reads."""

    own: Mapping[str, str]
    acceptable_lag: float | None
    query_federation: bool


LATER = ("duckdb", "postgres", "turso")
"""Engines that the Spice runtime has and this version does not."""

_CACHING = (
    "caching_ttl",
    "caching_item_ttl",
    "caching_stale_while_revalidate_ttl",
    "caching_stale_if_error",
    "caching_max_size",
    "caching_max_items",
)
_TUNING = """
    cdc_prefetch_buffer cdc_max_coalesce_age_ms cdc_max_coalesced_envelopes cdc_max_coalesced_bytes
    cdc_delete_subbatch_max cdc_durability hash_index
"""
_STREAM_TUNING = frozenset(_TUNING.split())
"""Tuning of another implementation: harmless to ignore, so a warning is enough."""
_COMMON = ("acceptable_lag", "query_federation")
_OWN: Mapping[Engine, tuple[str, ...]] = {
    Engine.ARROW: (),
    Engine.SQLITE: ("sqlite_file",),
    Engine.PARQUET: (
        "parquet_compression",
        "parquet_row_group_rows",
        "parquet_part_rows",
        "parquet_tail_rows",
        "parquet_tail_age",
    ),
}
"""The values are checked where they are used."""


def read_engine(section: Section) -> Engine:
    """`engine:`, with `cayenne` for parquet."""

    def parse(text: str) -> Engine:
        if text in LATER:
            raise ValueError(f"the acceleration engine {text!r} is not available in this version; {_available()}")
        known = {engine.value: engine for engine in Engine} | {"cayenne": Engine.PARQUET}
        if text not in known:
            raise ValueError(f"Unknown acceleration engine {text!r}; {_available()}{did_you_mean(text, known)}")
        return known[text]

    if section.optional_text("engine") == "cayenne":
        section.warn("engine", "engine cayenne means parquet here", once="cayenne")
    return section.parsed("engine", parse, Engine.ARROW)


def read_params(section: Section, engine: Engine) -> EngineParams:
    """`acceleration.params`; a parameter that the engine does not know is a problem, as its promise can't be kept."""
    params = section.section("params")
    params.without_effect("query_federation")
    own = _OWN[engine]
    known = (*own, *_COMMON, *_CACHING)
    for name in params.names():
        if name in _STREAM_TUNING or name.startswith("cayenne_"):
            params.warn(name, "this has no effect here")
        elif name not in known:
            params.problem(name, f"the {engine.value} engine does not know this parameter{did_you_mean(name, known)}")
    return EngineParams(
        {name: params.text(name) for name in own if params.has(name)},
        params.parsed("acceptable_lag", _acceptable_lag, None),
        params.word("query_federation", "enabled", "disabled") == "enabled",
    )


def read_caching(section: Section, mode: RefreshMode) -> Caching:
    """The `caching_*` of `acceleration.params`."""
    params = section.section("params")
    if mode is not RefreshMode.CACHING:
        for name in _CACHING:
            if params.has(name):
                params.problem(name, "this needs refresh_mode: caching")
    return Caching(
        ttl=_ttl(params),
        stale_while_revalidate=_text_duration(params, "caching_stale_while_revalidate_ttl") or 0.0,
        stale_if_error=params.parsed("caching_stale_if_error", _stale_if_error, 0.0),
        max_size=params.size("caching_max_size"),
        max_items=params.integer("caching_max_items"),
    )


def _ttl(params: Section) -> float:
    ttl, item_ttl = (_text_duration(params, name) for name in ("caching_ttl", "caching_item_ttl"))
    if ttl is not None and item_ttl is not None and ttl != item_ttl:
        params.problem("caching_item_ttl", "this is another name of caching_ttl, which says something else")
    return ttl if ttl is not None else item_ttl or 0.0


def _acceptable_lag(text: str) -> float:
    if text == "off":
        return math.inf
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"error parsing acceptable_lag as duration: {error}; or off, for any lag") from error
    if seconds == 0:
        raise ValueError("this must be greater than zero; off accepts any lag")
    return seconds


def _text_duration(params: Section, name: str) -> float | None:
    if params.is_bare_number(name):
        found = params.text(name)
        params.problem(name, f"Invalid '{name}' param value: Int({found}). Expected a duration string.")
        return None
    return params.duration(name)


def _stale_if_error(text: str) -> float:
    word = text.lower()
    if word in ("enabled", "disabled"):
        return math.inf if word == "enabled" else 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"found {text!r}, expected enabled, disabled or a duration") from error


def _available() -> str:
    return f"available: {', '.join(engine.value for engine in Engine)}"
