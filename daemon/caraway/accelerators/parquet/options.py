"""The engine's parameters (`acceleration.params`), each with its bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caraway.config.model import Params
from caraway.core.compaction import Policy
from caraway.errors import ConfigError, ConfigProblem

COMPRESSIONS = ("zstd", "lz4", "snappy", "none")
BOUNDS: Mapping[str, tuple[int, int]] = {
    "parquet_row_group_rows": (1024, 1024**2),
    "parquet_part_rows": (64 * 1024, 16 * 1024**2),
    "parquet_tail_rows": (1, 1024**2),
    "parquet_tail_age": (1, 86_400),
}


@dataclass(frozen=True, slots=True)
class Options:
    """How part files are written and when the log is tidied.

    parquet_compression      zstd (default), lz4, snappy or none. Of 1 M orders, zstd wrote 4.6 M rows/s into 15 MB, lz4
                             6.1 M rows/s into 26 MB; a refresh over Flight is slower than either.
    parquet_row_group_rows   1024 to 1048576, default 65536: what a point query reads at least.
    parquet_part_rows        65536 to 16777216, default 1048576: where a part file ends, and merging stops.
    parquet_tail_rows        1 to 1048576, default 524288: rows of small commits that become a part; a commit of as
                             many rows and tombstones becomes one at once.
    parquet_tail_age         1 to 86400 seconds, default 600: when they do so at the latest.
    """

    compression: str = "zstd"
    row_group_rows: int = 64 * 1024
    policy: Policy = field(default_factory=Policy)


def parse(params: Params, dataset: str) -> Options:
    """The options that `acceleration.params` ask for; ConfigError lists every parameter that is wrong."""
    problems = [problem for key, text in params.items() if (problem := _problem(key, text))]
    if problems:
        raise ConfigError(*(ConfigProblem(f"dataset {dataset}: {text}", key) for key, text in problems))
    policy = Policy()
    return Options(
        compression=params.get("parquet_compression", "zstd"),
        row_group_rows=int(params.get("parquet_row_group_rows", 64 * 1024)),
        policy=Policy(
            part_rows=int(params.get("parquet_part_rows", policy.part_rows)),
            tail_rows=int(params.get("parquet_tail_rows", policy.tail_rows)),
            tail_age=int(params.get("parquet_tail_age", policy.tail_age)),
        ),
    )


def _problem(key: str, text: str) -> tuple[str, str] | None:
    place = f"acceleration.params.{key}"
    if key == "parquet_compression":
        return None if text in COMPRESSIONS else (place, f"found {text!r}, allowed are {', '.join(COMPRESSIONS)}")
    if key not in BOUNDS:
        known = ", ".join(["parquet_compression", *BOUNDS])
        return place, f"engine parquet has no such parameter; it has {known}"
    low, high = BOUNDS[key]
    fits = text.isascii() and text.isdigit() and low <= int(text) <= high
    return None if fits else (place, f"found {text!r}, allowed is a whole number from {low} to {high}")
