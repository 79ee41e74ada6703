"""What every event is."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Level(IntEnum):
    TRACE = 5
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Event:
    """`target` is the log target; `__str__` the message for a human."""

    level: ClassVar[Level] = Level.INFO
    target: ClassVar[str] = "caraway"
