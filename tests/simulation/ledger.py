"""What the log of each dataset was at each of its offsets: plain Python, kept beside the stores to judge them by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from caraway.model import Append, Change, Delete

Row: TypeAlias = tuple[int, int]
"""A key and a value; no value is ever used twice."""

GONE = -1
"""The value of a key that was deleted."""


@dataclass(frozen=True)
class Version:
    """From `offset` on a key has a value."""

    offset: int
    value: int


@dataclass
class Epoch:
    """One epoch of one dataset: all that ever happened in it."""

    keyed: bool
    end: int = 0
    rows: list[Row] = field(default_factory=list)
    """In the order of the log; of a keyed dataset those that were ever there."""
    versions: dict[int, list[Version]] = field(default_factory=dict)

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Append(rows):
                    for key, value in self._taken(list(zip(*(one.to_pylist() for one in rows.columns), strict=True))):
                        self._put(key, value)
                case Delete(keys):
                    self._delete(keys.column(0).to_pylist())

    def live(self) -> dict[int, int]:
        """What a keyed dataset holds now."""
        newest = ((key, versions[-1].value) for key, versions in self.versions.items())
        return {key: value for key, value in newest if value != GONE}

    def contents(self) -> list[Row]:
        """What is held now, by key."""
        return sorted(self.live().items() if self.keyed else self.rows)

    def _taken(self, rows: list[Row]) -> list[Row]:
        """Of a key that is in a batch more than once, the last row counts."""
        if not self.keyed:
            return rows
        last = {key: place for place, (key, _) in enumerate(rows)}
        return [rows[place] for place in sorted(last.values())]

    def _put(self, key: int, value: int) -> None:
        self.rows.append((key, value))
        if self.keyed:
            self.versions.setdefault(key, []).append(Version(self.end, value))
        self.end += 1

    def _delete(self, keys: list[int]) -> None:
        there = [key for key in keys if key in self.versions and self.versions[key][-1].value != GONE]
        for key in there:
            self.versions[key].append(Version(self.end, GONE))
        self.end += bool(there)


def faults_of_copy(rows: Sequence[Row], offset: int, source: Epoch) -> Iterator[str]:
    """What is wrong with a copy that says that it holds all of `source` before `offset`."""
    if not source.keyed:
        expected = source.rows[:offset]
        if list(rows) != expected:
            yield f"holds {_brief(rows)}, where the log up to {offset} is {_brief(expected)}"
        return
    held = dict(rows)
    if len(held) != len(rows):
        yield f"holds a key twice: {_brief(rows)}"
    yield from _faults_by_key(held, offset, source)


def _faults_by_key(held: dict[int, int], offset: int, source: Epoch) -> Iterator[str]:
    """A key may be older than the offset tells only where its newer version was replaced at or after the offset."""
    for key in held.keys() - source.versions.keys():
        yield f"holds {key}={held[key]}, which never was"
    for key, versions in source.versions.items():
        values = [version.value for version in versions if version.offset < offset]
        newest, value = (values[-1] if values else GONE), held.get(key, GONE)
        replaced_since = len(values) < len(versions)
        if value != newest and not (replaced_since and (value == GONE or value in values)):
            yield f"holds {key}={value} at {offset}, where the log has {versions}"


def _brief(rows: Sequence[Row]) -> str:
    return f"{len(rows)} rows ending {list(rows[-3:])}"
