"""An `http:` dataset whose address is that of a file: fetched whole, and not again while it is the same."""

import re
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import trio

from caraway import blocking
from caraway.config.model import Dataset, RefreshMode
from caraway.config.params import ConnectorParams
from caraway.connectors.draw import draw, needed_columns
from caraway.connectors.formats.base import Format
from caraway.connectors.formats.failures import understanding
from caraway.connectors.formats.options import NAMES, declared_types, formats_of, one_of
from caraway.connectors.formats.rows import rows_of, shaped
from caraway.connectors.formats.schemas import merged, with_declared
from caraway.connectors.http.answers import Validators
from caraway.connectors.http.copies import Copy
from caraway.connectors.http.facts import Facts, load, reading, save
from caraway.connectors.http.mirror import Mirror
from caraway.connectors.http.streaming import Streaming
from caraway.core.http_urls import place_of
from caraway.core.predicate import Predicate
from caraway.errors import ConfigError, ConfigProblem, SourceError
from caraway.model import ReadRequest
from caraway.ports import Source

_API = "json"
"""The `file_format` of an API, and of a file where nothing but its name says so."""
_OF_APIS = re.compile(r"allowed_request_paths|request_.*|max_request_.*|pagination.*")
"""Parameters that have no meaning for a file."""
_RECENT = 60.0
"""Seconds for which a copy that nobody has read yet is the file, where the server can't say whether it is another."""


def file_format(config: Dataset, params: ConnectorParams) -> str | None:
    """The format of the file that the dataset is; None where it is an API. ConfigError for a wrong `file_format`."""
    told = one_of(params, "file_format", {name: name for name in NAMES})
    if told is not None:
        return None if told == _API else NAMES[told]
    name = unquote(urlsplit(config.from_.text).path).lower()
    named = next((kind for kind, form in formats_of(params, {}).items() if name.endswith(form.suffixes)), None)
    return None if named == _API and name.endswith(".json") and _asks(config) else named


async def open_file_over_http(
    config: Dataset, params: ConnectorParams, url: str, *, wire: Streaming, directory: Path
) -> Source:
    """The file at `url`, which has no user information in it and the port of `http_port`; ConfigError.

    `directory` is for downloads of this dataset alone, below the data directory; it is made when it is needed. The
    source closes `wire`.
    """
    if _mode(config) is RefreshMode.CACHING:
        key = f"datasets[{config.name}].acceleration.refresh_mode"
        raise ConfigError(ConfigProblem("caching keeps answers of an API; this is a file: use full or append", key))
    kind = file_format(config, params) or _API
    declared = declared_types(config)
    form = formats_of(params, declared)[kind]
    mirror = Mirror(url, config.name, wire=wire, directory=directory)
    return HttpFileSource(
        HttpFile(config.name, url, form, declared, directory, keeps=config.acceleration is None), mirror
    )


def _asks(config: Dataset) -> bool:
    """Whether the dataset is used as an API is."""
    return _mode(config) is RefreshMode.CACHING or any(_OF_APIS.fullmatch(name) for name in config.params)


def _mode(config: Dataset) -> RefreshMode | None:
    return config.acceleration.refresh_mode if config.acceleration is not None else None


@dataclass(frozen=True, slots=True)
class HttpFile:
    """What a dataset says of its file; `keeps` where queries read it, so that its copy stays here."""

    dataset: str
    url: str
    format: Format
    declared: dict[str, pa.DataType]
    directory: Path
    keeps: bool = False

    @property
    def reading(self) -> str:
        return reading(self.url, self.format)

    def __str__(self) -> str:
        return place_of(self.url)


class HttpFileSource:
    """A file over HTTP as a table; those who want it at the same time share what the server answers."""

    def __init__(self, file: HttpFile, mirror: Mirror) -> None:
        self._file = file
        self._mirror = mirror
        self._turn = trio.CapacityLimiter(1)
        self._threads = trio.CapacityLimiter(2)
        self._copy: Copy | None = None
        self._facts: Facts | None = None
        self._remembers = False
        self._failed: tuple[float, SourceError] | None = None

    def __repr__(self) -> str:
        return f"HttpFileSource({self._file.dataset!r}, {self._file})"

    async def schema(self) -> pa.Schema:
        async with self._turn:
            facts = await self._remembered()
            if facts is not None and facts.validators.token is not None:
                told = await self._mirror.look(facts.validators)
                if told.token == facts.validators.token:
                    return facts.schema
            return (await self._newest(trio.current_time()))[1]

    async def version(self) -> str | None:
        async with self._turn:
            facts = await self._remembered()
            if facts is not None and facts.validators.token is None:
                return None  # the server does not tell
            told = await self._mirror.look(facts.validators if facts is not None else Validators())
        return None if told.token is None else f"{self._file.reading} {told.token}"

    def read(self, request: ReadRequest) -> AbstractAsyncContextManager[AsyncIterator[pa.RecordBatch]]:
        return self._read(request)

    @asynccontextmanager
    async def _read(self, request: ReadRequest) -> AsyncIterator[AsyncIterator[pa.RecordBatch]]:
        asked, file = trio.current_time(), self._file
        with ExitStack() as stack:
            async with self._turn:
                found, schema = await self._newest(asked)
                stack.enter_context(found.held())
            if not file.keeps:
                stack.callback(self._drop, found)
            columns = needed_columns(schema, request, dataset=file.dataset)
            wanted = pa.schema([schema.field(name) for name in columns])
            batches = _rows(file, found.path, schema, wanted=wanted, predicate=request.predicate)
            async with aclosing(draw(batches, request, self._threads, dataset=file.dataset)) as rows:
                yield rows

    async def aclose(self) -> None:
        if self._copy is not None:
            self._drop(self._copy)
        await self._mirror.aclose()

    async def _remembered(self) -> Facts | None:
        """What is known of the file, from this run or an earlier one."""
        if not self._remembers:
            self._facts = await blocking.call(load, self._file.directory, self._file.reading, limiter=self._threads)
            self._remembers = True
        return self._facts

    async def _newest(self, asked: float) -> tuple[Copy, pa.Schema]:
        """The file as it was at some moment since `asked`, and its schema; who failed since then failed for all."""
        if self._failed is not None and self._failed[0] >= asked:
            raise self._failed[1].again()
        if self._copy is None or self._facts is None or not _is_current(self._copy, asked):
            try:
                return await self._renewed()
            except SourceError as error:
                self._failed = trio.current_time(), error
                raise
        return self._copy, self._facts.schema

    async def _renewed(self) -> tuple[Copy, pa.Schema]:
        now, before = trio.current_time(), self._copy
        found = await self._mirror.fetch(before)
        if found is before and self._facts is not None:
            found.at = now
            return found, self._facts.schema
        try:
            schema = await blocking.call(_schema, self._file, found, limiter=self._threads)
        except BaseException:
            found.release()
            raise
        if before is not None:
            before.release()
        self._copy, self._facts = found, Facts(self._file.reading, found.validators, schema)
        self._remembers = True
        await blocking.call(save, self._file.directory, self._facts, limiter=self._threads)
        return found, schema

    def _drop(self, found: Copy) -> None:
        if self._copy is found:
            self._copy = None
        found.release()


def _is_current(found: Copy, asked: float) -> bool:
    """Whether the file is known to be the newest; of a server that can't tell, one that nobody has read yet is."""
    told = found.validators.token is not None or found.read
    return found.at >= asked or (not told and trio.current_time() - found.at < _RECENT)


def _schema(file: HttpFile, found: Copy) -> pa.Schema:
    if file.format.loose and not found.size:
        raise SourceError(
            f"{file.dataset}: {file} is empty, so its columns are not known.",
            remedy="Its first line has to be a header or a row.",
        )
    with _readable(file):
        schema = file.format.schema(found.path)
    return with_declared(merged([(found.path, schema)], loose=file.format.loose, dataset=file.dataset), file.declared)


def _rows(
    file: HttpFile, path: Path, stored: pa.Schema, *, wanted: pa.Schema, predicate: Predicate | None
) -> Generator[pa.RecordBatch, None, None]:
    with _readable(file):
        for batch in rows_of(path, file.format, stored, wanted=wanted, predicate=predicate):
            yield shaped(batch, wanted)


@contextmanager
def _readable(file: HttpFile) -> Iterator[None]:
    """What is wrong with a copy, as SourceError."""
    try:
        with understanding(file, file.dataset):
            yield
    except OSError as error:
        raise SourceError(f"{file.dataset}: the copy of {file} can't be read: {error.strerror or error}.") from error
