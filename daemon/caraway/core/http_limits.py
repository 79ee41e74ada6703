"""How much, how long and how many an HTTP server takes; every bound of a connection is here."""

from dataclasses import dataclass

KIB, MIB = 1024, 1024**2


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes in bytes, times in seconds. The body limits are those of reference/http_api.md 0."""

    connections: int = 2000
    """Open at once; a further one takes the place of the longest idle, or waits in the listen queue if all are busy."""
    pipelined: int = 32
    """Requests of one connection that wait behind the one being answered, before reading from it stops."""
    head_bytes: int = 64 * KIB
    headers: int = 100
    body_bytes: int = 128 * MIB
    small_body_bytes: int = 128 * KIB
    small_body_paths: frozenset[str] = frozenset({"/health", "/v1/ready"})
    buffer_bytes: int = 256 * KIB
    """Received but not yet taken by a handler, before reading from the connection stops."""
    head_seconds: float = 10.0
    """From the first byte of a request, or the opening of the connection, to the end of the header."""
    idle_seconds: float = 75.0
    """Between two requests."""
    body_idle_seconds: float = 30.0
    body_bytes_per_second: float = 1 * KIB
    """The least average rate of a body, after `body_idle_seconds` of grace: a byte now and then does not do."""
    write_stall_seconds: float = 30.0
    """Without the client taking a byte."""
    half_close_seconds: float = 0.25
    """What a request may still take after its client has closed its sending side, or all: the two look alike."""
    linger_seconds: float = 2.0
    """Reading on after a refusal, so that the client gets to read it before the connection is reset."""

    def body_limit(self, path: str) -> int:
        return self.small_body_bytes if path in self.small_body_paths else self.body_bytes

    def body_deadline(self, started: float, received: int, now: float) -> float:
        """When to give up on a body of which `received` bytes came since `started`."""
        slowest = started + self.body_idle_seconds + received / self.body_bytes_per_second
        return min(now + self.body_idle_seconds, slowest)
