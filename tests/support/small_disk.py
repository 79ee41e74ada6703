"""A file system of a few megabytes, to be filled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[Path]:
    """Mounted at `folder`; a test that may not mount is skipped."""
    folder.mkdir(parents=True)
    size = f"size={megabytes}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # a worker that was killed may take a moment to end


@contextmanager
def filled(disk: Path) -> Iterator[Path]:
    """No byte is free until the context ends, but for what is freed meanwhile; yields the file that takes the room."""
    balloon = disk / "balloon"
    inflate(balloon)
    yield balloon
    balloon.unlink()


def inflate(balloon: Path) -> None:
    """Take what is free."""
    with balloon.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
