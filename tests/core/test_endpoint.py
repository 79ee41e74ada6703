"""Where a spice.ai dataset is read: the table of forms, precedence, regions and named errors."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.core.endpoint import Endpoint, EndpointParams, parse_endpoint, resolve_upstream
from caraway.errors import ConfigError

US = Endpoint("us-east-1-prod-aws-flight.spiceai.io", 443, tls=True)
LOCAL = Endpoint("h", 1, tls=False)
ORG = (("spiceai-org", "org"), ("spiceai-app", "app"))
NONE = EndpointParams()
REGION = EndpointParams(region="us-east-1")


def at(url, **more):
    return EndpointParams(endpoint=url, **more)


@pytest.mark.parametrize(
    ("path", "dataset", "params", "endpoint", "table", "headers"),
    [
        ("org/app/datasets/trips", "local", REGION, US, ("trips",), ORG),
        ("org/app/datasets/s.trips", "local", REGION, US, ("s", "trips"), ORG),
        ("org/app/tables/trips", "local", REGION, US, ("org/app/tables/trips",), ()),
        ("org/datasets/trips", "local", REGION, US, ("org/datasets/trips",), ()),
        ("trips", "local", REGION, US, ("trips",), ()),
        ("Sales.Orders", "local", REGION, US, ("sales", "orders"), ()),
        ('"Sales".Orders', "local", REGION, US, ("Sales", "orders"), ()),
        ("c.s.t", "local", REGION, US, ("c", "s", "t"), ()),
        ("a.b.c.d", "local", REGION, US, ("a.b.c.d",), ()),
        ("http://h:1", "sales.orders", NONE, LOCAL, ("sales", "orders"), ()),
        ("http://h:1", "My Table", NONE, LOCAL, ("My Table",), ()),
        ("http://h", "t", NONE, Endpoint("h", 80, tls=False), ("t",), ()),
        ("https://h", "t", NONE, Endpoint("h", 443, tls=True), ("t",), ()),
        ("grpc+tls://h:50051/", "t", NONE, Endpoint("h", 50051, tls=True), ("t",), ()),
        ("https://[::1]:50051", "t", NONE, Endpoint("::1", 50051, tls=True), ("t",), ()),
        ("http://other:2", "t", at("http://h:1"), LOCAL, ("t",), ()),
        ("up.stream", "t", at("http://h:1"), LOCAL, ("up", "stream"), ()),
        ("up", "t", EndpointParams(flight_endpoint="http://h:1"), LOCAL, ("up",), ()),
        ("up", "t", EndpointParams("http://h:1", "http://other:2"), LOCAL, ("up",), ()),
        ("up", "t", EndpointParams("", "http://h:1"), LOCAL, ("up",), ()),
        ("up", "t", at("http://h:1", region="Not A Region"), LOCAL, ("up",), ()),
        ("up", "t", at("https://flight.spiceai.io", region="us-east-1"), US, ("up",), ()),
        ("up", "t", at("https://us-east-1-prod-aws-flight.spiceai.io", region="us-east-1"), US, ("up",), ()),
    ],
)
def test_resolution(path, dataset, params, endpoint, table, headers):
    upstream = resolve_upstream(path, dataset, params)
    assert (upstream.endpoint, upstream.table, upstream.headers) == (endpoint, table, headers)
    assert upstream.cloud == (endpoint == US)


@pytest.mark.parametrize(
    ("path", "params", "key", "problem"),
    [
        ("t", NONE, "params.spiceai_region", "MissingRequiredParameter: region"),
        ("t", EndpointParams(region=""), "params.spiceai_region", "MissingRequiredParameter: region"),
        ("t", EndpointParams(region="US-East"), "params.spiceai_region", "InvalidRegion"),
        ("t", EndpointParams(region="-a"), "params.spiceai_region", "InvalidRegion"),
        ("t", EndpointParams(region="a\n"), "params.spiceai_region", "InvalidRegion"),
        ("grpc://h:1", NONE, "from", "UnsupportedEndpointScheme"),
        ("t", at("grpc://h:1"), "params.spiceai_endpoint", "UnsupportedEndpointScheme"),
        ("t", EndpointParams(flight_endpoint="grpc://h:1"), "params.spiceai_flight_endpoint", "UnsupportedEndpoint"),
        ("t", at("ftp://h"), "params.spiceai_endpoint", "UnsupportedEndpointScheme: ftp://"),
        ("t", at("h:50051"), "params.spiceai_endpoint", "UnsupportedEndpointScheme: without a scheme"),
        ("t", at("grpc+tls://h"), "params.spiceai_endpoint", "InvalidPort"),
        ("t", at("https://"), "params.spiceai_endpoint", "InvalidParameterValue"),
        ("t", at("https://h:99999"), "params.spiceai_endpoint", "InvalidParameterValue"),
        ("http://h:1/some/table", NONE, "from", "InvalidParameterValue"),
        ("t", at("https://user:pa55@h"), "params.spiceai_endpoint", "InvalidParameterValue"),
        ("t", at("https://flight.spiceai.io"), "params.spiceai_region", "MissingRequiredParameter"),
        ("t", at("https://us-east-1-prod-aws-flight.spiceai.io"), "params.spiceai_region", "MissingRequired"),
        (
            "t",
            at("https://us-east-1-prod-aws-flight.spiceai.io", region="us-west-2"),
            "params.spiceai_region",
            "CloudEndpointRegionMismatch",
        ),
        ("örg/app/datasets/t", REGION, "from", "InvalidMetadataValue"),
        ("org/a\x01/datasets/t", REGION, "from", "InvalidMetadataValue"),
        ("", REGION, "from", "InvalidParameterValue"),
    ],
)
def test_problems_are_named_at_their_key(path, params, key, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        resolve_upstream(path, "local", params)
    assert caught.value.problems[0].key == key
    assert "pa55" not in str(caught.value)


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=40), st.text(max_size=20))
def test_any_text_resolves_or_is_a_config_error(path, dataset, endpoint, region):
    with suppress(ConfigError):
        upstream = resolve_upstream(path, dataset, EndpointParams(endpoint, None, region))
        assert parse_endpoint(str(upstream.endpoint)) == upstream.endpoint


@pytest.mark.parametrize("scheme", ["http://", "https://", "grpc+tls://"])
@given(st.text(max_size=30))
def test_any_text_behind_a_scheme(scheme, rest):
    with suppress(ConfigError):
        assert parse_endpoint(scheme + rest).host
