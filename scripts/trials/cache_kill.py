"""End a daemon that keeps answers which change all the time, at random instants, and look at what it kept."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.cache_chaos import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("sqlite", "parquet"), help="the store; each in turn by default")
    parser.add_argument("--gently", action="store_true", help="SIGTERM instead of SIGKILL")
    options = parser.parse_args()
    failed = False
    for engine in [options.engine] if options.engine else ["sqlite", "parquet"]:
        with tempfile.TemporaryDirectory(prefix="caraway-chaos-") as folder:
            report = run(Path(folder), engine, kills=options.kills, seed=options.seed, gently=options.gently)
        verdict = "; ".join(report.problems) or "each entry whole, none older than what was seen"
        print(
            f"{engine}: {report.kills} kills, {report.entries} entries, version {report.newest}, {dict(report.answers)}"
        )
        print(f"  what was stored was answered within {report.slowest:.1f} s of a start: {verdict}", flush=True)
        failed = failed or bool(report.problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
