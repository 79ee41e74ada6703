"""OAuth2 access tokens (RFC 6749 4.4 and 6): fetched when first needed, renewed a minute before they end.

none ──▶ fetched ──(a minute before its end, or refused by the API)──▶ renewed ──▶ ..
"""

import base64
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import orjson
import trio

from caraway.config.params import ConnectorParams
from caraway.connectors.http.transport.headers import Headers, given
from caraway.core.http_fields import OF_THE_CONNECTION, TOKEN
from caraway.core.http_retry import is_transient
from caraway.core.http_urls import place_of
from caraway.errors import SourceError
from caraway.model import HttpRequest, HttpResponse, Secret
from caraway.ports import Send

EARLY = 60.0
"""Seconds before its end that a token is renewed; of a short-lived one, half its life."""
LIFETIME = 3600.0
"""Seconds; of a token whose server does not tell."""
RECHECK = 30.0
"""Seconds that a refusal holds: who asks again and again with a wrong secret is locked out."""
PATIENCE = 30.0
"""Seconds for a token, with all retries."""
LONGEST_BODY = 512
"""Bytes of a refusal that are shown."""
_CHECK = "Check auth_token_url, auth_grant_type, auth_scopes, auth_client_auth and the secrets of http_auth_*."
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


E = TypeVar("E", bound=Enum)


class Grant(Enum):
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant


class ClientAuth(Enum):
    BASIC = "basic"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class OAuth:
    """How tokens are had, and the header (in lower case) that takes them."""

    url: str
    grant: Grant
    client_id: str | None
    client_secret: Secret | None
    refresh_token: Secret | None = None
    scopes: str = ""
    client_auth: ClientAuth = ClientAuth.BASIC
    header: str = "authorization"

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    def credentials(self, token: Secret) -> tuple[str, str]:
        """The header line that shows a token; only Authorization has a scheme."""
        return self.header, f"Bearer {token.reveal()}" if self.header == "authorization" else token.reveal()


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token server gave; `seconds` from the request on."""

    token: Secret
    seconds: float
    refresh_token: Secret | None = None


_PARAMETERS = (
    "auth_grant_type",
    "http_auth_refresh_token",
    "http_auth_client_id",
    "http_auth_client_secret",
    "auth_scopes",
    "auth_client_auth",
    "auth_header_name",
)


def read_oauth(params: ConnectorParams, headers: Headers) -> OAuth | None:
    """What the parameters say; None where they say nothing. ConfigError."""
    url = params.text("auth_token_url")
    if not url:
        for name in _PARAMETERS:
            if params.has(name):
                raise params.wrong(name, "auth_token_url is not set, which says where tokens come from")
        return None
    refresh_token = given(params, "http_auth_refresh_token")
    usual = Grant.REFRESH_TOKEN if refresh_token is not None else Grant.CLIENT_CREDENTIALS
    oauth = OAuth(
        url,
        _choice(params, "auth_grant_type", Grant, usual),
        params.text("http_auth_client_id") or None,
        given(params, "http_auth_client_secret"),
        refresh_token,
        params.text("auth_scopes", "").replace(",", " ").strip(),
        _choice(params, "auth_client_auth", ClientAuth, ClientAuth.BASIC),
        params.text("auth_header_name", "Authorization").lower(),
    )
    _check(params, oauth, headers)
    return oauth


class Tokens:
    """The token of one dataset. One fetch at a time; who waits for it gets what it brought, a failure as well."""

    def __init__(self, oauth: OAuth, send: Send) -> None:
        self._oauth = oauth
        self._send = send
        self._refresh_token = oauth.refresh_token
        self._token: Secret | None = None
        self._ends = self._due = 0.0
        self._failure: _Failure | None = None
        self._vain: Secret | None = None
        self._door = trio.CapacityLimiter(1)

    async def get(self) -> Secret:
        """A token that is good for now; SourceError where there is none."""
        token, now = self._token, trio.current_time()
        if token is None or now >= self._ends:
            return await self.renew(token)
        if now >= self._due and not self._door.borrowed_tokens:
            with suppress(SourceError):  # it is good for a while, in which this is tried again
                return await self.renew(token)
        return token

    async def renew(self, old: Secret | None) -> Secret:
        """Another token than the `old` one; SourceError."""
        async with self._door:
            if self._token is not None and self._token is not old:
                return self._token
            if self._failure is not None and trio.current_time() < self._failure.until:
                raise self._failure.last.again()
            try:
                return await self._fetch()
            except SourceError as error:
                self._failure = _Failure(error, trio.current_time() + (error.retry_after or 1.0))
                raise

    def may_renew(self, refused: Secret) -> bool:
        """Whether another token than the one that the API refused may help: not where a new one did not, before."""
        return refused is not self._vain

    def in_vain(self, refused: Secret) -> None:
        """The API refused a token that was new: it is not the token's age."""
        self._vain = refused

    async def _fetch(self) -> Secret:
        """Cancelled only where nothing is lost by it: with a renewed refresh token its predecessor is often void."""
        asked = trio.current_time()
        with trio.move_on_after(PATIENCE, shield=self._oauth.grant is Grant.REFRESH_TOKEN) as scope:
            response = await self._send(token_request(self._oauth, self._refresh_token))
        if scope.cancelled_caught:
            raise self._error(f"did not answer within {PATIENCE:.0f} s", "It is tried again.")
        granted = self._read(response)
        self._refresh_token = granted.refresh_token or self._refresh_token
        self._token, self._ends, self._failure = granted.token, asked + granted.seconds, None
        self._due = self._ends - min(EARLY, granted.seconds / 2)
        return granted.token

    def _read(self, response: HttpResponse) -> Granted:
        if response.status != 200:
            raise self._refused(response)
        try:
            return read_grant(response.body)
        except ValueError as error:
            raise self._error(f"answered with no token that can be used: {error}", _CHECK) from None

    def _refused(self, response: HttpResponse) -> SourceError:
        said = f"answered {response.status} ({self._said(response.body)})"
        if is_transient(response.status):
            return self._error(said, "It is tried again.")
        return self._error(said, _CHECK, retry_after=RECHECK, code="InvalidConfiguration")

    def _said(self, body: bytes) -> str:
        """What a refusal says, without what it may repeat of our secrets."""
        words = body[:LONGEST_BODY].decode("utf-8", "replace")
        for secret in (self._oauth.client_secret, self._refresh_token):
            if secret is not None:
                words = words.replace(secret.reveal(), "***").replace(quote_plus(secret.reveal()), "***")
        return "".join(letter if letter.isprintable() else " " for letter in words).strip() or "without a word"

    def _error(
        self, what: str, remedy: str, *, retry_after: float | None = None, code: str = "UnableToConnectToServer"
    ) -> SourceError:
        place = place_of(self._oauth.url)
        return SourceError(f"The token server {place} {what}.", remedy=remedy, retry_after=retry_after, code=code)

    def __repr__(self) -> str:
        return f"<Tokens of {place_of(self._oauth.url)}>"


@dataclass(frozen=True, slots=True)
class _Failure:
    """What every request is told until a moment, so that they do not all ask."""

    last: SourceError
    until: float


def token_request(oauth: OAuth, refresh_token: Secret | None) -> HttpRequest:
    """What asks for a token."""
    form = {"grant_type": oauth.grant.value}
    if oauth.grant is Grant.REFRESH_TOKEN and refresh_token is not None:
        form["refresh_token"] = refresh_token.reveal()
    if oauth.scopes:
        form["scope"] = oauth.scopes
    headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
    client, secret = oauth.client_id or "", oauth.client_secret
    if secret is not None and oauth.client_auth is ClientAuth.BASIC:
        word = f"{quote_plus(client)}:{quote_plus(secret.reveal())}"  # RFC 6749 2.3.1
        headers.append(("authorization", f"Basic {base64.b64encode(word.encode()).decode()}"))
    elif client:
        form["client_id"] = client
        form |= {"client_secret": secret.reveal()} if secret is not None else {}
    return HttpRequest("POST", oauth.url, tuple(headers), urlencode(form).encode())


def read_grant(body: bytes) -> Granted:
    """RFC 6749 5.1; ValueError says what is wrong, without what was sent."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    told = document if isinstance(document, dict) else {}
    token, kind = told.get("access_token"), told.get("token_type", "Bearer")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise ValueError("it has no access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise ValueError("its token_type is not Bearer")
    fresh = told.get("refresh_token")
    return Granted(Secret(token), _lifetime(told.get("expires_in")), Secret(fresh) if isinstance(fresh, str) else None)


def _lifetime(said: object) -> float:
    """Seconds, which some servers tell as text."""
    text = str(said)
    return float(text) if text.replace(".", "", 1).isdigit() and text.isascii() else LIFETIME


def _check(params: ConnectorParams, oauth: OAuth, headers: Headers) -> None:
    mistake = _mistake(oauth.url)
    if mistake:
        raise params.wrong("auth_token_url", mistake)
    needed = {"http_auth_client_id": oauth.client_id, "http_auth_client_secret": oauth.client_secret}
    if oauth.grant is Grant.REFRESH_TOKEN:
        needed = {"http_auth_refresh_token": oauth.refresh_token}
        needed |= {"http_auth_client_id": oauth.client_id} if oauth.client_secret is not None else {}
    for name, value in needed.items():
        if value is None:
            raise params.wrong(name, f"the grant type {oauth.grant.value} needs it")
    if not re.fullmatch(TOKEN, oauth.header) or oauth.header in OF_THE_CONNECTION:
        raise params.wrong("auth_header_name", f"{oauth.header!r} is no header that can take a token")
    if any(name == oauth.header for name, _ in headers):
        raise params.wrong("http_headers", f"{oauth.header} gets the token of auth_token_url; leave it out here")


def _mistake(url: str) -> str:
    """What is wrong with the address of a token server; it is not repeated, since it may hold what is secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "this is not an address"
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        return "this must be an https:// address; http:// is for this machine alone"
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        return "this is not an address: it needs a host, and no spaces or unusual characters"
    return "it can't name a user; set http_auth_client_id and http_auth_client_secret" if "@" in parts.netloc else ""


def _choice(params: ConnectorParams, name: str, kind: type[E], default: E) -> E:
    text = params.text(name)
    if not text:
        return default
    try:
        return kind(text.lower())
    except ValueError:
        raise params.wrong(name, f"{text!r}; allowed: {', '.join(str(one.value) for one in kind)}") from None
