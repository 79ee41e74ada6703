"""The rate control that a dataset asks for, and its defaults: `http_<name>` of `runtime.params`."""

import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, TypeVar

from caraway.config.params import ConnectorParams
from caraway.core.duration import parse_duration
from caraway.core.rate_control import Limits
from caraway.errors import ConfigError, ConfigProblem

T = TypeVar("T")

_ACQUIRE_TIMEOUT = "rate_control_acquire_timeout"
_DEFAULTS_PREFIX = "http_"
_PERCENTAGE = re.compile(r"\d{1,3}(\.\d{1,6})?%", re.ASCII)


def read_limits(params: ConnectorParams) -> Limits:
    """What a dataset sets. ConfigError names the parameter."""
    return _limits({name: text for name in _SETTINGS if (text := params.text(name))}, params.wrong)


def read_default_limits(runtime: Mapping[str, str]) -> Limits:
    """What `runtime.params` sets for all origins. ConfigError names the key."""
    set_here = {name: text for name in _SETTINGS if (text := runtime.get(_DEFAULTS_PREFIX + name))}
    return _limits(set_here, _wrong_default)


def read_acquire_timeout(params: ConnectorParams) -> float | None:
    """Seconds that a request of a dataset waits for its turn, infinite for 0; None where it is not set. ConfigError."""
    seconds = params.duration(_ACQUIRE_TIMEOUT)
    return inf if seconds == 0 else seconds


def read_default_acquire_timeout(runtime: Mapping[str, str]) -> float | None:
    """The same of `runtime.params`."""
    text = runtime.get(_DEFAULTS_PREFIX + _ACQUIRE_TIMEOUT)
    seconds = _parsed(parse_duration, _ACQUIRE_TIMEOUT, text, _wrong_default) if text else None
    return inf if seconds == 0 else seconds


def _limits(texts: Mapping[str, str], wrong: Callable[[str, str], ConfigError]) -> Limits:
    values: dict[str, Any] = {}
    for name, text in texts.items():
        field, parse = _SETTINGS[name]
        values[field] = _parsed(parse, name, text, wrong)
    limits = Limits(**values)
    if limits.jitter_min is not None and limits.jitter_max is not None and limits.jitter_min > limits.jitter_max:
        raise wrong("rate_control_jitter_min", "this is more than rate_control_jitter_max")
    return limits


def _parsed(parse: Callable[[str], T], name: str, text: str, wrong: Callable[[str, str], ConfigError]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise wrong(name, str(error)) from error


def _wrong_default(name: str, message: str) -> ConfigError:
    return ConfigError(ConfigProblem(message, f"runtime.params.{_DEFAULTS_PREFIX}{name}"))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number from 1")
    return int(text)


def _fraction(text: str) -> float:
    number = float(text[:-1]) / 100 if _PERCENTAGE.fullmatch(text) else 2.0
    if number > 1:
        raise ValueError(f"{text!r} is not a percentage such as 10%")
    return number


def _window(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError("this must be greater than zero")
    return seconds


_SETTINGS: Mapping[str, tuple[str, Callable[[str], float]]] = {
    "max_concurrent_requests": ("concurrent", _whole),
    "requests_per_second_limit": ("per_second", _whole),
    "requests_per_minute_limit": ("per_minute", _whole),
    "rate_control_jitter_min": ("jitter_min", parse_duration),
    "rate_control_jitter_max": ("jitter_max", parse_duration),
    "rate_control_failure_threshold": ("threshold", _fraction),
    "rate_control_window": ("window", _window),
}
"""The parameters: which limit each one is, and how it is read."""
