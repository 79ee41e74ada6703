"""An origin (`origin.py`) in a process of its own, for tests without an event loop."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.daemons import CLIENT
from support.origin import CONTROL

_TESTS = Path(__file__).parent.parent


class OriginProcess:
    """`told("put", place="/items", json=[..])` and the like are the methods of `Origin` by name."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, port: int = 0) -> None:
        """Serve, knowing nothing; at the port it had, to come back after `stop`."""
        command = [sys.executable, "-m", "support.origin", str(port or self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_TESTS)
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the origin did not start"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2]) if self.url else 0

    def told(self, method: str, **arguments: object) -> object:
        answer = CLIENT.post(self.url + CONTROL + method, json=arguments, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def put(self, place: str, **told: object) -> None:
        self.told("put", place=place, **told)

    def then(self, place: str, **told: object) -> None:
        self.told("then", place=place, **told)

    def count(self, place: str = "") -> int:
        return int(self.told("count", place=place))

    def seen(self) -> dict[str, object]:
        """`requests` (each with method, path, query, headers, body), `connections`, `greatest`."""
        return CLIENT.get(self.url + CONTROL, timeout=30).json()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Connections are taken, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


@contextmanager
def origin_process() -> Iterator[OriginProcess]:
    """One that serves until the end of the block."""
    process = OriginProcess()
    try:
        process.start()
        yield process
    finally:
        process.stop()
