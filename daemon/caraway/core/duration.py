"""Durations as a spicepod writes them (reference/spicepod.md 2)."""

import re

LONGEST = 1000 * 365.25 * 86400.0
"""Seconds. What is longer is a mistake, and would not fit a date."""

_UNITS = {"ns": 1e-9, "Ms": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_COMPONENT = re.compile(rf"({_NUMBER})({'|'.join(_UNITS)})", re.ASCII)
_SECONDS = re.compile(_NUMBER, re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of `10s`, `1.5h`, `2e3ms`, `7` (seconds) or `1h30m`; ValueError says what is wrong.

    Units are case-sensitive, as in the fundu parser of the Spice runtime: `Ms` is a microsecond.
    """
    seconds = float(text) if _SECONDS.fullmatch(text) else _sum(text)
    if seconds > LONGEST:
        raise ValueError(f"{text!r} is longer than a thousand years")
    return seconds


def _sum(text: str) -> float:
    parts = _COMPONENT.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(_complaint(text))
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _complaint(text: str) -> str:
    if text.startswith("-"):
        return f"{text!r} is negative"
    return f"{text!r} is not a duration; write a number and a unit of {', '.join(_UNITS)}, such as 10s or 1h30m"
