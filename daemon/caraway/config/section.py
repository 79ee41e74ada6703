"""Reading one mapping of a file key by key, noting every mistake and going on."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import TypeVar

import yaml

from caraway.config.nodes import FLAGS, INTEGER, Findings, describe, did_you_mean, is_null, kind_of, plain_of
from caraway.core.duration import parse_duration
from caraway.core.size import parse_size

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class Section:
    """One mapping. Each getter marks its key as known, notes what is wrong and then gives the default.

    `close()` reports the keys that no getter asked for.
    """

    def __init__(self, node: yaml.Node, key: str, findings: Findings, *, present: bool = True) -> None:
        self.node = node
        self.key = key
        self.findings = findings
        self.present = present
        self._known: set[str] = set()
        self._pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            self._index(node)
        elif not is_null(node):
            self.findings.problem(node, key, f"found {describe(node)} where keys and values are expected")

    # --- what is there

    def path(self, key: str) -> str:
        shown = key if key.isprintable() else ascii(key)
        return f"{self.key}.{shown}" if self.key else shown

    def names(self) -> tuple[str, ...]:
        return tuple(self._pairs)

    def node_of(self, key: str) -> yaml.Node | None:
        """The value's node, None where the key is missing or null."""
        self._known.add(key)
        pair = self._pairs.get(key)
        return None if pair is None or is_null(pair[1]) else pair[1]

    def has(self, key: str) -> bool:
        return self.node_of(key) is not None

    def is_empty(self, key: str) -> bool:
        """Whether nothing stands there: no key, null, empty text, list or map."""
        node = self.node_of(key)
        return node is None or not node.value

    # --- what is wrong

    def problem(self, key: str, message: str) -> None:
        """Note a problem at the value of `key`, or else at the key, or else at the mapping."""
        self.findings.problem(self._place(key), self.path(key) if key else self.key, message)

    def warn(self, key: str, message: str, *, once: str = "") -> None:
        self.findings.warn(self._place(key), self.path(key) if key else self.key, message, once=once)

    def out_of_scope(self, *keys: str) -> None:
        """Accept sections that caraway has no use for; each kind gets one warning."""
        for key in keys:
            if self.has(key):
                kind = re.sub(r"\[\d+\]", "[]", self.path(key))
                self.warn(key, "this section is out of scope here and is ignored", once=kind)

    def without_effect(self, *keys: str) -> None:
        """Say of keys that are read and checked that nothing follows from them yet."""
        for key in keys:
            if self.has(key):
                self.warn(key, "this has no effect in this version")

    def close(self, *, strict: bool = True) -> None:
        """Report unknown keys: as problems, or as warnings where the Spice runtime lets them pass."""
        for key, (node, _) in self._pairs.items():
            if key not in self._known:
                message = f"unknown key{did_you_mean(key, self._known)}"
                note = self.findings.problem if strict else self.findings.warn
                note(node, self.path(key), message)

    # --- getters

    def parsed(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """The scalar's text through `parse`, whose ValueError becomes a problem."""
        node = self.node_of(key)
        text = self._scalar(node, self.path(key)) if node is not None else None
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.problem(key, str(error))
            return default

    def text(self, key: str, default: str = "") -> str:
        return self.parsed(key, str, default)

    def optional_text(self, key: str) -> str | None:
        return self.parsed(key, _text_or_none, None)

    def required_text(self, key: str) -> str:
        """Text that must be there and not be empty; "" after noting that it is not."""
        value = self.text(key)
        if key not in self._pairs:
            self.problem("", f"missing field `{key}`")
        elif self.is_empty(key):
            self.problem(key, "this can't be empty")
        return value

    def flag(self, key: str, default: bool) -> bool:
        node = self.node_of(key)
        if node is None:
            return default
        if kind_of(node) == "boolean":
            return FLAGS[node.value]
        self.problem(key, f"found {describe(node)}, expected true or false")
        return default

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int | None:
        """A whole number, also as quoted text."""

        def parse(text: str) -> int:
            if not INTEGER.fullmatch(text) or int(text) < least:
                raise ValueError(f"found {text!r}, expected a whole number of at least {least}")
            return int(text)

        return self.parsed(key, parse, default)

    def duration(self, key: str, default: float | None = None, *, least: float = 0.0) -> float | None:
        """Seconds."""

        def parse(text: str) -> float:
            seconds = parse_duration(text)
            if seconds < least:
                raise ValueError(f"{text!r} is too short; at least {least:g} seconds are needed")
            return seconds

        return self.parsed(key, _naming(key, "duration", parse), default)

    def seconds(self, key: str, default: float, *, least: float = 0.0, positive: bool = False) -> float:
        """A duration that has a default."""
        value = self.duration(key, default, least=least)
        if positive and value == 0:
            self.problem(key, "this must be greater than zero")
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int | None:
        """Bytes."""
        return self.parsed(key, _naming(key, "size", parse_size), default)

    def choice(self, key: str, allowed: Mapping[str, T], default: T) -> T:
        """One of the words, as written."""

        def parse(text: str) -> T:
            if text not in allowed:
                raise ValueError(f"found {text!r}, allowed: {', '.join(allowed)}{did_you_mean(text, allowed)}")
            return allowed[text]

        return self.parsed(key, parse, default)

    def member(self, key: str, default: E) -> E:
        """A member of the default's Enum, by its value."""
        return self.choice(key, {str(member.value): member for member in type(default)}, default)

    def word(self, key: str, *allowed: str) -> str:
        """One of the words; the first is the default."""
        return self.choice(key, {word: word for word in allowed}, allowed[0])

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of scalars."""
        found = (self._scalar(node, place) for place, node in self._elements(key))
        return tuple(text for text in found if text is not None)

    def items(self, key: str) -> list["Section"]:
        """A list of mappings."""
        return [Section(node, place, self.findings) for place, node in self._elements(key)]

    def section(self, key: str) -> "Section":
        """The mapping below; an empty one where there is none, so that its defaults can be read."""
        node = self.node_of(key)
        if node is None:
            nothing = yaml.MappingNode("tag:yaml.org,2002:map", [], self.node.start_mark, self.node.end_mark)
            return Section(nothing, self.path(key), self.findings, present=False)
        return Section(node, self.path(key), self.findings)

    def scalars(self, key: str) -> Mapping[str, str]:
        """A free map of scalars (params, headers); null values are left out."""
        below = self.section(key)
        found = {name: below.optional_text(name) for name in below.names()}
        return {name: text for name, text in found.items() if text is not None}

    def free(self, key: str) -> Mapping[str, str]:
        """A free map of anything; what is not a scalar is carried as JSON text."""
        below = self.section(key)
        return {name: below.anything(name) for name in below.names()}

    def anything(self, key: str) -> str:
        node = self.node_of(key)
        if node is None:
            return ""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, self.path(key)) or ""
        try:
            return json.dumps(plain_of(node), ensure_ascii=False)
        except ValueError as error:
            self.problem(key, str(error))
            return ""

    def switches(self, key: str) -> Mapping[str, bool]:
        """A list of `{name, enabled}`, enabled unless it says otherwise, by name."""
        found: dict[str, bool] = {}
        for item in self.items(key):
            found[item.required_text("name")] = item.flag("enabled", True)
            item.close()
        return found

    def is_bare_number(self, key: str) -> bool:
        node = self.node_of(key)
        return node is not None and kind_of(node) == "number"

    # --- inside

    def _place(self, key: str) -> yaml.Node:
        name, value = self._pairs.get(key, (self.node, self.node))
        return name if is_null(value) else value

    def _index(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            name = self._scalar(key, self.key)
            if name is None:
                continue
            if name in self._pairs:
                line = self._pairs[name][0].start_mark.line + 1
                self.findings.problem(key, self.path(name), f"this key stands here twice, first in line {line}")
            else:
                self._pairs[name] = (key, value)

    def _elements(self, key: str) -> Iterable[tuple[str, yaml.Node]]:
        node = self.node_of(key)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.problem(key, f"found {describe(node)}, expected a list")
            return []
        return [(f"{self.path(key)}[{number}]", element) for number, element in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, key: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.findings.problem(node, key, f"found {describe(node)}, expected a single value")
            return None
        if not node.tag.startswith("tag:yaml.org,2002:"):
            self.findings.problem(node, key, f"the tag {node.tag} means nothing here")
            return None
        text = str(node.value)
        self.findings.refer(node, key, text)
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self.findings.problem(node, key, "this text holds half of a surrogate pair")
            return None
        if "\0" in text:
            self.findings.problem(node, key, "this text holds a zero byte")
            return None
        return text


def _text_or_none(text: str) -> str | None:
    return text


def _naming(key: str, kind: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    def named(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"error parsing {key} as {kind}: {error}") from error

    return named
