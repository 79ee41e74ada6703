"""The composition root: a spicepod becomes one supervised daemon. Concrete adapters are named here alone."""

from caraway.daemon.root import Daemon, Options, run_daemon

__all__ = ["Daemon", "Options", "run_daemon"]
