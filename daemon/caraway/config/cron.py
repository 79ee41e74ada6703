"""Cron patterns (reference/spicepod.md 2): five fields, or six with leading seconds, in a time zone."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

_FIELDS = ("second", "minute", "hour", "day", "month", "day_of_week")
_WORD = re.compile(r"[0-9a-zA-Z*?,/\-]{1,200}", re.ASCII)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_RANGE = re.compile(r"(?:(\*|\?)|(\w+)(?:-(\w+))?)(?:/(\d{1,2}))?", re.ASCII)
# The 29th of February can be eight years away; what does not come in nine does not come.
_HORIZON = timedelta(days=9 * 366)


def local_zone() -> tzinfo:
    """The zone that patterns are read in."""
    from tzlocal import get_localzone

    return get_localzone()


def check_cron(pattern: str) -> str:
    """The pattern, if it can ever fire; ValueError says why not."""
    next_fire(pattern, datetime(2024, 1, 1, tzinfo=UTC), UTC)
    return pattern


def next_fire(pattern: str, after: datetime, zone: tzinfo) -> datetime:
    """The first time after `after` (aware) that the pattern names, in `zone`; ValueError for a bad pattern.

    Where both day fields are restricted, either one suffices, as in cron.
    """
    start = after.astimezone(zone)
    found = [trigger.get_next_fire_time(start, start) for trigger in _triggers(pattern, start, zone)]
    times: list[datetime] = [time for time in found if time is not None]
    if not times:
        raise ValueError(f"{pattern!r} never fires")
    return min(times)


def _triggers(pattern: str, start: datetime, zone: tzinfo) -> list[Any]:
    from apscheduler.triggers.cron import CronTrigger

    alternatives = _alternatives(_fields(pattern))
    try:
        return [CronTrigger(**fields, timezone=zone, end_date=start + _HORIZON) for fields in alternatives]
    except ValueError as error:
        raise ValueError(f"{pattern!r} is not a cron pattern: {error}") from error


def _fields(pattern: str) -> dict[str, str]:
    words = pattern.split()
    if len(words) not in (5, 6):
        raise ValueError(f"{pattern!r} has {len(words)} fields; five are needed, or six with leading seconds")
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} in {pattern!r} is not a cron field")
    return dict(zip(_FIELDS, ["0", *words][-6:], strict=True))


def _alternatives(fields: dict[str, str]) -> list[dict[str, str]]:
    both = all(fields[name] not in ("*", "?") for name in ("day", "day_of_week"))
    day = fields["day"].replace("?", "*").replace("L", "last")
    translated = {**fields, "day": day, "day_of_week": _days(fields["day_of_week"])}
    if not both:
        return [translated]
    return [{**translated, "day": "*"}, {**translated, "day_of_week": "*"}]


def _days(field: str) -> str:
    """The days of the week by name: cron counts from Sunday (0 or 7), APScheduler from Monday."""
    days = {day for part in field.split(",") for day in _day_range(part)}
    return ",".join(_DAYS[day] for day in sorted(days))


def _day_range(part: str) -> set[int]:
    match = _DAY_RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} is not a day of the week")
    first = 0 if match[1] else _day(match[2])
    last = 6 if match[1] else _day(match[3], end=True) if match[3] else 6 if match[4] else first
    step = int(match[4] or 1)
    if step < 1 or first > last:
        raise ValueError(f"{part!r} is not a range of days of the week")
    return {day % 7 for day in range(first, last + 1, step)}


def _day(word: str, *, end: bool = False) -> int:
    if word.isdecimal() and int(word) <= 7:
        return int(word)
    if word[:3].lower() in _DAYS and len(word) == 3:
        day = _DAYS.index(word.lower())
        return 7 if end and day == 0 else day
    raise ValueError(f"{word!r} is not a day of the week; 0 to 7 (Sunday is 0 and 7) or sun to sat")
