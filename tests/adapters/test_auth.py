"""Keys: suffixes, rotation, what is never shown."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.config.model import ApiKeyAuth
from caraway.errors import ConfigError
from caraway.events import ApiKeyUnusable, Event
from caraway.model import Principal, Secret
from caraway.servers.auth import PUBLIC, REREAD_AFTER, Authenticator, split_suffix


def plain(text: str) -> Secret:
    return Secret(text)


def ignore(_event: Event) -> None:
    pass


def id_of(key: str) -> str:
    return f"apikey:{sha256(key.encode()).hexdigest()[:16]}"


@pytest.mark.parametrize(
    ("written", "key", "write"),
    [
        ("abc", "abc", False),
        ("abc:ro", "abc", False),
        ("abc:rw", "abc", True),
        ("abc:admin", "abc:admin", False),
        ("a:b:rw", "a:b", True),
        ("rw", "rw", False),
        ("abc:rw:ro", "abc:rw", False),
        ("schlüssel:rw", "schlüssel", True),
    ],
)
def test_suffix_says_what_a_key_may(written: str, key: str, write: bool) -> None:
    assert split_suffix(written) == (key, write)
    auth = Authenticator(ApiKeyAuth(keys=(written,)), plain, emit=ignore)
    assert auth.required
    assert auth.authenticate(key) == Principal(id_of(key), write=write)


@pytest.mark.parametrize("auth", [None, ApiKeyAuth(enabled=False, keys=("abc",))])
def test_without_keys_everybody_may_do_everything(auth: ApiKeyAuth | None) -> None:
    authenticator = Authenticator(auth, plain, emit=ignore)
    assert not authenticator.required
    assert authenticator.admit(None) == PUBLIC
    assert authenticator.admit("whatever") == PUBLIC


@pytest.mark.parametrize("key", [None, "", "ab", "abcd", "ABC", "abc:ro", ":ro", "\udcff"])
def test_other_keys_admit_nobody(key: str | None) -> None:
    assert Authenticator(ApiKeyAuth(keys=("abc:ro", "", ":rw")), plain, emit=ignore).admit(key) is None


def test_a_configuration_without_keys_locks_the_door() -> None:
    auth = Authenticator(ApiKeyAuth(keys=()), plain, emit=ignore)
    assert auth.required
    assert auth.admit("") is None


def test_the_same_key_twice_may_what_either_may() -> None:
    auth = Authenticator(ApiKeyAuth(keys=("abc:rw", "abc:ro")), plain, emit=ignore)
    assert auth.authenticate("abc") == Principal(id_of("abc"), write=True)


def test_a_rotated_secret_counts_soon_and_a_missing_one_hurts_nobody_else() -> None:
    store = {"${secrets:A}": "first:rw"}
    told: list[Event] = []
    now = 0.0

    def resolve(text: str) -> Secret:
        if text.startswith("$") and text not in store:
            raise ConfigError("secret A is not in store env")
        return Secret(store.get(text, text))

    auth = Authenticator(ApiKeyAuth(keys=("${secrets:A}", "fixed")), resolve, emit=told.append, clock=lambda: now)
    assert auth.authenticate("first") == Principal(id_of("first"), write=True)
    store["${secrets:A}"] = "second"
    assert auth.authenticate("second") is None
    now += REREAD_AFTER + 0.1
    assert auth.authenticate("first") is None
    assert auth.authenticate("second") == Principal(id_of("second"))
    store.clear()
    assert told == []
    for _ in range(3):
        now += REREAD_AFTER + 0.1
        assert auth.authenticate("second") is None
        assert auth.authenticate("fixed") == Principal(id_of("fixed"))
    complaint = ApiKeyUnusable("runtime.auth.api-key.keys[0]", "secret A is not in store env")
    assert told == [complaint]
    store["${secrets:A}"] = ""
    now += REREAD_AFTER + 0.1
    assert auth.authenticate("") is None
    assert told == [complaint, ApiKeyUnusable("runtime.auth.api-key.keys[0]", "it is empty")]


def test_repr_holds_no_key() -> None:
    auth = Authenticator(ApiKeyAuth(keys=("hunter2:rw",)), plain, emit=ignore)
    auth.authenticate("hunter2")
    assert "hunter2" not in f"{auth!r} {vars(auth).get('_read')}"


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=20), max_size=4))
def test_only_configured_keys_pass(presented: str, written: list[str]) -> None:
    auth = Authenticator(ApiKeyAuth(keys=tuple(written)), plain, emit=ignore)
    keys = {split_suffix(text)[0] for text in written} - {""}
    encodable = not any("\ud800" <= c <= "\udfff" for c in presented)
    assert encodable
    assert (auth.authenticate(presented) is not None) == (presented in keys)
