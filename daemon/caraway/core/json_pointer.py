"""JSON pointers (RFC 6901)."""

from typing import Final, TypeAlias

Pointer: TypeAlias = tuple[str, ...]


class Missing:
    """What a pointer finds where nothing is."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def parse_pointer(text: str) -> Pointer:
    """The steps of `/a/b`; ValueError says what is wrong."""
    if not text.startswith("/"):
        raise ValueError(f"found {text!r}; a JSON pointer starts with '/'")
    steps = text[1:].split("/")
    if any("~" in step.replace("~0", "").replace("~1", "") for step in steps):
        raise ValueError(f"found {text!r}; in a JSON pointer '~' is written ~0, and '/' in a name ~1")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def resolve(document: object, pointer: Pointer) -> object:
    """The value at the pointer, or MISSING."""
    for step in pointer:
        if isinstance(document, dict):
            document = document.get(step, MISSING)
        elif isinstance(document, list) and step.isascii() and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document


def spell(pointer: Pointer) -> str:
    """As it was written."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in pointer)
