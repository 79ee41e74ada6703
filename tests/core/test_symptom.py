from datetime import UTC, datetime

import pytest

from caraway.core import symptom
from caraway.core.symptom import Lag, spoken

PROVEN = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
LAG = Lag(f"Append {symptom.STALLED}", "orders", "spice.ai/orders", 75.2, 60.0, PROVEN)
SYMPTOM = (
    "Append stream stalled; acceleration lag climbing: orders is 1m15s behind, acceptable are 1m; "
    "it shows spice.ai/orders as of 2026-01-02T03:04:05Z. "
)


@pytest.mark.parametrize(
    ("cause", "likely", "remedy"),
    [
        (symptom.connecting(), "The connection is being made.", "Check upstream status; verify the source dataset"),
        (symptom.unreached("it is away."), "There is no connection: it is away.", "Check upstream status; verify"),
        (symptom.unreached("it is away.", "Start it."), "There is no connection: it is away.", "Start it."),
        (
            symptom.silent(),
            "The connection stands, but no message comes: network partition or upstream dataset paused.",
            "Check upstream status; verify the source dataset is healthy. The stream is taken up again by itself.",
        ),
        (symptom.missing(1234), "The upstream has 1,234 offsets that have not come: it is slow", "Check upstream"),
        (symptom.slow(), "Rows arrive faster than they are stored.", "raise acceptable_lag"),
        (symptom.slow(1234567), "1,234,567 offsets are still to be stored: rows arrive faster than", "faster disk"),
        (symptom.copying(12000), "A complete copy is under way, with 12,000 rows so far.", "Wait for its end"),
        (symptom.unstored("disk full.", "Free some."), "What arrives can't be stored: disk full.", "Free some."),
        (symptom.unstored("disk full."), "What arrives can't be stored: disk full.", "See the log."),
        (symptom.failing("no such host.", "Name it."), "Refreshes fail: no such host.", "Name it."),
        (symptom.refreshing(), "A refresh runs and has not ended.", "Wait for its end"),
        (symptom.waiting(90), "The next refresh is due in 1m30s.", "Request a refresh"),
        (symptom.waiting(float("inf")), "No refresh is due.", "Request a refresh"),
    ],
)
def test_words(cause, likely, remedy):
    said = LAG.because(cause)
    assert said.startswith(SYMPTOM + likely)
    assert remedy in cause.remedy
    assert said.endswith(".")
    assert cause.remedy.endswith(".")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0s"), (0, "0s"), (0.54, "0.5s"), (2, "2s"), (10.9, "10s"), (59.9, "59s"), (60, "1m"), (90, "1m30s"),
        (3600, "1h"), (7500, "2h5m"), (86_400, "1d"), (100_000, "1d3h"),
    ],
)  # fmt: skip
def test_durations(seconds, said):
    assert spoken(seconds) == said
