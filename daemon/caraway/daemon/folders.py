"""Where each dataset keeps its files."""

from pathlib import Path
from urllib.parse import quote


def dataset_folder(parent: Path, dataset: str) -> Path:
    """A folder of its own for each dataset, whatever a quoted name holds."""
    safe = quote(dataset, safe="")
    return parent / (f"%2E{safe[1:]}" if safe.startswith(".") else safe)
