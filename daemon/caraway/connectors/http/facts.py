"""What is known of a file that was fetched, kept over restarts, so that an unchanged one needs no second look."""

import json
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from caraway.connectors.http.answers import Validators

_FILE = "facts.json"


@dataclass(frozen=True, slots=True)
class Facts:
    """The schema that a file had when its server told these validators; `reading` names the address and the format."""

    reading: str
    validators: Validators
    schema: pa.Schema


def reading(url: str, how: object) -> str:
    """A name for reading this address in this way, `how` being a value whose repr says all of it."""
    return blake2b(f"{url}\0{how!r}".encode(), digest_size=16).hexdigest()


def load(directory: Path, name: str) -> Facts | None:
    """What an earlier run noted of the same reading; blocks. None too where that can't be understood."""
    try:
        document = json.loads((directory / _FILE).read_bytes())
        if document["reading"] != name:
            return None
        schema = pa.ipc.read_schema(pa.py_buffer(b64decode(document["schema"])))
        return Facts(name, Validators(**document["validators"]), schema)
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException):
        return None


def save(directory: Path, facts: Facts) -> None:
    """Note it, whole or not at all; blocks. A disk that does not take it only costs the next run a download."""
    told = facts.validators
    document = {
        "reading": facts.reading,
        "validators": {"etag": told.etag, "modified": told.modified, "length": told.length},
        "schema": b64encode(facts.schema.serialize()).decode(),
    }
    draft = directory / f"{_FILE}.new.json"
    with suppress(OSError):
        draft.write_text(json.dumps(document))
        draft.replace(directory / _FILE)
