"""How long to wait before the next attempt (reference/spicepod.md 6.4)."""

_DELAYS = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 89.0, 144.0, 233.0, 300.0)
_SPREAD = 0.3


def backoff(attempt: int, chance: float, retry_after: float | None = None) -> float:
    """Seconds after the failed `attempt` (the first is 1): Fibonacci up to 300, +-30 % by `chance` in [0, 1).

    What the remote asked for (`retry_after`) is the least.
    """
    usual = _DELAYS[min(attempt, len(_DELAYS)) - 1] * (1 - _SPREAD + 2 * _SPREAD * chance)
    return max(usual, retry_after or 0.0)
