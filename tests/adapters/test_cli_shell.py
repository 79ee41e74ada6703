"""The parts of the SQL shell that need no terminal: where statements end, and what completion offers."""

from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from caraway.cli.repl import Names, is_complete
from caraway.cli.statements import split


@pytest.mark.parametrize(
    ("text", "complete", "rest"),
    [
        ("", [], ""),
        (" \n -- only a comment", [], ""),
        ("select 1", [], "select 1"),
        ("select 1;", ["select 1"], ""),
        ("a; b ;c", ["a", "b"], "c"),
        ("select ';' ;", ["select ';'"], ""),
        ("select 'it''s; so';", ["select 'it''s; so'"], ""),
        ('select "a;b";', ['select "a;b"'], ""),
        ("select 1 -- ; not\n;", ["select 1 -- ; not"], ""),
        ("select /* ; */ 1;", ["select /* ; */ 1"], ""),
        ("select 'open; 1", [], "select 'open; 1"),
        ("select /* open; 1", [], "select /* open; 1"),
        ("select 1; -- done", ["select 1"], ""),
        (";;", [], ""),
    ],
)
def test_where_statements_end(text, complete, rest):
    assert split(text) == (complete, rest)


@given(st.text("a'\";-/*\n ", max_size=40))
def test_any_text_splits_and_what_is_complete_stays_complete(text):
    complete, rest = split(text)
    for statement in complete:
        assert split(statement + "\n;") == ([statement], "") or not split(statement + "\n;")[1]
    if rest:
        assert rest in text


@pytest.mark.parametrize(
    ("text", "runs"),
    [("", True), ("select 1", False), ("select 1;", True), ("help", True), ("EXIT", True), ("select ';", False)],
)
def test_when_enter_runs(text, runs):
    assert is_complete(text) is runs


class Answers:
    """A client whose catalog has two tables."""

    def ask(self, sql: str, accept: str) -> "Answers":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self) -> None:
        pass

    def json(self) -> list[dict[str, str]]:
        names = [
            ("public", "orders", "id"),
            ("public", "orders", "region"),
            ("s", "items", "id"),
            ("s", "items", "rest"),
            ("public", "Big Orders", "Total"),
        ]
        return [{"table_schema": s, "table_name": t, "column_name": c} for s, t, c in names]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("select reg", ["region"]),
        ("select orders.r", ["region"]),
        ("select s.items.r", ["rest"]),
        ("select * from ord", ["orders", "order"]),
        ("SEL", ["SELECT"]),
        ("select s.it", ["s.items"]),
        ("select * from big", ['"Big Orders"']),
        ('select * from "Big O', ['"Big Orders"']),
        ('select "Big Orders".t', ['"Total"']),
        ("select tot", ['"Total"']),
    ],
)
def test_completion(text, offered):
    names = Names()
    names.learn(Answers())
    assert [found.text for found in names.get_completions(Document(text), CompleteEvent())] == offered
