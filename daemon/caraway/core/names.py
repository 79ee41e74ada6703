"""Names of datasets, tables and columns, and the forms of `from:` (reference/spicepod.md 2)."""

import re

_RESERVED = """
    all alter and any array as asc between both by case cast check collate column constraint create cross
    current_date current_time current_timestamp default delete desc describe distinct drop else end except exists
    explain false fetch for foreign from full grant group having in inner insert intersect interval into is join
    lateral leading left like limit natural not null offset on or order outer primary references right select set
    show some table then to trailing true truncate union unique update using values view when where window
    with
"""
RESERVED = frozenset(_RESERVED.split())
"""Words that SQL can't take for a table's name unless it is quoted."""

SYSTEM_SCHEMAS = frozenset({"information_schema", "runtime", "metadata"})

_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^".]+)')
_PLAIN = re.compile(r"[^\W\d][\w$]*")
_UNREFERABLE = frozenset(',;:()"')


def parse_table_ref(text: str) -> tuple[str, ...]:
    """The parts of `a.b.c`: lower-cased unless quoted, quotes removed; ValueError says what is wrong."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a table name; put a name with unusual characters in double quotes")
        parts.append(_part(match))
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            raise ValueError(f"{text!r} is not a table name: a part in quotes ends at a dot")
        position += 1


def parse_dataset_name(text: str) -> str:
    """`table` or `schema.table` in its canonical form (schema `public` left out); ValueError says what is wrong."""
    parts = parse_table_ref(text)
    if len(parts) > 2:
        raise ValueError(f"{text!r} has {len(parts)} parts; a name is `table` or `schema.table`")
    if any("." in part or '"' in part or not part.isprintable() for part in parts):
        raise ValueError(f"{text!r} holds a dot, a quote or an unprintable character inside a quoted part")
    schema, table = parts if len(parts) == 2 else ("public", parts[0])
    if schema in SYSTEM_SCHEMAS:
        raise ValueError(f"the schema {schema!r} belongs to the system")
    return table if schema == "public" else f"{schema}.{table}"


def parse_column_ref(text: str) -> tuple[str, ...]:
    """The columns of `a`, `a, b` or `(a, b)`, exactly as written; ValueError says what is wrong."""
    inner = text.strip()
    if inner.startswith("(") and inner.endswith(")"):
        inner = inner[1:-1]
    columns = tuple(_column(part.strip(), text) for part in inner.split(","))
    if len(set(columns)) != len(columns):
        raise ValueError(f"unable to parse column reference {text!r}: a column is named twice")
    return columns


DEFAULT_CONNECTOR = "spice.ai"

_SEPARATOR = re.compile(r"://|[:/]")


def split_from(text: str) -> tuple[str, str]:
    """The connector before the first `:`, `/` or `://` and the path behind it; `spice.ai` where there is none."""
    match = _SEPARATOR.search(text)
    if match is None:
        return DEFAULT_CONNECTOR, text
    connector = text[: match.start()]
    return (DEFAULT_CONNECTOR if connector == "spiceai" else connector), text[match.end() :]


def _part(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    if quoted is not None:
        return _not_empty(quoted.replace('""', '"'))
    plain: str = match["plain"]
    if not _PLAIN.fullmatch(plain):
        raise ValueError(
            f"{plain!r} is not an identifier: letters, digits and underscores, or any text in double quotes"
        )
    if plain.lower() in RESERVED:
        raise ValueError(f"{plain!r} is a reserved word of SQL; choose another name, or put it in double quotes")
    return plain.lower()


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("a name can't be empty")
    return text


def _column(part: str, whole: str) -> str:
    name = part[1:-1] if len(part) > 1 and part.startswith('"') and part.endswith('"') else part
    if not name or _UNREFERABLE & set(name):
        raise ValueError(
            f'unable to parse column reference {whole!r}; write one column, or several as "(a, b)", '
            "with none of , ; : ( ) in a name"
        )
    return name
