"""Kill a core that is written to and an edge that follows it, at random instants, and compare them at the end."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.chaos import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("sqlite", "parquet"), help="the store of both; each in turn by default")
    options = parser.parse_args()
    failed = False
    for engine in [options.engine] if options.engine else ["sqlite", "parquet"]:
        with tempfile.TemporaryDirectory(prefix="caraway-chaos-") as folder:
            report = run(Path(folder), engine, kills=options.kills, seed=options.seed)
        verdict = "; ".join(report.problems) or "equal, no gap, none twice"
        print(f"{engine}: {report.kills} kills, {report.rows} rows, caught up in {report.seconds:.1f} s: {verdict}")
        failed = failed or bool(report.problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
