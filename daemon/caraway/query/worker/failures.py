"""What DataFusion says of a failure, without the noise of its Rust types, and what kind of failure it is."""

import re

from caraway.errors import QueryError, QueryFailure
from caraway.query.worker.scans import READ_ONLY

_PREFIXES = re.compile(
    r"^(?:DataFusion error: |Error during planning: |Execution error: |Arrow error: |External error: |Context: "
    r"|Optimizer rule '\w+' failed\s*caused by\s*|type_coercion\s*caused by\s*|[A-Za-z]*Error: )+"
)
_PARSER = re.compile(r'^SQL error: (?:Parser|Tokenizer)Error\("(?P<text>.*)"\)', re.DOTALL)
_UNSUPPORTED = re.compile(r"^This feature is not implemented: ")
_FORBIDDEN = re.compile(r"(?:DDL|DML|Statement) not supported: (?P<what>.*)")
_NO_TABLE = re.compile(r"table '(?:spice\.)?(?:public\.)?(?P<name>[^']+)' not found")
_NO_COLUMNS = re.compile(r"Dataset '(?P<name>[^']+)' has no columns yet")
_BACKTRACE = re.compile(r"\n\nbacktrace:.*", re.DOTALL)
_FULL = (
    "Resources exhausted",
    "No space left on device",
    "used disk space during the spilling process",
    "memory allocation of",
    "Cannot allocate memory",
    "MemoryError",
)
_FATAL = (
    "can't spawn worker thread",
    "PoisonError",
)


def is_fatal(error: BaseException) -> bool:
    """Whether a panic left the engine unusable: no thread to be had, or a lock that an earlier panic held."""
    return type(error).__name__ == "PanicException" and any(sign in str(error) for sign in _FATAL)


def query_error(error: BaseException) -> QueryError:
    """The failure as the caller should see it."""
    if isinstance(error, QueryError):
        return error
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or any(sign in text for sign in _FULL):
        return QueryError(_resources(text), QueryFailure.RESOURCES)
    if type(error).__name__ == "PanicException":
        return QueryError(f"The query engine met a bug: {text}", QueryFailure.INTERNAL)
    return _classified(_clean(text))


def not_ready(dataset: str) -> QueryError:
    """A dataset is named whose columns are not known yet."""
    return QueryError(
        f"Dataset {dataset!r} has no columns yet: it is being loaded, or its source fails. Its status tells which "
        "(`caraway datasets`, or GET /v1/datasets?status=true).",
        QueryFailure.NOT_READY,
    )


def _classified(text: str) -> QueryError:
    if pending := _NO_COLUMNS.search(text):
        return not_ready(pending["name"])
    if forbidden := _FORBIDDEN.search(text):
        return QueryError(f"{forbidden['what'].strip()} is not allowed: {READ_ONLY}", QueryFailure.FORBIDDEN)
    if missing := _NO_TABLE.search(text):
        return QueryError(
            f"Table {missing['name']!r} not found. SHOW TABLES lists what there is.", QueryFailure.NOT_FOUND
        )
    return QueryError(text)


def _clean(text: str) -> str:
    text = _BACKTRACE.sub("", text.strip())
    if parser := _PARSER.match(text):
        return f"SQL syntax error: {parser['text']}".replace('\\"', '"').replace("\\'", "'")
    text = _UNSUPPORTED.sub("Unsupported Query. ", text)
    return _PREFIXES.sub("", text).strip() or text


def _resources(text: str) -> str:
    detail = _PREFIXES.sub("", text).split("\n")[0].removeprefix("Resources exhausted: ")
    return f"The query needs more memory than runtime.query.memory_limit leaves it. {detail}"
