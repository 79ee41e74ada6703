"""The verbs that list something: datasets, status, pods, version."""

import argparse
from collections.abc import Iterable, Mapping

DATASETS = {
    "NAME": "name",
    "FROM": "from",
    "REPLICATION": "replication_enabled",
    "ACCELERATION": "acceleration_enabled",
    "STATUS": "status",
    "LAG": "lag",
    "BEHIND": "behind",
    "ERROR": "error_message",
}
STATUS = {"NAME": "name", "ENDPOINT": "endpoint", "STATUS": "status"}
PODS = {
    "NAME": "name",
    "VERSION": "version",
    "DATASETS": "datasets_count",
    "MODELS": "models_count",
    "DEPENDENCIES": "dependencies_count",
}


def datasets(options: argparse.Namespace) -> int:
    return _list(options, "/v1/datasets", DATASETS, status="true")


def status(options: argparse.Namespace) -> int:
    return _list(options, "/v1/status", STATUS)


def pods(options: argparse.Namespace) -> int:
    return _list(options, "/v1/spicepods", PODS)


def version(options: argparse.Namespace) -> int:
    from caraway import __version__

    print(f'{{"version": "{__version__}"}}' if options.json else f"caraway {__version__}")
    return 0


def _list(options: argparse.Namespace, path: str, columns: dict[str, str], **params: str) -> int:
    from caraway.cli.client import connect
    from caraway.cli.output import show

    with connect(options) as client:
        rows = client.get(path, **params)
        show(rows if options.json else list(_readable(rows)), columns, as_json=options.json)
    return 0


def _readable(rows: Iterable[Mapping[str, object]]) -> Iterable[Mapping[str, object]]:
    """Rows with seconds and offsets as people write them, and errors with what to do about them."""
    from caraway.core.symptom import spoken

    for row in rows:
        lag, behind = row.get("lag"), row.get("behind")
        error = [str(row[key]) for key in ("error_message", "remedy") if row.get(key)]
        yield {
            **row,
            "lag": spoken(lag) if isinstance(lag, int | float) else None,
            "behind": f"{behind:,}" if isinstance(behind, int) else None,
            "error_message": " ".join(error) or None,
        }
