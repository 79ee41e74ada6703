"""What `caraway validate` says of a pod."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caraway.config.load import load
from caraway.errors import ConfigError, ConfigProblem


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a validation; `counts` and `name` are empty where there are problems."""

    path: Path
    name: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0

    @property
    def text(self) -> str:
        """Lines for a terminal, the verdict first."""
        if self.problems:
            count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
            return "\n".join([f"Invalid: spicepod validation failed: {count}", *map(str, self.problems)])
        counts = ", ".join(f"{kind}: {count}" for kind, count in self.counts.items())
        return "\n".join([f"OK {self.name} ({counts})", *(f"warning: {warning}" for warning in self.warnings)])

    def as_json(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            "valid": not self.problems,
            "path": str(self.path),
            "name": self.name,
            "counts": dict(self.counts),
            "warnings": list(self.warnings),
            "problems": [_plain(problem) for problem in self.problems],
        }


def report(path: Path, runtime_overrides: Sequence[str] = ()) -> Report:
    """Load the pod and say what came of it; never raises for what stands in the files."""
    try:
        pod = load(path, runtime_overrides)
    except ConfigError as error:
        return Report(path, problems=error.problems)
    counts = {
        "datasets": len(pod.datasets),
        "views": len(pod.views),
        "catalogs": len(pod.catalogs),
        "secret stores": len(pod.secrets),
    }
    return Report(path, pod.name, counts, pod.warnings)


def _plain(problem: ConfigProblem) -> dict[str, object]:
    return {
        "message": problem.message,
        "key": problem.key,
        "file": str(problem.file) if problem.file else None,
        "line": problem.line,
        "column": problem.column,
    }
