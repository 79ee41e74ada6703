"""The source of a `file:` dataset: lists its files anew for each question, reads them one after another."""

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import trio

from caraway import blocking
from caraway.config.model import Dataset
from caraway.config.params import ConnectorParams
from caraway.connectors.draw import draw, needed_columns
from caraway.connectors.file.listing import File, TooManyFilesError, list_files, token
from caraway.connectors.file.options import file_spec
from caraway.connectors.file.spec import VIRTUAL, FileSpec
from caraway.connectors.formats.base import Format
from caraway.connectors.formats.failures import understanding
from caraway.connectors.formats.rows import rows_of, shaped
from caraway.connectors.formats.schemas import merged, with_declared
from caraway.core.predicate import And, Predicate, all_of, columns_of
from caraway.errors import SourceError
from caraway.kernels import filter_batch
from caraway.model import ReadRequest

_THREADS = 2


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files as they were listed, their format and the schema that they share."""

    files: tuple[File, ...]
    format: Format
    stored: pa.Schema
    schema: pa.Schema
    """`stored` and the virtual columns."""


class FileSource:
    """A folder, a glob or a file as a table."""

    def __init__(self, spec: FileSpec) -> None:
        self._spec = spec
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._newest: tuple[str, FileSet] | None = None

    async def schema(self) -> pa.Schema:
        return (await self._file_set()).schema

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        found = await self._file_set()
        columns = needed_columns(found.schema, request, dataset=self._spec.dataset)
        batches = _rows(self._spec, found, columns, request.predicate)
        async with aclosing(draw(batches, request, self._limiter, dataset=self._spec.dataset)) as rows:
            yield rows

    async def version(self) -> str | None:
        return token(await blocking.call(_listed, self._spec, limiter=self._limiter))

    async def aclose(self) -> None:
        pass

    async def _file_set(self) -> FileSet:
        files = await blocking.call(_listed, self._spec, limiter=self._limiter)
        version = token(files)
        if self._newest is None or self._newest[0] != version:
            self._newest = version, await blocking.call(_inspect, self._spec, files, limiter=self._limiter)
        return self._newest[1]

    def __repr__(self) -> str:
        return f"FileSource({self._spec.dataset!r}, {str(self._spec.where)!r})"


async def open_file_source(dataset: Dataset, params: ConnectorParams, *, directory: Path) -> FileSource:
    """The source of a `file:` dataset of the pod in `directory`; ConfigError for a wrong parameter."""
    return FileSource(file_spec(dataset, params, directory))


def _listed(spec: FileSpec) -> tuple[File, ...]:
    suffixes = [spec.suffix] if spec.suffix else _suffixes(spec)
    with reading(spec.where, spec.dataset):
        files = list_files(spec.where, suffixes)
    if not files:
        raise SourceError(
            f"{spec.dataset}: no file matches {spec.where}.",
            remedy=f"Check the path; looked for files that end in {', '.join(suffixes)}.",
        )
    return files


def _suffixes(spec: FileSpec) -> list[str]:
    formats = [spec.formats[spec.format]] if spec.format else list(spec.formats.values())
    return [suffix for kind in formats for suffix in kind.suffixes]


def _inspect(spec: FileSpec, files: tuple[File, ...]) -> FileSet:
    kind = _format(spec, files)
    stored = with_declared(merged(_schemas(spec, kind, files), loose=kind.loose, dataset=spec.dataset), spec.declared)
    added = [(name, VIRTUAL[name][0]) for name in spec.virtual if name not in stored.names]
    return FileSet(files, kind, stored, pa.schema([*stored, *(pa.field(*column) for column in added)]))


def _format(spec: FileSpec, files: Sequence[File]) -> Format:
    if spec.format:
        return spec.formats[spec.format]
    told = {
        name for name, kind in spec.formats.items() if any(f.path.name.lower().endswith(kind.suffixes) for f in files)
    }
    if len(told) != 1:
        found = f"files of several formats ({', '.join(sorted(told))})" if told else "no name that tells its format"
        raise SourceError(
            f"{spec.dataset}: {spec.where} has {found}.",
            remedy=f"Set the parameter file_format to one of {', '.join(spec.formats)}.",
        )
    return spec.formats[told.pop()]


def _schemas(spec: FileSpec, kind: Format, files: Sequence[File]) -> Iterator[tuple[Path, pa.Schema]]:
    """The schema of each file; text files without a byte are passed over, as writers begin with those."""
    told = [file for file in files if file.size or not kind.loose]
    if not told:
        raise SourceError(
            f"{spec.dataset}: {files[0].path} is empty, so its columns are not known.",
            remedy="Write a header or a first row into it.",
        )
    for file in told:
        with reading(file.path, spec.dataset):
            schema = kind.schema(file.path)
        yield file.path, schema


def _rows(
    spec: FileSpec, found: FileSet, columns: Sequence[str], predicate: Predicate | None
) -> Generator[pa.RecordBatch, None, None]:
    """The named columns of all files that may hold rows for the predicate, in the files' order."""
    wanted = pa.schema([found.schema.field(name) for name in columns])
    for file in _possible(found, predicate):
        if not file.size and found.format.loose:
            continue
        facts = {name: pa.scalar(fact(file), kind) for name, (kind, fact) in VIRTUAL.items() if name in columns}
        with reading(file.path, spec.dataset):
            for batch in rows_of(file.path, found.format, found.stored, wanted=wanted, predicate=predicate):
                yield shaped(batch, wanted, facts)


def _possible(found: FileSet, predicate: Predicate | None) -> list[File]:
    """The files that conditions over virtual columns alone leave."""
    virtual = [name for name in found.schema.names if name not in found.stored.names]
    whole = all_of(predicate)
    terms = [term for term in (whole.terms if isinstance(whole, And) else (whole,)) if term is not None]
    told = all_of(*(term for term in terms if columns_of(term) <= set(virtual)))
    if told is None:
        return list(found.files)
    facts = {name: pa.array([VIRTUAL[name][1](file) for file in found.files], VIRTUAL[name][0]) for name in virtual}
    number = pa.array(range(len(found.files)), pa.int32())
    left = filter_batch(pa.RecordBatch.from_pydict({**facts, "": number}), told)
    return [found.files[index] for index in left.column("").to_pylist()]


@contextmanager
def reading(path: Path, dataset: str) -> Iterator[None]:
    """Failures of the disk and of the format as SourceError that names the file; all may heal by themselves."""
    try:
        with understanding(path, dataset):
            yield
    except FileNotFoundError as error:
        raise SourceError(f"{dataset}: {path} does not exist.", remedy="Check the path in `from`.") from error
    except PermissionError as error:
        raise SourceError(
            f"{dataset}: {path} may not be read.", remedy="Give the daemon's user the right to read it."
        ) from error
    except TooManyFilesError as error:
        raise SourceError(f"{dataset}: {path} means {error}.", remedy="Narrow the path.", transient=False) from error
    except OSError as error:
        raise SourceError(f"{dataset}: {path} can't be read: {error.strerror or error}.") from error
