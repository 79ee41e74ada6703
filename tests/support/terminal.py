"""A program on a pseudo terminal: what it wrote, what is typed into it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path

from support.daemons import wait_for

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


class Terminal:
    """`text` is all that the program wrote, without escape sequences."""

    def __init__(self, command: Sequence[str], env: dict[str, str], *, columns: int, rows: int = 50) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._master, False)
        self.process = subprocess.Popen(
            # A session of its own, whose terminal this is, so that Ctrl-C is a signal.
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # Nothing here answers the question where the cursor is.
            env={**env, "TERM": "xterm", "COLUMNS": str(columns), "PROMPT_TOOLKIT_NO_CPR": "1"},
        )
        os.close(slave)
        self._written = b""

    @property
    def text(self) -> str:
        try:
            while chunk := os.read(self._master, 65_536):
                self._written += chunk
        except OSError:  # nothing more for now, or the other end is closed
            pass
        return ESCAPE.sub("", self._written.decode(errors="replace")).replace("\r", "")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, wanted: str, seconds: float = 30.0) -> str:
        """All that was written, once it holds `wanted`; what came before is forgotten by the next call."""
        wait_for(lambda: wanted in self.text or self.process.poll() is not None, f"{wanted!r} is shown", seconds)
        text = self.text
        assert wanted in text, text
        self._written = b""
        return text

    def answer(self, wanted: str, prompt: str, seconds: float = 30.0) -> str:
        """As `expect`, and the next prompt is there too: keys that come before it are lost on the way to raw mode."""
        wait_for(lambda: prompt in self.text.partition(wanted)[2] or self.process.poll() is not None, wanted, seconds)
        return self.expect(wanted)

    def ended(self) -> int:
        """Its exit code. A terminal that nobody reads would block the program: `text` reads it."""
        wait_for(lambda: (self.text or True) and self.process.poll() is not None, "the program ends", 40)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def descendants(process: int) -> list[str]:
    """Processes that are still in the session of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == process and fields[0] != "Z":
            found.append(stat.parent.name)
    return found
