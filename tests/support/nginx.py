"""A real nginx on loopback as an origin: its own folder, its own configuration, its own log of what was asked."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.daemons import wait_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
MISSING = "Debian's nginx is not installed, and only root can install it (scripts/servers does)"

_USER = "user root;" if os.geteuid() == 0 else ""
"""Its worker would change to a user who can't read the test's folder."""

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ application/json json; text/csv csv; application/octet-stream parquet; }}
  log_format asked escape=json '{{"path":"$uri","query":"$args","status":$status,"sent":$body_bytes_sent,'
    '"if_none_match":"$http_if_none_match","encoding":"$sent_http_content_encoding"}}';
  access_log {folder}/access.log asked;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/files;
    etag on;
    gzip on; gzip_min_length 1; gzip_types application/json; gzip_proxied any;
{locations}
  }}
}}
"""


@dataclass
class Nginx:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def file(self, path: str, content: bytes) -> None:
        """Put a file where requests find it, with a change that its ETag shows."""
        target = self.folder / "files" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def asked(self, path: str | None = None) -> list[dict[str, object]]:
        """What was asked so far, oldest first."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if path in {None, line["path"]}]

    def start(self) -> None:
        assert NGINX is not None
        command = [NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(self._listens, "nginx listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def nginx(folder: Path, locations: str = "") -> Iterator[Nginx]:
    """A running nginx whose server block also holds `locations`; ended with the context."""
    folder.mkdir(parents=True)
    (folder / "files").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=port, locations=locations, user=_USER))
    (folder / "access.log").touch()
    server = Nginx(folder, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
