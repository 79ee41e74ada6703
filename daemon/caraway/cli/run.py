"""`caraway run`: one daemon, with its log on standard error."""

import argparse
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caraway.daemon import Options
    from caraway.telemetry import Log

MAX_MESSAGE_SIZE = "SPICE_MAX_MESSAGE_SIZE"
"""Stands above `runtime.flight.max_message_size`, and below --set-runtime and the parameter of a dataset."""
OPEN_FILES = 65_536
"""A dataset holds some files open, a client one; where the usual 1,024 is a soft limit, a fleet outgrows it."""


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 1 where the pod, its data or an address can't be used."""
    import trio

    from caraway.daemon import Options
    from caraway.errors import ConfigError, StoreError
    from caraway.telemetry import log_to

    log = log_to(sys.stderr, verbosity=options.verbosity, env=os.environ)
    _allow_open_files()
    try:
        asked = Options(
            pod_path=options.path,
            http=options.http,
            flight=options.flight,
            metrics=options.metrics,
            data_dir=options.data_dir,
            runtime_overrides=(*_of_environment(os.environ), *options.set_runtime),
            verbosity=options.verbosity,
        )
        trio.run(_serve, asked, log)
    except (ConfigError, StoreError, OSError) as error:
        log.flush()
        print(f"caraway can't start: {error}", file=sys.stderr)
        return 1
    finally:
        log.flush()
    return 0


def _allow_open_files() -> None:
    """Raise the soft limit as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _of_environment(env: Mapping[str, str]) -> Iterator[str]:
    """What the environment sets below `runtime:`; ConfigError."""
    from caraway.core.size import parse_size
    from caraway.errors import ConfigError

    size = env.get(MAX_MESSAGE_SIZE)
    if not size:
        return
    try:
        parse_size(size)
    except ValueError as error:
        raise ConfigError(f"{MAX_MESSAGE_SIZE}: {size!r} is not a size such as 512KB or 16MB") from error
    yield f"flight.max_message_size={size}"


async def _serve(options: "Options", log: "Log") -> None:
    import outcome
    import trio

    from caraway.daemon import run_daemon
    from caraway.telemetry import Telemetry

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        ended = await outcome.acapture(run_daemon, options, Telemetry(log).emit)
        nursery.cancel_scope.cancel()
    ended.unwrap()
