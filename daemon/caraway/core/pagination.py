"""Which page of an answer comes next: by a link, by an address or token in the body, or by counting.

    Pager.url ── the page is fetched ──▶ turn(links, body, rows) ──▶ Pager.url of the next one, or None

Pages stay at the origin of the first one. Whatever would end a table early without being its end is an error.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode, urlsplit, urlunsplit

from caraway.core.http_urls import join, place_of, server_of
from caraway.core.json_pointer import MISSING, Pointer, resolve, spell
from caraway.core.links import next_link

WINDOW = 1024
"""Addresses that are remembered to notice a circle."""
LONGEST = 16 * 1024
"""Characters of an address: servers take less."""
MOST_PAGES = 100

_VARIABLE = re.compile(r"\{(\w*)\}")
VARIABLES = frozenset({"offset", "limit", "page"})


class PagingError(Exception):
    """An answer whose next page can't or must not be fetched; the text goes on after "the answer "."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How pages follow each other, and where rows are in each; the parameters `pagination_*`."""

    link_header: bool = True
    next_pointer: Pointer | None = None
    token_param: str | None = None
    query_params: str | None = None
    """A template of `{offset}`, `{limit}` and `{page}`; with `page_size`."""
    page_size: int = 0
    max_pages: int | None = MOST_PAGES
    data_pointer: Pointer | None = None
    map_to_array: bool = False


NO_PAGING = Paging(link_header=False)


class Pager:
    """Goes through the pages of one answer; `url` is the page to fetch now, None after the last; `number` is from 1."""

    def __init__(self, paging: Paging, url: str) -> None:
        self._paging = paging
        self.number = 1
        self._first = self._counted(url) if paging.query_params else url
        self._seen = OrderedDict({self._first: None})
        self.url: str | None = self._first

    def turn(self, *, links: str | None, document: object, rows: int) -> None:
        """Go on from the page at `url`, by its Link header, its body (MISSING: not JSON) and its rows; PagingError."""
        assert self.url is not None
        following = self._following(self.url, links, document, rows)
        if following is not None:
            self._check(following)
        self.url = following
        self.number += 1

    def _following(self, url: str, links: str | None, document: object, rows: int) -> str | None:
        if self._paging.query_params:
            return self._counted(url, self.number) if rows >= self._paging.page_size else None
        told = self._told(document)
        if told is not None and self._paging.token_param:
            return with_query(url, {self._paging.token_param: told})
        link = next_link(links) if self._paging.link_header else None
        target = told or link
        return self._joined(url, target) if target else None

    def _told(self, document: object) -> str | None:
        """What the body says of the next page; None at the last."""
        pointer = self._paging.next_pointer
        value = resolve(document, pointer) if pointer is not None else None
        if value is MISSING or value is None or value is False or value == "":
            return None
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and self._paging.token_param:
            return str(value)
        raise PagingError(f"has no next page at {spell(pointer or ())}, but {type(value).__name__}.")

    def _joined(self, url: str, target: str) -> str:
        try:
            return join(url, target)
        except ValueError as error:
            raise PagingError(f"names a next page elsewhere than at {server_of(place_of(self._first))}.") from error

    def _check(self, following: str) -> None:
        if len(following) > LONGEST:
            raise PagingError(f"names a next page by an address of {len(following)} characters.")
        most = self._paging.max_pages
        if most is not None and self.number >= most:
            raise PagingError(f"has more than {most} pages (pagination_max_pages).")
        if following in self._seen:
            raise PagingError(f"leads from page {self.number} back to one before it.")
        self._seen[following] = None
        if len(self._seen) > WINDOW:
            self._seen.popitem(last=False)

    def _counted(self, url: str, pages: int = 0) -> str:
        """The address after so many pages."""
        size = self._paging.page_size
        values = {"offset": pages * size, "limit": size, "page": pages + 1}
        filled = _VARIABLE.sub(lambda found: str(values[found[1]]), self._paging.query_params or "")
        return with_query(url, dict(parse_qsl(filled, keep_blank_values=True)))


def with_query(url: str, parameters: dict[str, str]) -> str:
    """The address with these query parameters in place of those of the same names; the others stay as they are."""
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in parameters]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(parameters, quote_via=quote)])))


def check_template(template: str) -> None:
    """ValueError for a `pagination_query_params` whose pages would not advance."""
    named = set(_VARIABLE.findall(template))
    if unknown := sorted(named - VARIABLES):
        raise ValueError(f"there is no {{{unknown[0]}}}; allowed: {{offset}}, {{limit}}, {{page}}")
    if not named & {"offset", "page"}:
        raise ValueError("it needs {offset} or {page}, or each page would be the first one")
    if not all("=" in pair for pair in template.split("&")):
        raise ValueError("it has to be a query such as offset={offset}&limit={limit}")
