"""A dataset's `params` as its connector reads them: secrets resolved, values checked, mistakes named."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import TypeVar, overload

from caraway.core.duration import parse_duration
from caraway.core.size import parse_size
from caraway.errors import ConfigError, ConfigProblem
from caraway.model import Secret
from caraway.secrets import Secrets, references

T = TypeVar("T")
D = TypeVar("D")

_FLAGS = {"true": True, "enabled": True, "yes": True, "false": False, "disabled": False, "no": False}


class ConnectorParams:
    """Every getter resolves secrets at its call; ConfigError names the dataset and the parameter."""

    def __init__(self, params: Mapping[str, str], secrets: Secrets, dataset: str) -> None:
        self._params = params
        self._secrets = secrets
        self._dataset = dataset

    def has(self, name: str) -> bool:
        return name in self._params

    @overload
    def text(self, name: str, default: str) -> str: ...
    @overload
    def text(self, name: str, default: None = None) -> str | None: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        return self._parsed(name, "text", str, default)

    def secret(self, name: str) -> Secret | None:
        """The parameter, or the secret of the same name in any store where it is not set."""
        return self._resolved(name) if name in self._params else self._secrets.lookup(name)

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `enabled`, `false` or `disabled`."""
        return self._parsed(name, "flag; allowed: true, false, enabled, disabled", _flag, default)

    @overload
    def integer(self, name: str, default: int, *, least: float = ..., most: float = ...) -> int: ...
    @overload
    def integer(
        self, name: str, default: int | None = None, *, least: float = ..., most: float = ...
    ) -> int | None: ...
    def integer(self, name: str, default: int | None = None, *, least: float = -inf, most: float = inf) -> int | None:
        number = self._parsed(name, "whole number", _integer, default)
        if number is not None and not least <= number <= most:
            allowed = f"{least} to {most}" if most < inf else f"whole numbers from {least}"
            raise self.wrong(name, f"found {number}; allowed: {allowed}")
        return number

    @overload
    def duration(self, name: str, default: float) -> float: ...
    @overload
    def duration(self, name: str, default: None = None) -> float | None: ...
    def duration(self, name: str, default: float | None = None) -> float | None:
        """Seconds."""
        return self._parsed(name, "duration such as 30s or 1h30m", parse_duration, default)

    @overload
    def size(self, name: str, default: int) -> int: ...
    @overload
    def size(self, name: str, default: None = None) -> int | None: ...
    def size(self, name: str, default: int | None = None) -> int | None:
        """Bytes."""
        return self._parsed(name, "size such as 512KB or 4MB", parse_size, default)

    def wrong(self, name: str, message: str) -> ConfigError:
        """The error to raise for a parameter whose value a connector can't use."""
        return ConfigError(ConfigProblem(message, f"datasets[{self._dataset}].params.{name}"))

    def _parsed(self, name: str, kind: str, parse: Callable[[str], T], default: D) -> T | D:
        if name not in self._params:
            return default
        text = self._resolved(name).reveal()
        try:
            return parse(text)
        except ValueError:
            found = "the secret" if references(self._params[name]) else repr(text)
        # Raised here and not in the handler: the parser's error holds the value, which may be secret.
        raise self.wrong(name, f"{found} is not a {kind}")

    def _resolved(self, name: str) -> Secret:
        try:
            return self._secrets.resolve(self._params[name])
        except ConfigError as error:
            key = self.wrong(name, "").problems[0].key
            raise ConfigError(*(replace(problem, key=key) for problem in error.problems)) from error

    def __repr__(self) -> str:
        return f"ConnectorParams({self._dataset!r}: {', '.join(self._params)})"


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError(text)
    return int(text)
