"""`request_column IN (SELECT ..)` in the text of a query: found, made to stand alone, replaced by its values.

The text is cut and not parsed into a tree and written again, so that all the rest of it stays what its author wrote.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from caraway.errors import QueryError
from caraway.query.worker.words import PLAIN, QUOTED, Word, words

MOST_VALUES = 20_000
"""NULL does not count: it names no request."""
_QUERY = {"select", "with"}
_BEFORE_A_CONDITION = {"and", "having", "not", "on", "or", "then", "when", "where", "(", ",", "select"}
"""After these words a column is the whole left side of IN."""


@dataclass(frozen=True, slots=True)
class Subquery:
    """`sql` gives its distinct values, but no more than show that there are too many of them.

    It stands in the text between `start` and `end`, `column IN (..)` between `outer` and `outer_end`.
    """

    column: str
    sql: str
    start: int
    end: int
    outer: int
    outer_end: int

    def replaced(self, whole: str, values: Sequence[str]) -> str:
        """The whole text with the values (SQL literals) in the subquery's place; QueryError for too many of them."""
        if len(values) - values.count("NULL") > MOST_VALUES:
            raise QueryError(
                f"The subquery of {self.column} IN (SELECT ..) gives more than {MOST_VALUES} values, each of which "
                "would be a request. Ask for fewer."
            )
        if not values:
            return f"{whole[: self.outer]}FALSE{whole[self.outer_end :]}"
        return whole[: self.start] + ", ".join(values) + whole[self.end :]


@dataclass(slots=True)
class _Group:
    """What stands between two parentheses, or all of the text: places of its first word and after its last one."""

    first: int
    parent: "_Group | None"
    end: int = 0
    ctes: "list[_Cte]" = field(default_factory=list)
    recursive: bool = False

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(frozen=True, slots=True)
class _Cte:
    """A common table expression: its name, and the places of its first word and after its last one."""

    name: str
    first: int
    end: int


def find_subquery(sql: str, columns: Collection[str], skipped: Collection[str]) -> Subquery | None:
    """The first of the innermost subqueries that name values of the columns, but for those whose `sql` is skipped."""
    if sql.lower().count("select") < 2 or (found := words(sql)) is None:
        return None
    text = _Text(sql, list(found))
    for group in sorted(text.groups, key=lambda group: -group.depth):
        subquery = text.subquery(group, columns)
        if subquery is not None and subquery.sql not in skipped:
            return subquery
    return None


class _Text:
    """A query with its words, parentheses and common table expressions."""

    def __init__(self, sql: str, found: list[Word]) -> None:
        self._sql = sql
        self._words = found
        root = _Group(0, None, len(found))
        self.groups: list[_Group] = []
        self._ends: dict[int, int] = {}
        self._nest(root)
        for group in (root, *self.groups):
            self._find_ctes(group)

    def _nest(self, root: _Group) -> None:
        inside = root
        for place, word in enumerate(self._words):
            if word.text == "(":
                inside = _Group(place + 1, inside)
                self.groups.append(inside)
            elif word.text == ")" and inside.parent is not None:
                inside.end = self._ends[inside.first - 1] = place
                inside = inside.parent

    def _find_ctes(self, group: _Group) -> None:
        place = group.first
        while self._is(place, "explain", "analyze", "verbose"):
            place += 1
        if not self._is(place, "with"):
            return
        group.recursive = self._is(place + 1, "recursive")
        place += 1 + group.recursive
        while (end := self._cte_end(place)) is not None:
            group.ctes.append(_Cte(_name(self._words[place]), place, end))
            if not self._is(end, ","):
                return
            place = end + 1

    def _cte_end(self, place: int) -> int | None:
        """After `name (columns) AS NOT MATERIALIZED (query)`."""
        place += 1
        if self._is(place, "("):
            place = self._ends.get(place, len(self._words)) + 1
        while self._is(place, "as", "not", "materialized"):
            place += 1
        return self._ends[place] + 1 if place in self._ends else None

    def _is(self, place: int, *texts: str) -> bool:
        return place < len(self._words) and self._words[place].text in texts

    def subquery(self, group: _Group, columns: Collection[str]) -> Subquery | None:
        """What a group asks, if it is a condition `column IN (SELECT ..)`."""
        before = group.first - 2
        if before < 1 or not self._is(before, "in") or not self._is(group.first, *_QUERY) or group.end <= group.first:
            return None
        column, outer = _name(self._words[before - 1]), self._name_start(before - 1)
        if column not in columns or not self._is(outer - 1, *_BEFORE_A_CONDITION):
            return None
        start, end = self._words[group.first].start, self._words[group.end - 1].end
        alone = self._alone(group, self._sql[start:end])
        return Subquery(column, alone, start, end, self._words[outer].start, self._words[group.end].end)

    def _name_start(self, place: int) -> int:
        """The first word of the name that ends with the word at a place: quoted parts and dots are words."""
        while place and self._words[place - 1].end == self._words[place].start:
            if not (self._words[place - 1].text.endswith(".") or self._words[place].text.startswith(".")):
                break
            place -= 1
        return place

    def _alone(self, group: _Group, inner: str) -> str:
        sql = f"SELECT DISTINCT * FROM ({inner}\n) LIMIT {MOST_VALUES + 2}"
        mentioned = self._mentioned(group.first, group.end)
        outer: _Group | None = group.parent
        while outer is not None:
            if wanted := self._wanted(outer, group.first, mentioned):
                recursive = "RECURSIVE " if outer.recursive else ""
                texts = [self._sql[self._words[cte.first].start : self._words[cte.end - 1].end] for cte in wanted]
                sql = f"WITH {recursive}{', '.join(texts)} SELECT * FROM ({sql})"
            outer = outer.parent
        return sql

    def _wanted(self, group: _Group, place: int, mentioned: set[str]) -> list[_Cte]:
        """The table expressions of a group that are mentioned, itself or by another one, and known at a place."""
        wanted: list[_Cte] = []
        for cte in reversed(list(takewhile(lambda cte: cte.end <= place, group.ctes))):
            if cte.name in mentioned:
                wanted.insert(0, cte)
                mentioned |= self._mentioned(cte.first + 1, cte.end)
        return wanted

    def _mentioned(self, first: int, end: int) -> set[str]:
        return {_name(word) for word in self._words[first:end]}


def _name(word: Word) -> str:
    """The last part of a name as a plan has it."""
    if word.kind == QUOTED and word.text.startswith('"'):
        return word.text[1:-1].replace('""', '"')
    return word.text.rpartition(".")[2] if word.kind == PLAIN else ""
