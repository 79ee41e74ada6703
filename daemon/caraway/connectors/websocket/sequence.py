"""The column by which a stream of rows is resumed: what is stored of it, and what comes again."""

import json
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from caraway.kernels import keep
from caraway.model import Cursor

_WIDE = pa.decimal128(20)
"""Holds every integer of 64 bits, signed or not."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """`column` holds whole numbers that rise; `start` stands for the greatest one while nothing is stored."""

    column: str
    start: int = 0

    def encode(self, greatest: int) -> Cursor:
        """The cursor after rows of which this is the greatest."""
        return Cursor(json.dumps({"column": self.column, "sequence": greatest}, separators=(",", ":")))

    def decode(self, cursor: Cursor | None) -> int | None:
        """The greatest sequence that is stored; None for what is no cursor of this column."""
        try:
            document = json.loads(cursor or "")
            column, greatest = document["column"], document["sequence"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return None
        whole = isinstance(greatest, int) and not isinstance(greatest, bool) and -(2**63) <= greatest < 2**64
        return greatest if whole and column == self.column else None

    def text(self, stored: int | None) -> str:
        """What the server is told to go on after."""
        return str(self.start if stored is None else stored)

    def fresh(self, rows: pa.RecordBatch, stored: int | None) -> pa.RecordBatch:
        """The rows that come after what was stored when the connection was made."""
        if stored is None:
            return rows
        column = rows.column(self.column).cast(_WIDE)
        return keep(rows, pc.greater(column, pa.scalar(Decimal(stored), _WIDE)))

    def greatest(self, rows: pa.RecordBatch, before: int | None) -> int | None:
        """Of these rows and those before."""
        found: int | None = pc.max(rows.column(self.column)).as_py() if rows.num_rows else None
        return max((one for one in (found, before) if one is not None), default=None)
