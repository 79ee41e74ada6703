"""The memory of datasets is given back, however their process ends."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec, forget, settle
from caraway.errors import ConfigError

CHILD = """
import sys
from pathlib import Path
from caraway.accelerators.storage import StorageSpec, settle
settled = settle(StorageSpec("t", Path(sys.argv[1])))
(settled.directory / "rows.arrow").write_bytes(b"x" * 1000)
print(settled.directory, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "theirs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        theirs = Path(child.stdout.readline().strip())
        mine = settle(StorageSpec("t", tmp_path / "mine"))
        assert (theirs / "rows.arrow").exists()
        child.kill()
    again = settle(StorageSpec("t", tmp_path / "again"))
    assert not theirs.exists()
    assert mine.directory.exists()
    for storage in (mine, again, mine):
        forget(storage)
    assert not mine.directory.exists()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_store_that_does_not_open_holds_nothing(tmp_path):
    storage = StorageSpec("t", tmp_path, primary_key=("nope",))
    before = descriptors()
    assert await open_accelerator(storage) is None
    for _ in range(3):
        with pytest.raises(ConfigError):
            await open_accelerator(storage, pa.schema({"a": pa.int64()}))
    assert descriptors() == before
