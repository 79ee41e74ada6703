"""Which rows a refresh asks of its source and a retention removes, by time (reference/spicepod.md 6.3, 6.5).

Moments are nanoseconds since 1970 UTC. A bound on what is read is rounded so that it never leaves out a row that
belongs in; a bound on what is removed so that it never takes one too many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from caraway.core.predicate import Compare, CompareOp, Literal, Predicate, all_of, any_of

NANOS = 1_000_000_000
_DAY = 86_400 * NANOS
_TEXT_SLACK = 36 * 3600 * NANOS
"""Text with zone offsets (-12 to +14 h) and with or without a time of day compares rightly this far from a bound."""


class Grain(Enum):
    """What a column can tell apart."""

    MOMENT = "moment"
    DAY = "day"
    TEXT = "text"  # ISO 8601, whose order is that of local times


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """A time column; `literal` makes a value of its type from a moment, rounding down."""

    column: str
    grain: Grain
    literal: Callable[[int], Literal]

    def at_least(self, moment: int) -> Predicate:
        """Every row at or after the moment, and some before it where the grain is coarse."""
        return Compare(self.column, ">=", self.literal(self._floor(moment)))

    def after(self, moment: int) -> Predicate:
        """Every row after the moment; a day counts as a whole."""
        op: CompareOp = ">" if self.grain is Grain.MOMENT else ">="
        return Compare(self.column, op, self.literal(self._floor(moment)))

    def before(self, moment: int) -> Predicate:
        """Rows before the moment and no others; where the grain is coarse, not all of them."""
        return Compare(self.column, "<", self.literal(self._floor(moment)))

    def _floor(self, moment: int) -> int:
        match self.grain:
            case Grain.MOMENT:
                return moment
            case Grain.DAY:
                return moment // _DAY * _DAY
            case Grain.TEXT:
                return (moment - _TEXT_SLACK) // _DAY * _DAY


def watermark(newest: int | None, overlap: float) -> int | None:
    """From where an append reads: the newest stored moment minus the overlap (seconds), never before 1970."""
    return None if newest is None else max(min(newest, 0), newest - round(overlap * NANOS))


def append_bound(axes: tuple[TimeAxis, ...], mark: int) -> Predicate | None:
    """What an append with stored rows asks for: all from the watermark on, itself included, on each axis.

    Spice asks for what is strictly newer and so misses rows that share the watermark's moment; here those that are
    already stored are recognised and left out instead.
    """
    return all_of(*(axis.at_least(mark) for axis in axes))


def window_bound(axes: tuple[TimeAxis, ...], now: int, window: float | None) -> Predicate | None:
    """What `refresh_data_window` (seconds) leaves of a source."""
    if window is None:
        return None
    return all_of(*(axis.after(now - round(window * NANOS)) for axis in axes))


def expired(axis: TimeAxis | None, now: int, period: float | None, condition: Predicate | None) -> Predicate | None:
    """What a retention removes: older than the period, or by the condition; None: nothing was asked for."""
    old = axis.before(now - round(period * NANOS)) if axis is not None and period is not None else None
    terms = [term for term in (old, condition) if term is not None]
    return any_of(*terms) if terms else None
