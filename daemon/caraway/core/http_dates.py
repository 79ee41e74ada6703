"""The three forms of a date in HTTP (RFC 9110 5.6.7), in any case, and nothing that only resembles them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_NUMBERS = {month.lower(): number for number, month in enumerate(_MONTHS, 1)}

_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def parse_http_date(text: str, now: float) -> float | None:
    """Seconds since 1970, or None for what is no date; a year of two digits is within 50 years of `now`."""
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _moment(match, now)
    return None


def http_date(at: float) -> str:
    """The preferred form; it has whole seconds."""
    when = datetime.fromtimestamp(at // 1, UTC)
    return f"{_DAYS[when.weekday()]}, {when.day:02} {_MONTHS[when.month - 1]} {when:%Y %H:%M:%S} GMT"


def _moment(match: re.Match[str], now: float) -> float | None:
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    try:
        when = datetime(_year(match["year"], now), _NUMBERS[match["month"].lower()], day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    return when.timestamp() + second if second <= 60 else None  # 60 is a leap second


def _year(digits: str, now: float) -> int:
    if len(digits) == 4:
        return int(digits)
    first = datetime.fromtimestamp(now, UTC).year - 49
    return first + (int(digits) - first) % 100
