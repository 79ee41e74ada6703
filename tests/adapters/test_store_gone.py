"""A store whose files are removed while it is open says so, rather than write to what nobody finds."""

import shutil

import pyarrow as pa
import pytest

from caraway.accelerators.open import open_accelerator
from caraway.accelerators.storage import StorageSpec
from caraway.config.model import Engine, StorageMode
from caraway.dataset.answer import stored_snapshot
from caraway.errors import QueryError, QueryFailure, StoreError
from caraway.model import Append

SCHEMA = pa.schema([("id", pa.int64())])
ROW = Append(pa.record_batch([pa.array([1])], schema=SCHEMA))


@pytest.fixture(params=[Engine.SQLITE, Engine.PARQUET])
async def store(request, tmp_path):
    storage = StorageSpec("t", tmp_path / "t", request.param, StorageMode.FILE)
    store = await open_accelerator(storage, SCHEMA)
    await store.commit([ROW], None)
    yield store
    await store.aclose()


async def test_commits_fail_with_a_remedy(store, tmp_path):
    shutil.rmtree(tmp_path / "t")
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            await store.commit([ROW], None)
        assert "restart caraway" in caught.value.remedy.lower()


async def test_another_file_of_the_same_name_is_not_taken_for_it(tmp_path):
    store = await open_accelerator(StorageSpec("t", tmp_path / "t", Engine.SQLITE, StorageMode.FILE), SCHEMA)
    await store.commit([ROW], None)
    (file,) = (tmp_path / "t").glob("*.db")
    shutil.copy(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    with pytest.raises(StoreError, match="removed"):
        await store.commit([ROW], None)
    await store.aclose()


async def test_a_query_is_told_that_it_can_t_be_read(tmp_path):
    store = await open_accelerator(StorageSpec("t", tmp_path / "t", Engine.SQLITE, StorageMode.FILE), SCHEMA)
    await store.commit([ROW], None)
    with stored_snapshot(store) as snapshot:
        assert snapshot.rows == 1
    shutil.rmtree(tmp_path / "t")
    with pytest.raises(QueryError, match="Restart caraway") as caught, stored_snapshot(store):
        pass
    assert caught.value.failure is QueryFailure.UNAVAILABLE
    await store.aclose()
