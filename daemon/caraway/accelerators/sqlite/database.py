"""One SQLite file through its ADBC driver: connections, transactions, errors.

Python's own `sqlite3` must never open these files: it is a second copy of the library in this process, whose POSIX
locks and this one's would cancel each other (sqlite.org, "How To Corrupt", 2.2.1).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc
import trio
from adbc_driver_sqlite import StatementOptions, dbapi

from caraway.accelerators.sqlite.sql import Value, quoted
from caraway.errors import StoreError

_BUSY_MILLIS = 10_000
"""How long a statement waits for another process; in this one a limiter keeps the writers apart."""
_CHECKPOINT_PAGES = 8_000
"""Half of 64 MiB: at a quarter, commits of 128k rows took twice the CPU, and waited longer for the disk."""
_WAL_BYTES = 64 * 1024**2
_CACHE_KIB = 16 * 1024
"""Of a writer, until `trim`: a commit over scattered keys writes a page once, and sorting for an index spills late."""
_PARAMETERS = 160
"""Values of one INSERT statement; more do not make it faster."""
_TRANSIENT = ("full", "locked", "busy", "I/O error", "unable to open", "readonly", "out of memory")
_FATAL = ("malformed", "not a database", "corrupt")

_writers: WeakValueDictionary[Path, trio.CapacityLimiter] = WeakValueDictionary()


def writer_limiter(path: Path) -> trio.CapacityLimiter:
    """The one place of the one writer of a file, whatever number of datasets it holds."""
    real = path.resolve()
    limiter = _writers.get(real)
    if limiter is None:
        limiter = _writers[real] = trio.CapacityLimiter(1)
    return limiter


class Database:
    """A connection; every method blocks, one thread at a time uses it. Failures are StoreError."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with self._errors():
            self._connection = dbapi.connect(uri, autocommit=True)
        self._cursor = self._connection.cursor()
        self._identity = _identity(path)
        try:
            self.execute(f"PRAGMA busy_timeout = {_BUSY_MILLIS}")
            if not read_only:
                self._configure()
        except StoreError:
            self.close()
            raise

    def _configure(self) -> None:
        self.execute("PRAGMA journal_mode = WAL")
        self.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        self.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self.execute("PRAGMA foreign_keys = OFF")
        self.durable(True)

    def durable(self, every_commit: bool) -> None:
        """FULL syncs the log at each commit. NORMAL leaves it to a later FULL one, for rows nobody was promised yet."""
        self.execute(f"PRAGMA synchronous = {'FULL' if every_commit else 'NORMAL'}")

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Run one statement; its rows, which must be few."""
        with self._errors():
            self._cursor.execute(sql, tuple(values) or None)
            rows: list[tuple[Value, ...]] = self._cursor.fetchall() if self._cursor.description else []
            return rows

    def check_there(self) -> None:
        """StoreError where the file was removed, or another put in its place: nobody else finds what is in it."""
        if _identity(self.path) != self._identity:
            raise StoreError(
                f"{self.path} was removed while it was in use.",
                remedy="Restart caraway, which begins with an empty file; put back first what you have a copy of.",
                transient=False,
            )

    def change(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run one INSERT, UPDATE or DELETE; how many rows it touched."""
        self.execute(sql, values)
        return self.number("SELECT changes()")

    def number(self, sql: str, values: Sequence[Value] = ()) -> int:
        """The integer that a query yields; 0 for NULL and for no row."""
        rows = self.execute(sql, values)
        return int(rows[0][0] or 0) if rows else 0

    def ingest(self, table: str, rows: pa.RecordBatch, *, temporary: bool = False) -> None:
        with self._errors():
            self._cursor.adbc_ingest(table, rows, mode="append", temporary=temporary)

    def ingest_on(self, table: str, rows: pa.RecordBatch) -> None:
        """The same for rows that get the rowids after the greatest of the table, in their order.

        Some rows a statement and rowids from SQLite: 2.0 M rows/s of CPU where `ingest` with rowids took 1.1.
        """
        names = rows.schema.names
        each = max(1, _PARAMETERS // len(names))
        whole = rows.num_rows - rows.num_rows % each
        places = pa.array(range(0, whole, each), pa.int64())
        columns = [column for place in range(each) for column in rows.take(pc.add(places, place)).columns]
        values = ", ".join([f"({', '.join('?' * len(names))})"] * each)
        sql = f"INSERT INTO {quoted(table)} ({', '.join(map(quoted, names))}) VALUES {values}"
        with self._errors():
            self._cursor.executemany(
                sql, pa.RecordBatch.from_arrays(columns, names=list(map(str, range(len(columns)))))
            )
        if whole < rows.num_rows:
            self.ingest(table, rows.slice(whole))

    @contextmanager
    def read(self, sql: str, values: Sequence[Value], batch_rows: int) -> Iterator[Iterator[pa.RecordBatch]]:
        """A query's rows as they come, in batches of so many rows; other statements may run meanwhile."""
        cursor = self._connection.cursor()
        try:
            with self._errors():
                cursor.adbc_statement.set_options(**{StatementOptions.BATCH_ROWS.value: str(batch_rows)})
                cursor.execute(sql, tuple(values) or None)
                reader = cursor.fetch_record_batch()
            yield self._batches(reader)
        finally:
            cursor.close()

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                with self._errors():
                    batch = reader.read_next_batch()
            except StopIteration:
                return
            yield batch

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; durable when the context ends."""
        self.check_there()
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        try:
            self.execute("ROLLBACK")
        except StoreError as error:
            if "no transaction is active" not in str(error):  # SQLite rolls back by itself when the disk is full
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All reads within see one state of the file."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def trim(self) -> None:
        """Give the memory of cached pages back."""
        self.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        self._cursor.close()
        with self._errors():
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            raise store_error(error, self.path) from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that has this name now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def store_error(error: Exception, path: Path) -> StoreError:
    """What the driver said, with its remedy."""
    text = str(error).partition("\nquery")[0]
    if any(word in text for word in _FATAL):
        remedy = "Restore the file from a copy, or remove it to load the dataset anew."
        return StoreError(f"{path} is damaged: {text}.", remedy=remedy, transient=False)
    if "disk is full" in text:
        return StoreError(f"The disk of {path} is full.", remedy="Free space there; the data is intact.")
    remedy = "See that its folder is there and that this user may write to it." if "unable to open" in text else ""
    return StoreError(f"{path}: {text}.", remedy=remedy, transient=any(word in text for word in _TRANSIENT))
