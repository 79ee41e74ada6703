"""What the body of an answer holds: JSON, of which rows are made, or text, which is one row."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message

import orjson

from caraway.core.json_pointer import MISSING, resolve, spell
from caraway.core.pagination import Paging
from caraway.model import HttpResponse

_ZEROES = bytes.maketrans(b"123456789", b"000000000")
_BOM = b"\xef\xbb\xbf"


class BodyError(Exception):
    """A body of which no rows can be made; the text goes on after "the answer "."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one answer, as parsed JSON; `whole` is the text where the answer as a whole is the one row."""

    values: list[object]
    dumps: Callable[[object], bytes]
    whole: bytes | None = None

    def contents(self) -> list[bytes]:
        return [self.whole] if self.whole is not None else [self.spell(value) for value in self.values]

    def spell(self, value: object) -> bytes:
        """A value as JSON; BodyError where it is nested too deeply."""
        try:
            return self.dumps(value)
        except (TypeError, RecursionError) as error:
            raise BodyError("is nested too deeply.") from error


@dataclass(frozen=True, slots=True)
class Body:
    """`text` is UTF-8; `document` MISSING where it is not JSON."""

    text: bytes
    document: object
    dumps: Callable[[object], bytes] = orjson.dumps

    def rows(self, paging: Paging, *, structured: bool) -> Rows:
        """One row for each element; BodyError. `structured` says that other columns than the text are made of it."""
        if self.document is MISSING and (structured or paging.data_pointer is not None or paging.map_to_array):
            if self.text.strip():
                raise BodyError("is not JSON.")
            return Rows([], self.dumps)
        found = self._pointed(paging)
        if paging.map_to_array and isinstance(found, dict):
            found = list(found.values())
        if isinstance(found, list):
            return Rows(found, self.dumps)
        if found is None and paging.data_pointer is not None:
            return Rows([], self.dumps)
        return self.one() if found is self.document else Rows([found], self.dumps)

    def one(self) -> Rows:
        """The answer as a whole, as one row."""
        value = self.text.decode() if self.document is MISSING else self.document
        return Rows([value], self.dumps, self.text)

    def _pointed(self, paging: Paging) -> object:
        if paging.data_pointer is None:
            return self.document
        found = resolve(self.document, paging.data_pointer)
        if found is MISSING:
            raise BodyError(f"has nothing at {spell(paging.data_pointer)} (pagination_data_pointer).")
        return found


def read_body(response: HttpResponse) -> Body:
    """The body as text and, where it is that, as JSON; BodyError for what is neither, unless it tells of a failure."""
    kind = Message()
    kind["content-type"] = response.header("content-type") or ""
    text = _text(response.body, kind.get_content_charset("utf-8"))
    named = kind.get_content_subtype() == "json" or kind.get_content_subtype().endswith("+json")
    if not text.strip() or not (named or text.lstrip()[:1] in (b"{", b"[")):
        return Body(text, MISSING)
    exact = _has_long_number(text)
    try:
        document = orjson.loads(text)
        document = json.loads(text) if exact else document
    except (ValueError, RecursionError) as error:
        if named and response.status < 400:
            raise BodyError("says that it is JSON, and is not, or is nested too deeply.") from error
        return Body(text, MISSING)
    return Body(text, document, _dumps_exactly if exact else orjson.dumps)


def _text(body: bytes, charset: str) -> bytes:
    """The body in UTF-8."""
    try:
        return body.removeprefix(_BOM).decode(charset).encode()
    except LookupError:
        return _text(body, "utf-8")
    except UnicodeError as error:
        raise BodyError(f"is not text, or not in {charset}.") from error


def _has_long_number(text: bytes) -> bool:
    """Whether it may hold an integer of more than 64 bits, of which orjson makes a float."""
    return b"0" * 19 in text.translate(_ZEROES)  # 20 times as fast as a regular expression


def _dumps_exactly(value: object) -> bytes:
    """With integers of any size, at a tenth of orjson's speed."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
