"""Real caraway processes on loopback for end-to-end tests: started, asked, killed, always ended."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
START_SECONDS = 30.0
"""Far more than a start takes; two cores that run other tests beside it are slow."""
CLIENT = httpx2.Client(verify=False, limits=httpx2.Limits(max_keepalive_connections=0))
"""Of all plain requests: a client of its own, which reads the certificates of the system, costs each one 45 ms."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> object:
    """The first true value of `condition`, asked every 50 ms; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Node:
    """One daemon: its folder, its process, its addresses."""

    def __init__(self, folder: Path, pod: str, *flags: str, ca: Path | None = None) -> None:
        self.folder = folder
        self.flags = flags
        self.ca = ca
        """The CA of its certificate; None for one that serves without TLS."""
        self.process: subprocess.Popen[bytes] | None = None
        self.endpoints: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        """Added to this process's own."""
        folder.mkdir(parents=True, exist_ok=True)
        self.pod = folder / "spicepod.yaml"
        self.pod.write_text(pod)
        self.data = folder / "data"
        self.log = folder / "log.jsonl"

    def start(self, *, http: str = "127.0.0.1:0", flight: str = "127.0.0.1:0") -> None:
        """Start it and wait until its addresses are written."""
        written = self.data / "endpoints.json"
        written.unlink(missing_ok=True)
        command = [sys.executable, "-m", "caraway", "run", str(self.folder), "--http", http, "--flight", flight]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data), *self.flags],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        wait_for(lambda: written.exists() or self.process.poll() is not None, "endpoints.json")
        assert self.process.poll() is None, self.log.read_text()
        self.endpoints = json.loads(written.read_text())

    def restart(self) -> None:
        """Start again at the addresses it had."""
        self.start(http=self.endpoints["http"], flight=self.endpoints["flight"])

    @property
    def url(self) -> str:
        scheme = "http" if self.ca is None else "https"
        return f"{scheme}://{self.endpoints['http']}"

    def get(self, path: str) -> httpx2.Response:
        return self.request("GET", path)

    def post(self, path: str, **options: object) -> httpx2.Response:
        return self.request("POST", path, timeout=120, **options)

    def patch(self, path: str, **options: object) -> httpx2.Response:
        return self.request("PATCH", path, **options)

    def request(self, method: str, path: str, *, timeout: float = 30, **options: object) -> httpx2.Response:
        """Over a connection of its own."""
        if self.ca is None:
            return CLIENT.request(method, self.url + path, timeout=timeout, **options)
        trusting = ssl.create_default_context(cafile=self.ca)
        return httpx2.request(method, self.url + path, timeout=timeout, verify=trusting, **options)

    def sql(self, query: str) -> pa.Table:
        """The answer as Arrow; AssertionError with the server's words when it is refused."""
        answer = self.post("/v1/sql", content=query.encode(), headers={"accept": ARROW})
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}\n{query}"
        return pa.ipc.open_stream(answer.content).read_all()

    def scalar(self, query: str) -> object:
        return self.sql(query).column(0)[0].as_py()

    def dataset(self, name: str) -> dict[str, object]:
        return self.get(f"/v1/datasets/{name}").json()

    def wait_ready(self, seconds: float = 60.0) -> None:
        wait_for(lambda: self.get("/v1/ready").status_code == 200, f"{self.folder.name} ready", seconds)

    @property
    def family(self) -> list[int]:
        """The process and its children, the query workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [self.process.pid, *(int(child) for path in children for child in path.read_text().split())]

    def work(self) -> int:
        """Processor time that its workers took so far, in ticks."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self.family[1:]]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=40)
        finally:
            self.process.kill()


@contextmanager
def running(*nodes: Node) -> Iterator[None]:
    """Start the nodes in order; kill whatever still runs at the end."""
    try:
        for node in nodes:
            node.start()
        yield
    finally:
        for node in nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
