"""What this machine, or the cgroup that the daemon runs in, has to give."""

import os
from pathlib import Path


def usable_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of physical memory that this process may hope for."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, *_limits(cgroups), physical)


def _limits(cgroups: Path) -> list[int]:
    """What cgroup v2 or v1 allows, seen from inside a container."""
    texts = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            texts.append((cgroups / name).read_text().strip())
        except OSError:
            continue
    return [int(text) for text in texts if text.isdigit()]
