"""The worker process: limits first, then a socket in its private directory, until its standard input ends.

`python -m caraway.query.worker SETTINGS` with the settings as `wire` text; one line on standard output says ready.
"""

import asyncio
import contextlib
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from caraway.query import wire
from caraway.query.settings import WorkerSettings

if TYPE_CHECKING:
    from caraway.query.worker.engine import Engine

OOM_SCORE = 800
"""Of at most 1000: when the machine runs out of memory, the kernel takes the worker before the daemon."""

BACKLOG = 4096
"""A connection beyond it is refused, which the daemon would take for a dead worker; it admits no more at a time."""
TIDY_EVERY = 15.0
SEND_BUFFER = 2**22
"""Bytes; the kernel grants what net.core.wmem_max allows."""


def main() -> None:
    settings: WorkerSettings = wire.loads(sys.argv[1].encode(), {"WorkerSettings": WorkerSettings})
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    _limit_memory(settings.hard_limit)
    asyncio.run(_serve(settings))


def _end_with_the_daemon() -> None:
    """The daemon holds the other end of standard input and never writes.

    PR_SET_PDEATHSIG would be simpler, but it follows the thread that started the process, and trio's threads are
    short-lived.
    """
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(0)


def _limit_memory(limit: int) -> None:
    """RLIMIT_DATA counts what a process may write to and not the files that it maps, unlike RLIMIT_AS."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


async def _serve(settings: WorkerSettings) -> None:
    # The engine is imported after the limits hold and the pipe is watched.
    from caraway.query.worker.conversation import serve
    from caraway.query.worker.engine import Engine

    engine, loop = Engine(settings), asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(settings.socket.name)  # in the working directory, whose path may be longer than a socket's
        listener.listen(BACKLOG)
        engine.warm_up()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        running.add(loop.create_task(_tidy(engine)))
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            running.add(task := loop.create_task(serve(engine, connection)))
            task.add_done_callback(running.discard)


async def _tidy(engine: "Engine") -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        engine.tidy(time.monotonic())


if __name__ == "__main__":
    main()
