"""Headers that go with each request of a dataset, Basic authentication among them; none shows in an error."""

import base64
import re
from urllib.parse import SplitResult, unquote

from caraway.config.params import ConnectorParams
from caraway.core.http_fields import OF_THE_CONNECTION, TOKEN
from caraway.model import Secret

Headers = tuple[tuple[str, Secret], ...]
"""Names in lower case."""

_SEPARATOR = re.compile(rf"\r?\n|[,;]\s*(?={TOKEN}\s*:)")
"""A comma or semicolon within a value is followed by no name."""


def read_headers(params: ConnectorParams) -> Headers:
    """`http_headers`: `Name: value` with lines, commas or semicolons between. ConfigError, without the values."""
    written = given(params, "http_headers")
    lines = _SEPARATOR.split(written.reveal()) if written is not None else []
    return tuple(_header(params, line) for line in lines if line.strip())


def basic_header(params: ConnectorParams, url: SplitResult, headers: Headers) -> Headers:
    """The header of Basic authentication where a user is named, in the address or apart. ConfigError."""
    user, password = _credentials(params, url)
    if user is None:
        return ()
    if any(name == "authorization" for name, _ in headers):
        raise params.wrong("http_username", "http_headers has an Authorization as well; use one of them")
    if params.text("auth_token_url"):
        raise params.wrong("http_username", "auth_token_url is set as well; use one way to authenticate")
    word = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
    return (("authorization", Secret(f"Basic {word}")),)


def given(params: ConnectorParams, name: str) -> Secret | None:
    """A secret parameter that is set and not empty; unlike others these are not looked for in the stores by name."""
    secret = params.secret(name) if params.has(name) else None
    return secret if secret is not None and secret.reveal() else None


def _credentials(params: ConnectorParams, url: SplitResult) -> tuple[str | None, Secret]:
    name, password = given(params, "http_username"), given(params, "http_password")
    if url.username and name is not None:
        raise params.wrong("http_username", "the address in `from` names a user as well; name it once")
    if url.password and password is not None:
        raise params.wrong("http_password", "the address in `from` has a password as well; set it here alone")
    user = unquote(url.username or "") or (name.reveal() if name is not None else None)
    if user is None and password is not None:
        raise params.wrong("http_password", "http_username is not set; a password needs a user")
    if user is not None and ":" in user:
        raise params.wrong("http_username", "the name of a user can't have a colon")
    return user, password or Secret(unquote(url.password or ""))


def _header(params: ConnectorParams, line: str) -> tuple[str, Secret]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon or not re.fullmatch(TOKEN, name):
        raise params.wrong("http_headers", "each part is a header, `Name: value`")
    if name.lower() in OF_THE_CONNECTION:
        raise params.wrong("http_headers", f"{name} is set by the connection itself")
    if not value.isascii() or not value.isprintable():
        raise params.wrong("http_headers", f"the value of {name} has characters that a header can't have")
    return name.lower(), Secret(value)
