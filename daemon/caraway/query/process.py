"""A worker as the actor sees it, and the real one: a child process with a socket in a private directory."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from caraway.core.casualties import Death
from caraway.query import wire
from caraway.query.settings import WorkerSettings
from caraway.query.socketline import open_line

START_TIMEOUT = 30.0
"""Seconds to wait for `ready`; a start takes 0.3 s alone and several on a machine that is busy elsewhere."""

T = TypeVar("T")

_PREFIX = "caraway-worker-"
_LONGEST_SOCKET = 107
_ENVIRONMENT = {
    # Without this mimalloc commits an arena of 1 GiB at once, which RLIMIT_DATA counts: 1232 against 88 MB when idle.
    "MIMALLOC_ARENA_EAGER_COMMIT": "0",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_INHERITED = frozenset({"HOME", "LANG", "PATH", "TZ", "TZDIR", "VIRTUAL_ENV"})
_INHERITED_PREFIXES = ("LC_", "LD_", "PYTHON", "RUST_", "TOKIO_")
_STDERR_KEPT = 4096


class Line(Protocol):
    """A connection to a worker; trio.BrokenResourceError where the other end is gone."""

    async def receive_into(self, space: memoryview) -> int:
        """Bytes received; 0 at the end."""
        ...

    async def send_all(self, data: bytes) -> None: ...

    async def send_eof(self) -> None:
        """Hang up; what the worker still sends can be received."""
        ...

    def close(self) -> None: ...


class Worker(Protocol):
    """One life of a worker. `ready` and `dead` are set once; `death` says why when it is dead."""

    ready: trio.Event
    dead: trio.Event

    @property
    def pid(self) -> int: ...

    @property
    def death(self) -> Death: ...

    @property
    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        ...

    async def run(self) -> None:
        """From start to death; cancelling it kills."""
        ...

    async def connect(self) -> Line:
        """A connection for one query; OSError where the worker is dead."""
        ...

    def kill(self, death: Death) -> None:
        """End it now, for this reason; a worker dies once."""
        ...


class WorkerProcess:
    """A child process; it dies with the daemon, whose end of its standard input it watches."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: trio.Process | None = None
        self._death: Death | None = None
        self._last_words = b""
        self.ready = trio.Event()
        self.dead = trio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def death(self) -> Death:
        return self._death or Death.CRASHED

    @property
    def last_words(self) -> str:
        return self._last_words.decode(errors="replace").strip()

    async def run(self) -> None:
        try:
            self._process = process = await self._start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, _piped(process.stdout))
                nursery.start_soon(self._remember, _piped(process.stderr))
                await process.wait()
                nursery.cancel_scope.cancel()
        except OSError as error:
            self._last_words = str(error).encode()
        finally:
            if self._process is not None:
                await self._bury(self._process)
            self.dead.set()
            shutil.rmtree(self._settings.directory, ignore_errors=True)

    async def _start(self) -> trio.Process:
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "caraway.query.worker", wire.dumps(self._settings).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_inherited(), **_ENVIRONMENT, "TMPDIR": os.fspath(self._settings.directory)},
            cwd=self._settings.directory,
        )

    async def _listen(self, stdout: trio.abc.ReceiveStream) -> None:
        with trio.move_on_after(START_TIMEOUT) as waiting:
            if await stdout.receive_some(64):
                self.ready.set()
        if waiting.cancelled_caught:
            self.kill(Death.CRASHED)

    async def _remember(self, stderr: trio.abc.ReceiveStream) -> None:
        async for data in stderr:
            self._last_words = (self._last_words + data)[-_STDERR_KEPT:]

    async def _bury(self, process: trio.Process) -> None:
        process.kill()
        with trio.CancelScope(shield=True):  # SIGKILL takes effect in milliseconds
            await process.wait()
            with trio.move_on_after(0.1):  # what it still had to say is in the pipe
                await self._remember(_piped(process.stderr))
            for pipe in (process.stdin, process.stdout, process.stderr):
                await _piped(pipe).aclose()
        if self._death is None:
            self._death = self._cause(process.returncode)

    def _cause(self, returncode: int | None) -> Death:
        """SIGKILL that nobody here sent is the kernel's, short of memory; an abort says in words what it lacked."""
        refused = b"memory allocation of" in self._last_words or b"bad_alloc" in self._last_words
        return Death.MEMORY if returncode == -signal.SIGKILL or refused else Death.CRASHED

    async def connect(self) -> Line:
        return await open_line(self._reachable())

    def _reachable(self) -> Path:
        """The socket by a name that fits into a socket address."""
        socket = self._settings.socket
        return socket if len(os.fsencode(socket)) <= _LONGEST_SOCKET else Path(f"/proc/{self.pid}/cwd", socket.name)

    def kill(self, death: Death) -> None:
        if self._death is None and not self.dead.is_set():
            self._death = death
            if self._process is not None:
                self._process.kill()


def _inherited() -> dict[str, str]:
    """What a worker needs of this process's environment; where others keep secrets it sees none."""
    return {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def _piped(pipe: T | None) -> T:
    if pipe is None:
        raise RuntimeError("the worker was started without this pipe")
    return pipe


def private_directory(parent: Path | None) -> Path:
    """A fresh directory that only this user can enter."""
    base = parent if parent is not None else Path(tempfile.gettempdir())
    base.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base.absolute()))


def wipe_left_over(parent: Path | None) -> None:
    """Remove what workers of daemons that are gone left in the temp directory."""
    base = parent if parent is not None else Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(left, ignore_errors=True)
