"""Fills a results cache with 1,000 mixed answers and prints, as JSON, what it accounts for and what the process took.

Run as a process of its own: `python fill_cache.py <max_size> <encoding>`.
"""

import gc
import json
import os
import random
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from caraway.model import FlightMessage, ResultFormat
from support.cached import cached
from support.fake_planner import FakePlanner, Script, ask

SIZES = (5, 50, 200, 1_000, 5_000, 20_000, 65_000, 150_000, 400_000, 1_048_576)
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def script(chance: random.Random) -> Script:
    """JSON in one or more chunks, or IPC messages that are views of a larger buffer, as they come from a worker."""
    size = chance.choice(SIZES)
    chunks = range(-(-size // 200_000))
    if chance.random() < 0.5:
        return Script([chance.randbytes(size // len(chunks)) for _ in chunks])
    buffers = [memoryview(bytearray(chance.randbytes(size // len(chunks) + 32_768))) for _ in chunks]
    return Script([FlightMessage(chance.randbytes(180), buffer[: size // len(chunks)]) for buffer in buffers])


async def main(max_size: int, encoding: str) -> None:
    chance, engine = random.Random(1), FakePlanner()
    cache = cached(engine, max_size=max_size, item_ttl=3600.0, encoding=encoding)

    async def one(number: int) -> None:
        sql = f"select a, b, count(*) as n from t where c > {number} group by a, b order by n desc limit 100"
        engine.scripts = {sql: script(chance)}
        kind = ResultFormat.IPC if isinstance(engine.scripts[sql].chunks[0], FlightMessage) else ResultFormat.JSON
        async with cache.execute(ask(sql, parameters=(number, f"value {number}"), format=kind)) as result:
            async for _ in result:
                pass
        engine.plannings.clear()
        engine.executions.clear()

    for number in range(50):
        await one(-number)
    before, accounted = resident(), cache.statistics().size_bytes
    most_accounted = most_resident = 0
    for number in range(1000):
        await one(number)
        most_accounted = max(most_accounted, cache.statistics().size_bytes)
        if number % 20 == 19:
            most_resident = max(most_resident, resident())
    statistics = cache.statistics()
    print(
        json.dumps(
            {
                "accounted": statistics.size_bytes - accounted,
                "grown": resident() - before,
                "most_accounted": most_accounted,
                "most_grown": most_resident - before + accounted,
                "items": statistics.items_count,
            }
        )
    )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
