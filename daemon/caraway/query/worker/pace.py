"""Which steps of a query are done in place, and which in a thread.

A hop to a thread and back costs more than planning a small query, a fifth of its CPU; but a long planning in place
would hold up all others. So a step is done in place if it was quick the last time for a query of that shape.
"""

import re
from collections import OrderedDict

QUICK = 0.01
"""Seconds that others may be held up; a small query over a table takes 0.5 ms to plan and 3 ms to start."""
SHAPES = 512
LONGEST = 1024
_DIGIT = re.compile(r"\d")


class Pace:
    """What was quick, by step and shape: the SQL with its digits blurred, but not their number."""

    def __init__(self) -> None:
        self._quick: OrderedDict[tuple[str, str], None] = OrderedDict()

    def is_quick(self, step: str, sql: str) -> bool:
        key = _key(step, sql)
        if key not in self._quick:
            return False
        self._quick.move_to_end(key)
        return True

    def took(self, step: str, sql: str, seconds: float) -> None:
        """Remember how a step went."""
        if len(sql) > LONGEST:
            return
        key = _key(step, sql)
        if seconds > QUICK:
            self._quick.pop(key, None)
            return
        self._quick[key] = None
        if len(self._quick) > SHAPES:
            self._quick.popitem(last=False)


def _key(step: str, sql: str) -> tuple[str, str]:
    return step, _DIGIT.sub("0", sql)
