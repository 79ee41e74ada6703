"""Whether an endpoint can be reached at all, before Flight is tried: names and firewalls fail here, in plain words."""

import os
from typing import Any

import trio

from caraway.core.endpoint import Endpoint
from caraway.errors import SourceError

ADDRESS_SECONDS = 30.0


async def verify(endpoint: Endpoint) -> None:
    """Resolve the host and open a TCP connection to one of its addresses, in turn; SourceError if none answers."""
    failures = []
    for family, kind, protocol, _, address in await _addresses(endpoint):
        failure = await _attempt(trio.socket.socket(family, kind, protocol), address)
        if failure is None:
            return
        failures.append(f"{address[0]}: {failure}")
    raise _unreachable(endpoint, "; ".join(failures) or "the name has no address")


async def _addresses(endpoint: Endpoint) -> list[Any]:
    try:
        return list(await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=trio.socket.SOCK_STREAM))
    except OSError as error:
        raise _unreachable(endpoint, f"its name does not resolve ({error.strerror})") from error
    except UnicodeError as error:
        raise _unreachable(endpoint, "its name is not a host name") from error


async def _attempt(socket: trio.socket.SocketType, address: Any) -> str | None:
    """What prevents a connection, None if nothing does."""
    with socket, trio.move_on_after(ADDRESS_SECONDS):
        try:
            await socket.connect(address)
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
        return None
    return f"no answer within {ADDRESS_SECONDS:.0f} s"


def _unreachable(endpoint: Endpoint, why: str) -> SourceError:
    return SourceError(
        f"Failed to connect to {endpoint.address}: {why}.",
        remedy=f"Check that the name resolves, that the upstream listens there, and that no firewall holds back port "
        f"{endpoint.port}.",
        code="UnableToVerifyEndpointConnection",
    )
