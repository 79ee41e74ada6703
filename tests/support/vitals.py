"""What a process takes: memory, open files, threads, as the kernel tells; for tests that nothing grows."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Vitals:
    """`resident` and its part that is no file, in bytes; `sockets` are some of the `files`."""

    resident: int
    anonymous: int
    files: int
    sockets: int
    threads: int

    def __str__(self) -> str:
        memory = f"{self.resident // MIB} MiB ({self.anonymous // MIB} of its own)"
        return f"{memory}, {self.files} files ({self.sockets} sockets), {self.threads} threads"


def vitals(pid: int) -> Vitals:
    folder = Path(f"/proc/{pid}")
    lines = (line.partition(":") for line in (folder / "status").read_text().splitlines())
    told = {name: value.split()[0] for name, _, value in lines if value.split()}
    opened = [target for link in (folder / "fd").iterdir() if (target := _target(link))]
    return Vitals(
        resident=int(told["VmRSS"]) * 1024,
        anonymous=int(told["RssAnon"]) * 1024,
        files=len(opened),
        sockets=sum(target.startswith("socket:") for target in opened),
        threads=int(told["Threads"]),
    )


def _target(link: Path) -> str:
    """What an open file is; nothing if it was closed meanwhile."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def folder_size(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except OSError:  # it went meanwhile
            continue
        total += found.st_blocks * 512
    return total
