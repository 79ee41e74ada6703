"""Who shook hands: session ids and the keys they stand for (reference/flight_wire.md 1)."""

from collections import OrderedDict
from uuid import uuid4

MAX_SESSIONS = 10_000
IDLE_SECONDS = 3600.0


class Sessions:
    """At most `MAX_SESSIONS`, the least recently used first to go; each ends after an hour without use."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, key: str, now: float) -> str:
        """A new session for a key that was accepted."""
        session = str(uuid4())
        self._sessions[session] = (key, now)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def key(self, session: str, now: float) -> str | None:
        """The key behind a live session; using it keeps it alive."""
        key, used = self._sessions.pop(session, (None, 0.0))
        if key is None or now - used > IDLE_SECONDS:
            return None
        self._sessions[session] = (key, now)
        return key

    def __repr__(self) -> str:
        return f"<Sessions {len(self._sessions)}>"
