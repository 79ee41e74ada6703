"""The parameters of an API: their defaults, and what is wrong with others."""

import pytest

from caraway.config.model import Dataset, FromUri
from caraway.connectors.http.options import read_address, read_api, read_paging, read_policy
from caraway.connectors.http.urls import parse_address
from caraway.core.http_policy import RequestPolicy
from caraway.core.pagination import NO_PAGING, Paging
from caraway.errors import ConfigError
from support.http_api import dataset, params

ADDRESSES = [
    ("https://api.example.com", "https://api.example.com/", "https://api.example.com/"),
    ("https://API.example.com:443/v1", "https://api.example.com/v1", "https://api.example.com/v1"),
    ("http://h:8080/v1/?a=1&b=%41", "http://h:8080/v1/?a=1&b=%41", "http://h:8080/v1/?a=1&b=%41"),
    ("http://[::1]:80/x", "http://[::1]/x", "http://[::1]/x"),
    ("http://ada@h/x", "http://h/x", "http://ada@h/x"),
    ("http://ada:l%40ve@h:81/x?q", "http://h:81/x?q", "http://ada:l%40ve@h:81/x?q"),
]


@pytest.mark.parametrize(("text", "plain", "named"), ADDRESSES)
def test_an_address_with_and_without_its_user(text, plain, named):
    address = parse_address(text)
    assert (address.plain, address.named) == (plain, named)
    for shown in (str(address), repr(address)):
        assert "ada" not in shown
        assert "q" not in shown.replace("request", "")
    assert address.at("/health") == address.origin + "/health"


@pytest.mark.parametrize(
    ("text", "port", "why"),
    [
        ("http:h/x", None, "expected http://host/path"),
        ("ftp://h/x", None, "expected http://host/path"),
        ("http:///x", None, "names no host"),
        ("http://h:0/", None, "1 to 65535"),
        ("http://h:99999/", None, "1 to 65535"),
        ("http://h:x/", None, "1 to 65535"),
        ("http://[::1/", None, "host or port"),
        ("http://h/a#b", None, "from # on"),
        ("http://h/a b", None, "spaces"),
        ("http://h/a\\b", None, "unusual characters"),
        ("http://h/é", None, "unusual characters"),
        ("http://h/a/../b", None, "'..'"),
        ("http://h/a/%2e%2e/b", None, "'..'"),
        ("http://${secrets:HOST}/", None, "can't refer to secrets"),
        ("http://h:81/", "82", "names the port 81, and http_port 82"),
        ("http://h/", "0", "params.http_port: found 0; allowed: 1 to 65535"),
        ("http://h/", "65536", "params.http_port: found 65536; allowed: 1 to 65535"),
        ("http://h/", "x", "params.http_port: 'x' is not a whole number"),
    ],
)
def test_an_address_that_can_not_be(text, port, why):
    config = Dataset("api", FromUri("http", "", text))
    with pytest.raises(ConfigError, match=why) as caught:
        read_address(config, params({} if port is None else {"http_port": port}))
    assert "datasets[api]." in str(caught.value)


def test_http_port_is_the_port():
    assert read_address(dataset("http://h/v1"), params({"http_port": "8080"})).plain == "http://h:8080/v1"
    assert read_address(dataset("https://h:444/"), params({"http_port": "444"})).plain == "https://h:444/"


def test_nothing_is_allowed_by_default():
    assert read_policy(params({})) == RequestPolicy()
    assert read_paging(params({})) == Paging()
    api = read_api(dataset("http://h/"), params({}), parse_address("http://h/"), [])
    assert not api.content_type


def test_what_is_allowed():
    policy = read_policy(
        params(
            {
                "allowed_request_paths": "/a , /b/*",
                "request_query_filters": "enabled",
                "request_body_filters": "true",
                "request_header_filters": "enabled",
                "request_header_allowlist": "X-Page, x-region",
                "max_request_query_length": "4096",
                "max_request_body_bytes": "65536",
                "max_request_headers_length": "1",
                "max_request_partitions": "7",
            }
        )
    )
    assert [glob.text for glob in policy.paths] == ["/a", "/b/*"]
    assert (policy.queries, policy.bodies, policy.headers) == (True, True, {"x-page", "x-region"})
    assert (policy.max_query, policy.max_body, policy.max_headers, policy.max_requests) == (4096, 65536, 1, 7)


def test_headers_that_are_listed_and_not_enabled_stay_closed():
    assert not read_policy(params({"request_header_allowlist": "x-page"})).headers


WRONG = [
    ({"allowed_request_paths": "shows"}, "allowed_request_paths: the path 'shows' has to start"),
    ({"allowed_request_paths": "/a,,/b"}, "allowed_request_paths: there is nothing"),
    ({"allowed_request_paths": "/a,"}, "allowed_request_paths: there is nothing"),
    ({"allowed_request_paths": "/../b"}, "allowed_request_paths: .*'..'"),
    ({"request_query_filters": "maybe"}, "request_query_filters: 'maybe' is not a flag"),
    ({"request_header_filters": "enabled"}, "request_header_filters: this needs request_header_allowlist"),
    ({"request_header_allowlist": "x page"}, "request_header_allowlist: 'x page' is not the name"),
    ({"request_header_allowlist": "Host"}, "request_header_allowlist: 'host' belongs to the connection"),
    ({"request_header_allowlist": "Transfer-Encoding"}, "request_header_allowlist: 'transfer-encoding' belongs to"),
    (
        {"request_header_allowlist": "Authorization"},
        "request_header_allowlist: 'authorization' authenticates the dataset",
    ),
    (
        {"request_header_allowlist": "x-token", "auth_header_name": "X-Token"},
        "request_header_allowlist: 'x-token' authenticates",
    ),
    ({"max_request_query_length": "4097"}, "max_request_query_length: found 4097; allowed: 1 to 4096"),
    ({"max_request_query_length": "0"}, "max_request_query_length: found 0"),
    ({"max_request_body_bytes": "65537"}, "max_request_body_bytes: found 65537; allowed: 1 to 65536"),
    ({"max_request_headers_length": "65537"}, "max_request_headers_length: found 65537"),
    ({"max_request_partitions": "0"}, "max_request_partitions: found 0; allowed: whole numbers from 1"),
    ({"pagination": "sometimes"}, "pagination: found 'sometimes'; allowed: auto, enabled, disabled"),
    ({"pagination_max_pages": "0"}, "pagination_max_pages: found 0"),
    ({"pagination_max_pages": "all"}, "pagination_max_pages: 'all' is not a whole number"),
    ({"pagination_next_pointer": "next"}, "pagination_next_pointer: found 'next'; a JSON pointer starts with '/'"),
    ({"pagination_data_pointer": "/a~2"}, "pagination_data_pointer: .*~0"),
    ({"pagination_token_param": "cursor"}, "pagination_token_param: this needs pagination_next_pointer"),
    ({"pagination_page_size": "10"}, "pagination_page_size: this needs pagination_query_params"),
    ({"pagination_query_params": "page={page}"}, "pagination_query_params: this needs pagination_page_size"),
    (
        {"pagination_query_params": "limit={limit}", "pagination_page_size": "5"},
        r"pagination_query_params: it needs \{offset\} or \{page\}",
    ),
    (
        {"pagination_query_params": "page={pages}", "pagination_page_size": "5"},
        r"pagination_query_params: there is no \{pages\}",
    ),
    (
        {"pagination_query_params": "page={page}", "pagination_page_size": "0"},
        "pagination_page_size: found 0",
    ),
    (
        {"pagination_query_params": "page={page}", "pagination_page_size": "5", "pagination_next_pointer": "/next"},
        "pagination_query_params: pagination_next_pointer is set as well",
    ),
    (
        {"pagination_query_params": "page={page}", "pagination_page_size": "5", "pagination_token_param": "t"},
        "pagination_query_params: pagination_token_param is set as well",
    ),
]


@pytest.mark.parametrize(("given", "why"), WRONG, ids=range(len(WRONG)))
def test_a_parameter_that_can_not_be_is_named(given, why):
    with pytest.raises(ConfigError, match=r"datasets\[api\]\.params\." + why):
        read_api(dataset("http://h/"), params(given), parse_address("http://h/"), ["authorization", "x-token"])


def test_how_pages_follow_each_other():
    assert read_paging(params({"pagination": "disabled", "pagination_data_pointer": "/a"})) == NO_PAGING
    assert read_paging(
        params(
            {
                "pagination_next_pointer": "/meta/next",
                "pagination_token_param": "cursor",
                "pagination_link_header": "disabled",
                "pagination_data_pointer": "/data",
                "pagination_data_map_to_array": "enabled",
                "pagination_max_pages": "NoLimit",
            }
        )
    ) == Paging(
        link_header=False,
        next_pointer=("meta", "next"),
        token_param="cursor",
        max_pages=None,
        data_pointer=("data",),
        map_to_array=True,
    )
    counted = params({"pagination_query_params": "page={page}", "pagination_page_size": "5"})
    assert read_paging(counted) == Paging(query_params="page={page}", page_size=5)
