"""What a dataset's parameters say of its API: what may be asked, how answers are read (reference/http_connector.md)."""

import re
from collections.abc import Callable, Collection
from typing import TypeVar

from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.http.decompose import read_layout
from caraway.connectors.http.source import Api
from caraway.connectors.http.urls import Address, parse_address
from caraway.core.globs import Glob, parse_glob
from caraway.core.http_fields import TOKEN
from caraway.core.http_policy import MOST_BODY, MOST_HEADERS, MOST_QUERY, UNSETTABLE, RequestPolicy
from caraway.core.json_pointer import Pointer, parse_pointer
from caraway.core.pagination import MOST_PAGES, NO_PAGING, Paging, check_template
from caraway.errors import ConfigError, ConfigProblem

T = TypeVar("T")

_AUTHORIZATION = "authorization"
_PAGES = ("pagination_next_pointer", "pagination_token_param")


def read_address(config: Dataset, params: ConnectorParams) -> Address:
    """Where the dataset is, at `http_port` if that is set; ConfigError."""
    port = params.integer("http_port", least=1, most=65535)
    try:
        return parse_address(config.from_.text, port)
    except ValueError as error:
        raise ConfigError(ConfigProblem(str(error), f"datasets[{config.name}].from")) from error


def read_api(config: Dataset, params: ConnectorParams, address: Address, headers: Collection[str]) -> Api:
    """What may be asked of the API at `address`; ConfigError names the parameter.

    `headers` are the names of those that are sent with each request, what authenticates it included.
    """
    return Api(
        config.name,
        address,
        read_policy(params, frozenset(headers) & _guarded(params)),
        read_paging(params),
        read_layout(config.columns, config.name),
        content_type="content-type" in headers,
    )


def read_policy(params: ConnectorParams, guarded: Collection[str] = ()) -> RequestPolicy:
    """What conditions may ask for; no query may set the headers `guarded`, which say who the dataset is."""
    paths = params.text("allowed_request_paths", "")
    return RequestPolicy(
        tuple(_path(params, text.strip()) for text in paths.split(",")) if paths.strip() else (),
        queries=params.flag("request_query_filters", False),
        bodies=params.flag("request_body_filters", False),
        headers=_allowed_headers(params, guarded),
        max_query=params.integer("max_request_query_length", 1024, least=1, most=MOST_QUERY),
        max_body=params.integer("max_request_body_bytes", 16384, least=1, most=MOST_BODY),
        max_headers=params.integer("max_request_headers_length", 16384, least=1, most=MOST_HEADERS),
        max_requests=params.integer("max_request_partitions", least=1),
    )


def read_paging(params: ConnectorParams) -> Paging:
    """How pages follow each other. `auto` is Link headers, and whatever else is set."""
    mode = params.text("pagination", "auto").lower()
    if mode not in ("auto", "enabled", "disabled", "true", "false"):
        raise params.wrong("pagination", f"found {mode!r}; allowed: auto, enabled, disabled")
    template = params.text("pagination_query_params") or None
    paging = Paging(
        link_header=params.flag("pagination_link_header", True),
        next_pointer=_pointer(params, "pagination_next_pointer"),
        token_param=params.text("pagination_token_param") or None,
        query_params=template,
        page_size=params.integer("pagination_page_size", least=1) or 0,
        max_pages=_max_pages(params),
        data_pointer=_pointer(params, "pagination_data_pointer"),
        map_to_array=params.flag("pagination_data_map_to_array", False),
    )
    _check_paging(params, paging)
    return paging if mode not in ("disabled", "false") else NO_PAGING


def _check_paging(params: ConnectorParams, paging: Paging) -> None:
    if paging.query_params is None:
        if paging.page_size:
            raise params.wrong("pagination_page_size", "this needs pagination_query_params, which asks for the pages")
        if paging.token_param and paging.next_pointer is None:
            raise params.wrong("pagination_token_param", "this needs pagination_next_pointer, which finds the token")
        return
    for other in _PAGES:
        if params.text(other):
            raise params.wrong("pagination_query_params", f"{other} is set as well; pages are counted, or followed")
    if not paging.page_size:
        raise params.wrong("pagination_query_params", "this needs pagination_page_size: a shorter page is the last")
    _judged(params, "pagination_query_params", check_template, paging.query_params)


def _max_pages(params: ConnectorParams) -> int | None:
    if params.text("pagination_max_pages", "").lower() == "nolimit":
        return None
    return params.integer("pagination_max_pages", least=1) or MOST_PAGES


def _path(params: ConnectorParams, text: str) -> Glob:
    if not text:
        raise params.wrong("allowed_request_paths", "there is nothing between two commas, or before or behind one")
    return _judged(params, "allowed_request_paths", parse_glob, text)


def _pointer(params: ConnectorParams, name: str) -> Pointer | None:
    text = params.text(name)
    return _judged(params, name, parse_pointer, text) if text else None


def _allowed_headers(params: ConnectorParams, guarded: Collection[str]) -> frozenset[str]:
    listed = params.text("request_header_allowlist", "")
    names = [name.strip().lower() for name in listed.split(",")] if listed.strip() else []
    for name in names:
        if not re.fullmatch(TOKEN, name):
            raise params.wrong("request_header_allowlist", f"{name!r} is not the name of a header")
        if name in UNSETTABLE:
            raise params.wrong("request_header_allowlist", f"{name!r} belongs to the connection; no query may set it")
        if name in guarded:
            raise params.wrong("request_header_allowlist", f"{name!r} authenticates the dataset; no query may set it")
    enabled = params.flag("request_header_filters", False)
    if enabled and not names:
        raise params.wrong("request_header_filters", "this needs request_header_allowlist: the headers that may be set")
    return frozenset(names) if enabled else frozenset()


def _guarded(params: ConnectorParams) -> frozenset[str]:
    """The headers that may authenticate the dataset, if they are sent at all."""
    return frozenset({_AUTHORIZATION, "cookie", params.text("auth_header_name", _AUTHORIZATION).lower()})


def _judged(params: ConnectorParams, name: str, judge: Callable[[str], T], text: str) -> T:
    try:
        return judge(text)
    except ValueError as error:
        raise params.wrong(name, str(error)) from error
