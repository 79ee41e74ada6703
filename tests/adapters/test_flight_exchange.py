"""DoExchange: what subscribers of a dataset are told, and how a subscription ends."""

import grpc
import pytest
import trio

from caraway.core.stream_words import Wish, write_wish
from caraway.island import open_island
from caraway.model import Append, Phase, Position, Truncate
from support.flight_streams import (
    accelerated,
    channel,
    opening,
    rows,
    serve,
    subscribed,
)

CODE = grpc.StatusCode
BOUND = 10.0
WISH = write_wish(Wish(heartbeat=0.05))


@pytest.fixture
async def island():
    async with open_island() as opened:
        yield opened


async def until(arriving, *phases):
    """The arrivals up to the first of one of these phases."""
    found = []
    with trio.fail_after(BOUND):
        async for arrival in arriving:
            found.append(arrival)
            if arrival.phase in phases:
                break
    return found


def ids(found):
    return [
        id_
        for arrival in found
        for change in arrival.changes
        if isinstance(change, Append)
        for id_ in change.rows["id"].to_pylist()
    ]


async def test_a_copy_then_news(island, nursery):
    table = accelerated("t")
    log = table.log.value
    log.append(rows(1, 2), rows(3))
    served = await serve(nursery, island, table)
    async with channel(served) as connection, subscribed(served, connection, opening("t", app_metadata=WISH)) as told:
        copy = await until(told, Phase.SNAPSHOT_END)
        assert copy[0].changes == (Truncate(),)
        assert ids(copy) == [1, 2, 3]
        assert copy[-1].cursor == '{"epoch":"epoch-1","offset":3}'
        log.append(rows(4))
        (news,) = [each for each in await until(told, Phase.LIVE) if each.phase is Phase.LIVE]
        assert ids([news]) == [4]
        assert news.cursor == '{"epoch":"epoch-1","offset":4}'
        assert news.mark.end == Position("epoch-1", 4)
        beat = await until(told, Phase.HEARTBEAT)
        assert beat[-1].cursor == news.cursor
        assert served.server.statistics().subscriptions == 1
        assert served.server.statistics().updates_sent == 4
    nursery.cancel_scope.cancel()
