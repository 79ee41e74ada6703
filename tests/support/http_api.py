"""An API as a source, over an origin without a socket (support.origin)."""

from datetime import UTC, datetime

import pyarrow as pa
import trio

from caraway.config.model import ColumnDecl, Dataset, FromUri
from caraway.config.params import ConnectorParams
from caraway.connectors.http.options import read_address, read_api
from caraway.connectors.http.source import MOST_BYTES, HttpSource
from caraway.model import ReadRequest, Request
from caraway.secrets import Secrets
from support.origin import Origin

AT = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)

OPEN = {
    "allowed_request_paths": "/**",
    "request_query_filters": "enabled",
    "request_body_filters": "enabled",
    "request_header_filters": "enabled",
    "request_header_allowlist": "x-page, x-region",
}


def params(given: dict[str, str]) -> ConnectorParams:
    return ConnectorParams(given, Secrets({}), "api")


def dataset(url: str, columns: tuple[ColumnDecl, ...] = (), **options: object) -> Dataset:
    return Dataset("api", FromUri(url.partition(":")[0], url.partition("//")[2], url), columns=columns, **options)


class Api:
    """A source and its origin; `namespaces` is who was asked for, `sent` what was sent, `closed` whether it ended."""

    def __init__(
        self,
        path: str = "",
        *,
        columns: tuple[ColumnDecl, ...] = (),
        headers: tuple[str, ...] = (),
        most_bytes: int = MOST_BYTES,
        **given: str,
    ) -> None:
        self.origin = Origin(wall=lambda: AT)
        self.namespaces: list[str] = []
        self.sent = []
        self.closed = False
        config = dataset(self.origin.url + path, columns)
        read = params({**OPEN, **given})
        api = read_api(config, read, read_address(config, read), headers)
        self.source = HttpSource(api, self._sender, self._close, wall=lambda: AT, most_bytes=most_bytes)

    def _sender(self, namespace: str):
        self.namespaces.append(namespace)

        async def send(request):
            self.sent.append(request)
            return await self.origin.send(request)

        return send

    async def _close(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    async def rows(self, **request: object) -> list[dict]:
        """What a read gives, and every batch as the schema says."""
        return (await self.table(**request)).to_pylist(maps_as_pydicts="strict")

    async def table(self, **request: object) -> pa.Table:
        wanted = ReadRequest(**request)
        schema = await self.source.schema()
        names = schema.names if wanted.columns is None else wanted.columns
        async with self.source.read(wanted) as batches:
            found = [batch async for batch in batches]
        return pa.Table.from_batches(found, pa.schema([schema.field(name) for name in names]))

    async def fetched(self, request: Request = Request(), namespace: str = "public") -> list[dict]:  # noqa: B008
        found = await self.source.fetch(request, namespace=namespace)
        return pa.Table.from_batches(found.rows, await self.source.schema()).to_pylist(maps_as_pydicts="strict")
