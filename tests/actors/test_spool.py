"""Temporary files of answers: what the disk does not take is put elsewhere, as long as it is not much."""

from contextlib import aclosing
from pathlib import Path

import pyarrow as pa
import pytest
import trio

from caraway.dataset import spool as spools
from caraway.dataset.spool import Spool
from caraway.errors import QueryError, QueryFailure, StoreError
from support.small_disk import filled, small_disk

SCHEMA = pa.schema([("n", pa.int64())])


def batch(kib: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(kib * 128), pa.int64())], schema=SCHEMA)


async def each(*batches: pa.RecordBatch):
    for one in batches:
        await trio.lowlevel.checkpoint()
        yield one


def rows(path: Path) -> int:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().num_rows


class Places:
    """A spool on a full disk, and what is in its spare folder, which is made when it is needed."""

    def __init__(self, tmp_path: Path, **options: object) -> None:
        self.spare = tmp_path / "spare"
        self.spool = Spool(tmp_path / "disk" / "spool", 10**9, **{"spare": self.make} | options)

    def make(self) -> Path:
        self.spare.mkdir()
        return self.spare

    @property
    def files(self) -> list[Path]:
        return list(self.spare.iterdir())


@pytest.fixture
def disk(tmp_path: Path):
    with small_disk(tmp_path / "disk", 8) as folder:
        yield folder


async def fill(spool: Spool, *batches: pa.RecordBatch) -> int:
    async with aclosing(each(*batches)) as given:
        with spool.file(SCHEMA) as file:
            snapshot = await file.fill(given)
            return rows(*snapshot.data.paths)


async def test_with_room_the_spare_folder_is_not_made(tmp_path, disk):
    places = Places(tmp_path)
    assert await fill(places.spool, batch(64), batch(64)) == 128 * 128
    assert not places.spare.exists()


async def test_what_a_full_disk_does_not_take_goes_to_the_spare_folder(tmp_path, disk):
    places = Places(tmp_path)
    with filled(disk):
        assert await fill(places.spool, batch(64)) == 64 * 128
        assert await fill(places.spool, batch(8000)) == 8000 * 128
        assert await fill(places.spool) == 0
        async with aclosing(each(batch(1), batch(1))) as given:
            with places.spool.file(SCHEMA) as file:
                await file.fill(given)
                assert len(places.files) == 1
        assert places.files == []
    assert list((disk / "spool").iterdir()) == []
    assert places.spool.used == 0


async def test_a_disk_that_fills_up_meanwhile_is_left_with_all_that_was_written(tmp_path, disk):
    places = Places(tmp_path)
    async with aclosing(each(*[batch(500)] * 12)) as first, aclosing(each(*[batch(500)] * 7)) as given:
        with places.spool.file(SCHEMA) as other, places.spool.file(SCHEMA) as file:
            await other.fill(first)
            snapshot = await file.fill(given)
            assert rows(*snapshot.data.paths) == 3500 * 128
            assert len(places.files) == 1


async def test_more_than_is_at_hand_fails_as_the_disk_does(tmp_path, disk):
    places = Places(tmp_path)
    with pytest.raises(QueryError, match="No space left") as caught:
        await fill(places.spool, *[batch(500)] * 40)
    assert caught.value.failure is QueryFailure.RESOURCES
    assert list((disk / "spool").iterdir()) == []
    assert places.spool.used == 0


async def test_the_spare_folder_is_bounded_also_for_what_grows_there(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(spools, "SPARE_BYTES", 1024**2)
    places = Places(tmp_path)
    async with aclosing(each(batch(600))) as first:
        with filled(disk), places.spool.file(SCHEMA) as file:
            await file.fill(first)
            for more in [batch(600)], [batch(200)] * 3:
                with pytest.raises(QueryError, match="No space left"):
                    await fill(places.spool, *more)
            assert await fill(places.spool, batch(400)) == 400 * 128
            assert len(places.files) == 1


@pytest.mark.parametrize("error", [OSError("no"), StoreError("no")])
async def test_without_a_spare_folder_the_error_is_of_the_disk(tmp_path, disk, error):
    def make() -> Path:
        raise error

    with filled(disk), pytest.raises(QueryError, match="No space left"):
        await fill(Places(tmp_path, spare=make).spool, batch(64))
