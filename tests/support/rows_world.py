"""The API over one dataset that is written to, a table with a column of each type, and its rows in every format."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

import orjson
import pyarrow as pa

from caraway.config.model import Access
from caraway.latest import Latest
from caraway.model import TableSpec
from caraway.servers.api.app import create_app
from support.fake_services import FakeServices, ask, dataset

ARROW = "application/vnd.apache.arrow.stream"
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ROWS = "/v1/datasets/{}/rows"

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("small", pa.int8()),
        ("big", pa.uint64()),
        ("real", pa.float32()),
        ("double", pa.float64()),
        ("price", pa.decimal128(10, 2)),
        ("wide", pa.decimal256(60, 20)),
        ("at", pa.timestamp("us")),
        ("zoned", pa.timestamp("ms", "UTC")),
        ("day", pa.date32()),
        ("clock", pa.time64("us")),
        ("tick", pa.time32("s")),
        ("raw", pa.binary()),
        ("ok", pa.bool_()),
        ("word", pa.string()),
    ]
)


class Log:
    def __init__(self, spec):
        self.spec = spec


class World:
    """The API over one dataset `t` that is written to."""

    def __init__(self, schema=SCHEMA, key=(), *, access=Access.READ_WRITE, **services):
        self.dataset = dataset("t", source="memory:t")
        self.dataset.config = replace(self.dataset.config, access=access)
        self.dataset.log = Latest(Log(TableSpec("t", schema, key)))
        self.fake = FakeServices(self.dataset, dataset("orders"), **services)
        self.app = create_app(self.fake.services)

    async def post(self, body, kind=JSON, *, method="POST", name="t", **headers):
        answer = await ask(self.app, method, ROWS.format(name), body, {"content-type": kind, **headers})
        return answer.status, orjson.loads(answer.body), answer.headers

    @property
    def written(self):
        return [change for write in self.dataset.writes for change in write]

    async def rows(self, body, kind=JSON):
        """What was written of a body that is right."""
        status, answer, _ = await self.post(body, kind)
        assert status == 201, answer
        [change] = self.dataset.writes.pop()
        assert answer["rows"] == change.rows.num_rows
        assert change.rows.schema.equals(self.dataset.log.value.spec.schema)
        change.rows.validate(full=True)
        return change.rows.to_pylist()

    async def refusal(self, body, kind=JSON):
        """Why a body is not taken; nothing of it is written."""
        status, answer, _ = await self.post(body, kind)
        assert (status, self.dataset.writes) == (400, []), answer
        return answer


FULL = {
    "id": 9007199254740993,
    "small": -128,
    "big": 18446744073709551615,
    "real": 0.5,
    "double": 0.1,
    "price": Decimal("12345678.25"),
    "wide": Decimal("1234567890123456789012345678901234567890.00000000000000000001"),
    "at": datetime(2026, 1, 31, 10, 0, 0, 123456),  # noqa: DTZ001
    "zoned": datetime(2026, 1, 31, 10, 0, 0, 123000, UTC),
    "day": date(2024, 2, 29),
    "clock": time(23, 59, 59, 500000),
    "tick": time(1, 2, 3),
    "raw": b"\x00\xffhi",
    "ok": True,
    "word": 'é, "quoted"\n\U0001f600',
}
SPELLED = {
    "id": "9007199254740993", "small": "-128", "big": "18446744073709551615", "real": "0.5", "double": "0.1",
    "price": "12345678.25", "wide": "1234567890123456789012345678901234567890.00000000000000000001",
    "at": "2026-01-31T10:00:00.123456Z", "zoned": "2026-01-31T12:00:00.123+02:00", "day": "2024-02-29",
    "clock": "23:59:59.5", "tick": "01:02:03", "raw": "AP9oaQ==", "ok": "true", "word": 'é, "quoted"\n\U0001f600',
}  # fmt: skip
BARE = {"id", "small", "big", "real", "double", "price", "wide", "ok"}


def as_json(row, bare=BARE):
    """An object with the numbers as they are spelled."""
    return "{" + ",".join(f"{json.dumps(k)}:{v if k in bare else json.dumps(v)}" for k, v in row.items()) + "}"


def as_csv(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_stream(table, options=None):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write(table)
    return sink.getvalue()
