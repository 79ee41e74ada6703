"""What a dataset allows a query to ask of an API, so that no request reaches what the operator did not mean to open.

A path is judged as the strictest server could read it: decoded as often as it can be, with backslashes as slashes and
parameters of segments (`..;`) cut off.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from caraway.core.globs import Glob
from caraway.core.http_fields import OF_THE_CONNECTION
from caraway.core.http_requests import BODY, HEADERS, PATH, QUERY
from caraway.errors import QueryError
from caraway.model import Request

MOST_QUERY, MOST_BODY, MOST_HEADERS = 4096, 65536, 65536
MOST_PATH = 2048
MOST_ESCAPES = 4

UNSETTABLE = OF_THE_CONNECTION | {"proxy-authorization", "proxy-authenticate"}
"""Headers that no query may set."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """Defaults as documented; lengths in characters, of bodies in bytes."""

    paths: tuple[Glob, ...] = ()
    """None of them: no path may be asked for."""
    queries: bool = False
    bodies: bool = False
    headers: frozenset[str] = frozenset()
    """Names in lower case; empty: no headers may be set."""
    max_query: int = 1024
    max_body: int = 16384
    max_headers: int = 16384
    max_requests: int | None = None

    def check(self, request: Request) -> None:
        """QueryError INVALID for a request that is not allowed; it says which parameter would allow it."""
        if request.path:
            self._check_path(request.path)
        if request.query:
            self._check_query(request.query)
        if request.body is not None:
            self._check_body(request.body)
        if request.headers:
            self.read_headers(request.headers)

    def check_column(self, column: str) -> None:
        """QueryError INVALID where conditions on the column are not allowed at all, whatever their values."""
        open_, switch = {
            PATH: (bool(self.paths), "allowed_request_paths"),
            QUERY: (self.queries, "request_query_filters: enabled"),
            BODY: (self.bodies, "request_body_filters: enabled"),
            HEADERS: (bool(self.headers), "request_header_filters: enabled and request_header_allowlist"),
        }[column]
        if not open_:
            raise QueryError(
                f"Conditions on {column} are disabled for this dataset; its parameter {switch} allows them."
            )

    def read_headers(self, text: str) -> tuple[tuple[str, str], ...]:
        """The headers that a request sets, names in lower case; QueryError INVALID where one is not allowed."""
        self.check_column(HEADERS)
        if len(text) > self.max_headers:
            raise _too_long(HEADERS, len(text), self.max_headers, "max_request_headers_length")
        read = [self._header(name.lower(), value) for name, value in _object(text)]
        if len(dict(read)) < len(read):
            raise QueryError(f"{HEADERS} sets one header twice.")
        return tuple(read)

    def _header(self, name: str, value: object) -> tuple[str, str]:
        if name not in self.headers:
            raise QueryError(f"{HEADERS} sets {name!r}, which request_header_allowlist does not name.")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise QueryError(f"{HEADERS}: the value of {name!r} has to be text of printable ASCII characters.")
        return name, value

    def _check_path(self, path: str) -> None:
        self.check_column(PATH)
        if len(path) > MOST_PATH:
            raise _too_long(PATH, len(path), MOST_PATH, "")
        read = _as_read(path)
        if not any(all(map(glob.matches, {path, read})) for glob in self.paths):
            raise QueryError(f"{PATH} {path!r} is none of the allowed_request_paths of this dataset.")

    def _check_query(self, query: str) -> None:
        self.check_column(QUERY)
        if len(query) > self.max_query:
            raise _too_long(QUERY, len(query), self.max_query, "max_request_query_length")
        if _CONTROL.search(query) or not _is_text(query):
            raise QueryError(f"{QUERY} holds a control character; write it as %0A and the like.")

    def _check_body(self, body: str) -> None:
        self.check_column(BODY)
        if not _is_text(body):
            raise QueryError(f"{BODY} is not text.")
        size = len(body.encode())
        if size > self.max_body:
            raise _too_long(BODY, size, self.max_body, "max_request_body_bytes")


def _as_read(path: str) -> str:
    """The path as a server may read it at the end; QueryError where that can lead elsewhere than it seems to."""
    if not path.startswith("/"):
        raise QueryError(f"{PATH} {path!r} has to start with '/'; it is a path below the address of the dataset.")
    if "?" in path or "#" in path:
        raise QueryError(f"{PATH} {path!r} holds '?' or '#'; what is asked of a path belongs into {QUERY}.")
    if _ESCAPE.search(path):
        raise QueryError(f"{PATH} {path!r} holds a '%' that begins no escape; write it as %25.")
    if not _is_text(path):
        raise QueryError(f"{PATH} {path!r} is not text.")
    read = _decoded(path)
    if _CONTROL.search(read):
        raise QueryError(f"{PATH} {path!r} holds a control character.")
    if read.count("/") != path.count("/") or "\\" in read:
        raise QueryError(f"{PATH} {path!r} holds an escaped slash or a backslash, which servers take for a slash.")
    segments = [unicodedata.normalize("NFKC", segment).partition(";")[0] for segment in read.split("/")]
    if any(segment in (".", "..") or "/" in segment for segment in segments):
        raise QueryError(f"{PATH} {path!r} leads out of where it begins: it holds a segment '.' or '..'.")
    if "//" in path:
        raise QueryError(f"{PATH} {path!r} holds two slashes in a row, which servers take for one, or for a host.")
    return read


def _decoded(path: str) -> str:
    """Without its escapes, those of escapes included."""
    read = path
    for _ in range(MOST_ESCAPES):
        try:
            decoded = unquote_to_bytes(read).decode()
        except UnicodeDecodeError as error:
            raise QueryError(f"{PATH} {path!r} holds escapes that are no UTF-8.") from error
        if decoded == read:
            return read
        read = decoded
    raise QueryError(f"{PATH} {path!r} holds escapes of escapes of escapes.")


def _object(text: str) -> list[tuple[str, object]]:
    """The members of a JSON object in their order, those that stand twice twice."""
    wrong = QueryError(f'{HEADERS} has to be a JSON object of texts, such as {{"x-page": "2"}}.')
    try:
        members = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not isinstance(members, _Members):
        raise wrong
    return members


class _Members(list[tuple[str, object]]):
    """A JSON object; a list is an array."""


def _is_text(text: str) -> bool:
    """Whether it can be sent: half a surrogate pair, as JSON may escape one, can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_long(column: str, length: int, most: int, parameter: str) -> QueryError:
    bound = f"{most}, as {parameter} says" if parameter else str(most)
    return QueryError(f"{column} has a length of {length}; allowed: {bound}.")
