"""Moments relative to the time of evaluation: `now() - INTERVAL '1 day'`, `CURRENT_DATE`."""

import re
from dataclasses import replace
from decimal import Decimal

from sqlglot import exp

from caraway.core.predicate import NOW, TODAY, Literal

_CALLS = {"now": NOW, "current_timestamp": NOW, "current_date": TODAY, "today": TODAY}
_PART = re.compile(
    r"\s*([+-]?\d{1,12}(?:\.\d{1,9})?)\s*(week|day|hour|hr|minute|min|second|sec)s?(?![a-z])", re.IGNORECASE
)
_SECONDS = {"week": 604_800, "day": 86_400, "hour": 3600, "hr": 3600, "minute": 60, "min": 60, "second": 1, "sec": 1}
_DAY = 86_400 * 10**9
_FURTHEST = 36_500 * _DAY
"""Bound moments stay where every unit of a timestamp can express them (1677 to 2262)."""


def relative(value: exp.Expr) -> Literal | None:
    """The value as a NOW or TODAY literal; None for all else, months and years among it: they have no fixed length."""
    value = value.unnest()
    match value:
        case exp.CurrentTimestamp(this=None):
            return Literal(0, NOW)
        case exp.CurrentDate(this=None):
            return Literal(0, TODAY)
        case exp.Anonymous(expressions=[]):
            kind = _CALLS.get(value.name.lower())
            return Literal(0, kind) if kind is not None else None
        case exp.Cast():
            return _cast(relative(value.this), value.to.this)
        case exp.Add():
            return _moved(relative(value.this), _nanos(value.expression), 1)
        case exp.Sub():
            return _moved(relative(value.this), _nanos(value.expression), -1)
        case _:
            return None


def _cast(moment: Literal | None, kind: exp.DType) -> Literal | None:
    if moment is None or kind != exp.DType.DATE:
        return None
    return replace(moment, type=TODAY)


def _moved(moment: Literal | None, interval: int | None, sign: int) -> Literal | None:
    """A day moves by whole days alone: by less it would become a moment."""
    if moment is None or interval is None or not isinstance(moment.value, int):
        return None
    offset = moment.value + sign * interval
    if abs(offset) > _FURTHEST or (moment.type == TODAY and interval % _DAY):
        return None
    return Literal(offset, moment.type)


def _nanos(interval: exp.Expr) -> int | None:
    """The length of an INTERVAL in nanoseconds."""
    interval = interval.unnest()
    if not isinstance(interval, exp.Interval) or not isinstance(interval.this, exp.Literal):
        return None
    unit = interval.args.get("unit")
    if unit is not None and not isinstance(unit, exp.Var):
        return None
    text = f"{interval.this.this} {unit.this if unit is not None else ''}".rstrip()
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    return sum(int(Decimal(part[1]) * _SECONDS[part[2].lower()] * 10**9) for part in parts)
