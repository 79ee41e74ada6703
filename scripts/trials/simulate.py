"""Seeds of the simulation: a core, a relay and an edge among faults, on the virtual clock (tests/simulation)."""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from simulation.oracle import Violation
from simulation.world import readable, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default: 10,000)")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="SEED", help="the first (default: 0)")
    parser.add_argument("--seed", type=int, help="run this one and print what happened")
    asked = parser.parse_args()
    if asked.seed is None:
        return survey(asked.first, asked.seeds)
    replay(asked.seed)
    return 0


def replay(seed: int) -> None:
    """One run, told step by step."""
    trace: list[tuple] = []
    try:
        simulate(seed, trace)
    finally:
        print("\n".join(readable(trace)), flush=True)


def survey(first: int, seeds: int) -> int:
    """Many runs; the command that replays each failed one."""
    began, failed = time.monotonic(), 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for done, (seed, failure) in enumerate(pool.imap(_attempt, range(first, first + seeds), chunksize=8), 1):
            if failure is not None:
                failed += 1
                print(f"{failure}\n    scripts/chaos simulate --seed {seed}", flush=True)
            if done % 1000 == 0:
                print(f"{done} seeds, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{seeds} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _attempt(seed: int) -> tuple[int, str | None]:
    try:
        simulate(seed)
    except Violation as error:
        return seed, str(error)
    except BaseExceptionGroup as group:  # of a nursery, as all the others
        return seed, "; ".join(f"{type(error).__name__}: {error}" for error in _leaves(group))
    return seed, None


def _leaves(group: BaseExceptionGroup) -> list[BaseException]:
    nested = (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one] for one in group.exceptions)
    return [error for errors in nested for error in errors]


if __name__ == "__main__":
    sys.exit(main())
