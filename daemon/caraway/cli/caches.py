"""What an answer's headers tell of caches, in a few words (docs/status.md)."""

import re
from collections.abc import Iterator, Mapping

from rich.text import Text

from caraway.cli.output import plain
from caraway.core.symptom import spoken

_RESULTS = {
    "HIT": ("cache hit", "green"),
    "STALE": ("cache hit, stale", "yellow"),
    "MISS": ("cache miss", "dim"),
    "BYPASS": ("cache bypassed", "dim"),
}
_DATASETS = {
    "hit": ("hit", "green"),
    "stale": ("stale", "yellow"),
    "fwd=miss": ("fetched", "dim"),
    "stale-if-error": ("stale since its source fails", "red"),
}
_MEMBER = re.compile(r"""("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*;\s*([\w=-]+)(?:\s*;\s*age=(\d+))?""")


def told(headers: Mapping[str, str]) -> Text:
    """In parentheses, the results cache first, then each dataset in caching mode; empty where neither had a part."""
    parts = [*_results(headers.get("results-cache-status", "")), *_datasets(headers.get("dataset-cache-status", ""))]
    return Text.assemble("(", Text("; ").join(parts), ")") if parts else Text()


def _results(status: str) -> Iterator[Text]:
    if status in _RESULTS:
        yield Text(*_RESULTS[status])


def _datasets(statuses: str) -> Iterator[Text]:
    for name, status, age in _MEMBER.findall(statuses):
        if status in _DATASETS:
            words, style = _DATASETS[status]
            old = f", {spoken(float(age))} old" if age else ""
            yield Text(f"{plain(_bare(name))} {words}{old}", style)


def _bare(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith('"') else name
