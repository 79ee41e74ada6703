"""How many examples a property is tried with: few and always the same ones, or `FUZZ` times as many by chance."""

import os

from hypothesis import settings

SCALE = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> settings:
    """In place of the 100 that `conftest.py` sets."""
    return settings(max_examples=examples * SCALE)
