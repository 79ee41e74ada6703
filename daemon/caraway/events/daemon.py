"""The daemon, its configuration and its children."""

from dataclasses import dataclass
from typing import ClassVar

from caraway.events.base import Event, Level


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """`output_level` is the pod's; the log follows it where nothing else says how much to log."""

    pod: str
    version: str
    output_level: str = "info"

    def __str__(self) -> str:
        return f"caraway {self.version} runs pod {self.pod!r}"


@dataclass(frozen=True, slots=True)
class DaemonStopping(Event):
    """It takes no more requests; those in flight get `seconds`."""

    seconds: float

    def __str__(self) -> str:
        return f"Stopping: requests in flight get {self.seconds:.0f}s (a second signal ends them now)"


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    def __str__(self) -> str:
        return "Stopped."


@dataclass(frozen=True, slots=True)
class ServerListening(Event):
    server: str
    address: str

    def __str__(self) -> str:
        return f"{self.server} listening on {self.address}"


@dataclass(frozen=True, slots=True)
class AllReady(Event):
    def __str__(self) -> str:
        return "All components are loaded. caraway is ready!"


@dataclass(frozen=True, slots=True)
class ConfigWarned(Event):
    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.config"
    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class ApiKeyUnusable(Event):
    """A key of `runtime.auth.api-key` admits nobody, for what `error` says; told once, until that changes."""

    level: ClassVar[Level] = Level.WARN
    target: ClassVar[str] = "caraway.server"
    key: str
    error: str

    def __str__(self) -> str:
        return f"{self.key} admits nobody: {self.error}"


@dataclass(frozen=True, slots=True)
class ChildCrashed(Event):
    """A supervised task died of a bug; `restart_in` None: it is quarantined or escalated."""

    level: ClassVar[Level] = Level.ERROR
    target: ClassVar[str] = "caraway.supervise"
    child: str
    error: str
    traceback: str
    restart_in: float | None

    def __str__(self) -> str:
        then = f"restarting in {self.restart_in:.1f}s" if self.restart_in is not None else "giving up on it"
        return f"{self.child} crashed: {self.error}; {then}"
