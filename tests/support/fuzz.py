"""How many examples a property is tried with: few and always the same ones, or `FUZZ` times as many by chance."""

import os

from hypothesis import HealthCheck, settings

SCALE = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> settings:
    return settings(
        deadline=None,
        max_examples=examples * SCALE,
        derandomize=SCALE == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
