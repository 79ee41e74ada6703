"""`caraway run`: one daemon, with its log on standard error."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caraway.daemon import Options
    from caraway.telemetry import Log


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 1 where the pod, its data or an address can't be used."""
    import trio

    from caraway.daemon import Options
    from caraway.errors import ConfigError, StoreError
    from caraway.telemetry import log_to

    log = log_to(sys.stderr, verbosity=options.verbosity, env=os.environ)
    asked = Options(
        pod_path=options.path,
        http=options.http,
        flight=options.flight,
        metrics=options.metrics,
        data_dir=options.data_dir,
        runtime_overrides=tuple(options.set_runtime),
        verbosity=options.verbosity,
    )
    try:
        trio.run(_serve, asked, log)
    except (ConfigError, StoreError, OSError) as error:
        log.flush()
        print(f"caraway can't start: {error}", file=sys.stderr)
        return 1
    finally:
        log.flush()
    return 0


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
