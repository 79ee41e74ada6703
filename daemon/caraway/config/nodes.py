"""What a YAML node is, and the list of what was found wrong with the nodes of a pod."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

import yaml

from caraway.config.document import problem_at
from caraway.errors import ConfigError, ConfigProblem
from caraway.secrets import ANY_STORE, Reference, references

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# YAML 1.2, as the Spice runtime reads it: `on`, `yes` and `1:30` are text.
FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DEPTH = 20
_NODES = 10_000


class Findings:
    """What was found wrong or odd in a pod so far, in the order of finding."""

    def __init__(self) -> None:
        self.problems: list[ConfigProblem] = []
        self.warnings: list[str] = []
        self._said: set[str] = set()
        self._names: dict[str, str] = {}
        self._references: list[tuple[yaml.Node, str, Reference]] = []
        self._parents: list[tuple[yaml.Node, str, str, str]] = []

    def problem(self, node: yaml.Node, key: str, message: str) -> None:
        self.problems.append(problem_at(node.start_mark, key, message))

    def warn(self, node: yaml.Node, key: str, message: str, *, once: str = "") -> None:
        """Add a warning; of those with the same `once` the first alone."""
        if once and once in self._said:
            return
        self._said.add(once)
        self.warnings.append(str(problem_at(node.start_mark, key, message)))

    def refer(self, node: yaml.Node, key: str, text: str) -> None:
        """Remember the secrets that a value refers to."""
        if "${" in text:
            self._references += [(node, key, reference) for reference in references(text)]

    def claim(self, name: str, key: str) -> str | None:
        """Take a name for the component at `key`; the key of whoever has it already, else None."""
        owner = self._names.setdefault(name, key)
        return owner if owner != key else None

    def follow(self, node: yaml.Node, key: str, *, child: str, parent: str) -> None:
        """Remember that one dataset follows another."""
        self._parents.append((node, key, child, parent))

    def check_parents(self, accelerated: Iterable[str], *, cached: Collection[str]) -> None:
        """Note the children of what is not an accelerated dataset, and those whose line of parents has no end.

        `cached` are the datasets that no other can follow.
        """
        names = list(accelerated)
        parents = {child: parent for _, _, child, parent in self._parents}
        for node, key, child, parent in self._parents:
            if parent in cached:
                why = "keeps answers for those who ask (refresh_mode caching), which none can follow"
                self.problem(node, key, f"{parent!r} {why}")
            elif parent not in names:
                hint = did_you_mean(parent, names)
                self.problem(node, key, f"there is no accelerated dataset {parent!r} in this pod{hint}")
            elif _is_circle(child, parents):
                self.problem(node, key, f"{child!r} follows itself, by way of {parent!r}")

    def check_references(self, stores: Iterable[str]) -> None:
        """Note the references to stores that are not declared."""
        declared = list(stores)
        for node, key, reference in self._references:
            if reference.store not in (ANY_STORE, *declared):
                hint = did_you_mean(reference.store, declared)
                self.problem(node, key, f"{reference}: no secret store is named {reference.store!r}{hint}")

    def finish(self) -> None:
        """Raise ConfigError with all problems, if there are any, in the order of their places."""
        if self.problems:
            found = dict.fromkeys(self.problems)
            raise ConfigError(*sorted(found, key=lambda p: (str(p.file), p.line or 0, p.column or 0)))


def _is_circle(child: str, parents: Mapping[str, str]) -> bool:
    ancestor = parents.get(child)
    for _ in parents:
        if ancestor is None or ancestor == child:
            break
        ancestor = parents.get(ancestor)
    return ancestor == child


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ..?` where a known word is close, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def describe(node: yaml.Node) -> str:
    """What kind of thing a node is, for a message; its value may be secret, so it is not said."""
    kind = kind_of(node)
    return {"null": "nothing", "text": kind, "quoted text": kind}.get(kind, f"a {kind}")


def kind_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "list"
    if not isinstance(node, yaml.ScalarNode):
        return "map"
    if node.style:
        return "quoted text"
    if node.value in _NULLS:
        return "null"
    if node.value in FLAGS:
        return "boolean"
    return "number" if INTEGER.fullmatch(node.value) else "text"


def is_null(node: yaml.Node) -> bool:
    return kind_of(node) == "null"


def plain_of(node: yaml.Node) -> object:
    """The node as JSON knows it; ValueError where it is too large, or refers to itself."""
    return _plain(node, _DEPTH, [_NODES])


def _plain(node: yaml.Node, depth: int, budget: list[int]) -> object:
    budget[0] -= 1
    if depth == 0 or budget[0] < 0:
        raise ValueError("this is nested too deeply or too large")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(inner, depth - 1, budget) for inner in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(inner, depth - 1, budget) for key, inner in node.value}
    kind = kind_of(node)
    return {"null": None, "boolean": FLAGS.get(node.value)}.get(kind, node.value)
