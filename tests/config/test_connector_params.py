"""A connector's parameters: resolved, checked, and silent about secrets."""

import traceback

import pytest

from caraway.config.params import ConnectorParams
from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.secrets import Secrets


class Store:
    def __init__(self, **values: str) -> None:
        self.values = values

    def get(self, key: str) -> Secret | None:
        return Secret(self.values[key]) if key in self.values else None


def params(store: Store | None = None, **values: str) -> ConnectorParams:
    return ConnectorParams(values, Secrets({"env": store or Store()}), "orders")


def test_each_getter_gives_a_value_or_the_default() -> None:
    found = params(t="x", f="enabled", i="-3", d="1m30s", s="4MB")
    assert (found.text("t"), found.flag("f", False), found.integer("i")) == ("x", True, -3)
    assert (found.duration("d"), found.size("s")) == (90.0, 4_000_000)
    assert (found.text("x", "y"), found.flag("x", True), found.integer("x", 7)) == ("y", True, 7)
    assert (found.text("x"), found.integer("x"), found.duration("x", 1.5), found.size("x", 9)) == (None, None, 1.5, 9)
    assert found.has("t")
    assert not found.has("x")


def test_text_resolves_secrets_and_rotation_needs_no_new_object() -> None:
    store = Store(HOST="a", PORT="1")
    found = params(store, url="http://${env:HOST}:${secrets:PORT}")
    assert found.text("url") == "http://a:1"
    store.values["HOST"] = "b"
    assert found.text("url") == "http://b:1"


def test_a_secret_is_the_parameter_or_else_what_a_store_has_by_its_name() -> None:
    store = Store(spiceai_api_key="auto", K="named")
    assert params(store).secret("spiceai_api_key") == Secret("auto")
    assert params(store, spiceai_api_key="${env:K}").secret("spiceai_api_key") == Secret("named")
    assert params(store, spiceai_api_key="plain").secret("spiceai_api_key") == Secret("plain")
    assert params().secret("spiceai_api_key") is None


@pytest.mark.parametrize(
    ("getter", "text", "message"),
    [
        ("integer", "x", "'x' is not a whole number"),
        ("integer", "1" * 20, "is not a whole number"),
        ("duration", "10 s", "'10 s' is not a duration such as 30s or 1h30m"),
        ("size", "4XB", "'4XB' is not a size such as 512KB or 4MB"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_dataset_and_parameter(getter: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        getattr(params(p=text), getter)("p")
    assert caught.value.problems[0].key == "datasets[orders].params.p"


def test_a_wrong_flag_is_an_error_that_lists_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"datasets\[orders\].params.p: 'on' is not a flag; allowed: true, false"):
        params(p="on").flag("p", True)


def test_a_missing_secret_is_an_error_at_the_parameter() -> None:
    with pytest.raises(ConfigError, match=r"datasets\[orders\].params.p: \$\{env:K\}: the secret 'K' was not found"):
        params(p="${env:K}").text("p")


def test_a_wrong_value_that_came_from_a_secret_is_not_shown() -> None:
    found = params(Store(K="hunter2"), p="${env:K}")
    with pytest.raises(ConfigError, match="the secret is not a whole number") as caught:
        found.integer("p")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert "hunter2" not in repr(found)
