"""A daemon as the commands see it: HTTP requests, and failures in words."""

import argparse
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from caraway.cli.errors import CliError
from caraway.cli.main import DEFAULT_ADDRESS, DEFAULT_ENDPOINT

UNAUTHORIZED = "ERROR unauthorized: invalid or missing Spice API key. Pass --api-key or set SPICE_API_KEY."
CONNECT_SECONDS = 5.0


class Client:
    """Requests to one daemon; every failure is a CliError. Leaving the context closes the connection."""

    def __init__(self, endpoint: str, *, api_key: str | None = None, root_certificate: Path | None = None) -> None:
        self.endpoint = endpoint
        self._http = httpx2.Client(
            base_url=endpoint,
            headers={"X-API-Key": api_key} if api_key else {},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            verify=_tls(root_certificate),
            trust_env=False,  # a proxy does not know this machine's loopback
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: str) -> Any:
        """The JSON that a path answers."""
        with self._explained():
            return _checked(self._http.get(path, params=params)).json()

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        with self._explained():
            return _checked(self._http.post(path, json=dict(body))).json()

    @contextmanager
    def ask(self, sql: str, accept: str, cache_control: str = "") -> Iterator[httpx2.Response]:
        """A query's answer while it streams; leaving the context early cancels the query."""
        headers = {"Accept": accept, "Content-Type": "text/plain; charset=utf-8"}
        if cache_control:
            headers["Cache-Control"] = cache_control
        with (
            self._explained(),
            self._http.stream("POST", "/v1/sql", content=sql.encode(), headers=headers) as response,
        ):
            if response.is_error:
                response.read()
            yield _checked(response)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError as error:
            raise CliError(_unreached(self.endpoint, str(error))) from error
        except httpx2.TimeoutException as error:
            raise CliError(f"{self.endpoint} did not answer in time.") from error
        except httpx2.RemoteProtocolError as error:
            raise CliError(_cut_off(self.endpoint, str(error))) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise CliError(f"The request to {self.endpoint} failed: {error}.") from error
        except json.JSONDecodeError as error:
            raise CliError(f"{self.endpoint} answered something else than JSON: is it a caraway?") from error


def connect(options: argparse.Namespace) -> Client:
    """The client that a verb's options ask for."""
    endpoint = options.endpoint or _endpoint(options.data_dir, secure=options.tls_root_certificate_file is not None)
    if not endpoint.startswith(("http://", "https://")):
        raise CliError(
            f"The endpoint {endpoint!r} is not an address like {DEFAULT_ENDPOINT}; these commands speak HTTP."
        )
    key = options.api_key or os.environ.get("SPICE_API_KEY")
    return Client(endpoint.rstrip("/"), api_key=key, root_certificate=options.tls_root_certificate_file)


def _endpoint(data_dir: Path | None, *, secure: bool) -> str:
    address = DEFAULT_ADDRESS if data_dir is None else _address_in(data_dir)
    return f"{'https' if secure else 'http'}://{address}"


def _address_in(data_dir: Path) -> str:
    try:
        return str(json.loads((data_dir / "endpoints.json").read_text())["http"])
    except FileNotFoundError as error:
        raise CliError(f"No caraway runs with the data directory {data_dir}: it has no endpoints.json.") from error
    except (OSError, ValueError, KeyError) as error:
        raise CliError(f"The addresses in {data_dir}/endpoints.json can't be read ({error}).") from error


def _unreached(endpoint: str, cause: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return f"The certificate of {endpoint} is not trusted ({cause}). Pass its CA: --tls-root-certificate-file PEM."
    return (
        f"No caraway answers at {endpoint} ({cause}). "
        "Start one with `caraway run`, or name it with --http-endpoint or --data-dir."
    )


def _cut_off(endpoint: str, cause: str) -> str:
    hint = " If it serves TLS, pass --tls-root-certificate-file." if endpoint.startswith("http://") else ""
    return f"{endpoint} ended the answer before its end: {cause.rstrip('.')}.{hint}"


def _tls(root_certificate: Path | None) -> ssl.SSLContext | bool:
    if root_certificate is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(root_certificate))
    except (OSError, ssl.SSLError) as error:
        raise CliError(f"The certificate file {root_certificate} can't be used: {error}.") from error


def _checked(response: httpx2.Response) -> httpx2.Response:
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        raise CliError(UNAUTHORIZED)
    if response.is_error:
        raise CliError(_words(response))
    return response


def _words(response: httpx2.Response) -> str:
    """What the server says in its body: {"message": ..}, or text."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    said = body.get("message") or body.get("error") if isinstance(body, dict) else body
    return str(said) if said else f"The server answered {response.status_code} {response.reason_phrase}."
