"""Secrets: where they are found, how text refers to them, and that they show nowhere."""

import copy
import json
import logging
import os
import pickle
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.errors import ConfigError
from caraway.model import Secret
from caraway.secrets import EnvStore, FileStore, Reference, Secrets, open_store, references
from caraway.secrets.dotenv import parse_dotenv
from support.fuzz import fuzz

VALUE = "hunter2-\u00fc"


@dataclass(frozen=True)
class Fixed:
    """A store with these values."""

    values: dict[str, str]

    def get(self, key: str) -> Secret | None:
        return Secret(self.values[key]) if key in self.values else None


# --- references


REFERENCES = [
    ("plain", ()),
    ("${secrets:KEY}", (Reference("secrets", "KEY"),)),
    ("${ env:KEY }", (Reference("env", "KEY"),)),
    ("${  my-store : a.b-c  }", (Reference("my-store", "a.b-c"),)),
    ("mysql://${env:U}:${env:P}@h", (Reference("env", "U"), Reference("env", "P"))),
    ("${KEY} $KEY $${ {env:K} ${env:} ${:K} ${env:a b} ${env", ()),
]


@pytest.mark.parametrize(("text", "expected"), REFERENCES)
def test_a_reference_names_a_store_and_a_key(text: str, expected: tuple[Reference, ...]) -> None:
    assert references(text) == expected


def test_every_reference_of_a_text_is_replaced_once() -> None:
    secrets = Secrets({"a": Fixed({"U": "user", "P": "${a:U}"})})
    assert secrets.resolve("mysql://${a:U}:${ a:P }@h").reveal() == "mysql://user:${a:U}@h"


def test_the_store_declared_last_is_asked_first() -> None:
    secrets = Secrets({"env": Fixed({"K": "1", "J": "2"}), "file": Fixed({"K": "3"})})
    assert secrets.resolve("${secrets:K}").reveal() == "3"
    assert secrets.resolve("${secrets:J}").reveal() == "2"
    assert secrets.resolve("${env:K}").reveal() == "1"
    assert secrets.lookup("K") == Secret("3")
    assert secrets.lookup("missing") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("${env:K}", r"\$\{env:K\}: the secret 'K' was not found in store 'env'"),
        ("${secrets:K}", r"the secret 'K' was not found in any store \(env, file\)"),
        ("${vault:K}", r"no secret store is named 'vault'; declared: env, file"),
    ],
)
def test_a_missing_secret_is_an_error_that_names_store_and_key(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Secrets({"env": Fixed({}), "file": Fixed({})}).resolve(text)


# --- env


def test_the_environment_comes_before_the_dotenv_file_which_is_read_on_each_use(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    environ = {"A": "from env"}
    store = EnvStore(dotenv, environ)
    assert store.get("B") is None
    dotenv.write_text("A=from file\nB=first\n")
    assert (store.get("A"), store.get("B")) == (Secret("from env"), Secret("first"))
    dotenv.write_text("B=second\n")
    assert store.get("B") == Secret("second")
    environ["B"] = "third"
    assert store.get("B") == Secret("third")


@pytest.mark.parametrize(
    ("environ", "value"),
    [
        ({"spiceai_api_key": "1", "SPICEAI_API_KEY": "2"}, "1"),
        ({"SPICEAI_API_KEY": "2", "SPICE_SPICEAI_API_KEY": "3"}, "2"),
        ({"SPICE_SPICEAI_API_KEY": "3"}, "3"),
        ({"Spiceai_Api_Key": "4"}, None),
    ],
)
def test_a_key_is_looked_up_as_written_then_in_upper_case_then_prefixed(
    tmp_path: Path, environ: dict[str, str], value: str | None
) -> None:
    found = EnvStore(tmp_path / ".env", environ).get("spiceai_api_key")
    assert (found.reveal() if found else None) == value


DOTENV = [
    ("A=1", {"A": "1"}),
    ("A = 1 ", {"A": "1"}),
    ("export A=1", {"A": "1"}),
    ("# comment\n\n  # more\nA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("A=1 # comment", {"A": "1"}),
    ("A=1#2", {"A": "1#2"}),
    ("A=# comment", {"A": ""}),
    ("A=", {"A": ""}),
    ("A='1 # $x \\n'", {"A": "1 # $x \\n"}),
    ('A="1 # \\"q\\" \\n\\t\\\\"', {"A": '1 # "q" \n\t\\'}),
    ('A="two\nlines" # comment\nB=1', {"A": "two\nlines", "B": "1"}),
    ("A='two\nlines'", {"A": "two\nlines"}),
    ("A=b=c==", {"A": "b=c=="}),
    ("A=it's", {"A": "it's"}),
    ("A=1\nA=2", {"A": "1"}),
    ("a.b-c=1", {"a.b-c": "1"}),
]


@pytest.mark.parametrize(("text", "values"), DOTENV)
def test_a_dotenv_file_is_read_as_shells_write_it(text: str, values: dict[str, str]) -> None:
    assert parse_dotenv(text, ".env") == values


@pytest.mark.parametrize(
    ("text", "line"), [("A", 1), ("A=1\nB C=2", 2), ("A='x", 1), ("\n\nA='x'y", 3), ("=1", 1), ("1A=1", 1)]
)
def test_a_broken_line_is_named_and_not_quoted(text: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_dotenv(text, "/pod/.env")
    assert str(caught.value) == f"/pod/.env:{line}: this line is not KEY=VALUE"


@fuzz(25)
@given(st.text())
def test_any_dotenv_text_is_values_or_a_config_error(text: str) -> None:
    try:
        values = parse_dotenv(text, ".env")
    except ConfigError:
        return
    assert all(key for key in values)


@fuzz(25)
@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text().filter(lambda text: "\0" not in text)))
def test_quoted_values_survive(values: dict[str, str]) -> None:
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in values.items()}
    assert parse_dotenv("\n".join(f'{key}="{value}"' for key, value in quoted.items()), ".env") == values


# --- files


def test_a_file_holds_a_secret_and_loses_one_newline(tmp_path: Path) -> None:
    for name, text in {"a": "1\n", "b": "2\r\n", "c": "3\n\n", "d": "4", "E_F": "5"}.items():
        (tmp_path / name).write_bytes(text.encode())
    store = FileStore(tmp_path)
    found = {key: secret.reveal() for key in ("a", "b", "c", "d", "e_f") if (secret := store.get(key))}
    assert found == {"a": "1", "b": "2", "c": "3\n", "d": "4", "e_f": "5"}
    (tmp_path / "a").write_text("rotated")
    assert store.get("a") == Secret("rotated")


def test_secrets_mounted_by_kubernetes_are_links_inside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_22").mkdir()
    (tmp_path / "..2026_11_22" / "key").write_text("value")
    (tmp_path / "..data").symlink_to("..2026_11_22")
    (tmp_path / "key").symlink_to("..data/key")
    assert FileStore(tmp_path).get("key") == Secret("value")


@pytest.mark.parametrize(
    "key", ["../outside", "..", ".", "", "/etc/hostname", "sub/inner", "sub", "escape", "a\0b", "x" * 300]
)
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "inner").write_text("no")
    (tmp_path / "outside").write_text("no")
    (folder / "escape").symlink_to(tmp_path / "outside")
    assert FileStore(folder).get(key) is None


def test_a_file_that_is_no_text_or_too_large_is_an_error_without_its_contents(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    (tmp_path / "large").write_bytes(b"x" * (1024**2 + 1))
    for key, cause in (("binary", "not UTF-8"), ("large", "larger than")):
        with pytest.raises(ConfigError, match=cause) as caught:
            FileStore(tmp_path).get(key)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None


def test_what_is_no_file_is_no_secret_and_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert FileStore(tmp_path).get("pipe") is None
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="loop can't be read: Too many levels of symbolic links"):
        FileStore(tmp_path).get("loop")


def test_a_folder_that_comes_later_is_found_later(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "late")
    assert store.get("key") is None
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "key").write_text("value")
    assert store.get("key") == Secret("value")


# --- opening


def test_stores_are_opened_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "K").write_text("1")
    (tmp_path / ".env").write_text("caraway_test_only=2")
    assert open_store("file", {"path": "creds"}, tmp_path).get("K") == Secret("1")
    assert open_store("env", {}, tmp_path).get("caraway_test_only") == Secret("2")
    with pytest.raises(ConfigError, match=r"params\.path"):
        open_store("file", {}, tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "creds"))
    assert open_store("file", {}, tmp_path).get("K") == Secret("1")
    with pytest.raises(ConfigError, match="'vault' is not available in this version; available: env, file"):
        open_store("vault", {}, tmp_path)


# --- that they show nowhere


@dataclass(frozen=True, slots=True)
class Holder:
    key: Secret
    others: tuple[Secret, ...]


def test_a_secret_shows_in_no_text() -> None:
    secret = Secret(VALUE)
    holder = Holder(secret, (secret,))
    shown = [
        repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:^30}",
        repr(holder), repr([secret]), repr({"k": secret}), repr({secret: 1}),
        ascii(secret), str(ConfigError(f"{secret}")), str(ValueError(secret)),
    ]  # fmt: skip
    assert not [text for text in shown if "hunter" in text]
    assert all("***" in text for text in shown)


def test_a_secret_is_not_serialised() -> None:
    for dump in (json.dumps, orjson.dumps, pickle.dumps, copy.deepcopy, asdict):
        with pytest.raises(TypeError) as caught:
            dump(Holder(Secret(VALUE), ()))
        assert "hunter" not in str(caught.value)


def test_a_secret_has_no_attributes_to_find_it_by() -> None:
    secret = Secret(VALUE)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        iter(secret)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        len(secret)  # type: ignore[arg-type]


def test_a_secret_shows_in_no_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(VALUE)

    def fail(key: Secret) -> None:
        raise RuntimeError(f"can't log in with {key}")

    try:
        fail(secret)
    except RuntimeError as error:
        logging.getLogger("caraway.test").exception("failed with %s", secret)
        stack = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "hunter" not in "".join(stack.format())
    assert "hunter" not in caplog.text
    assert "Secret(***)" in caplog.text


def test_equality_is_by_value_and_only_with_secrets() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1
