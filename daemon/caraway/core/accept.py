"""Which result format an Accept header asks for (reference/http_api.md 1.2)."""

from collections.abc import Iterator

from caraway.model import ResultFormat

CONTENT_TYPES = {
    ResultFormat.JSON: "application/json",
    ResultFormat.CSV: "text/csv",
    ResultFormat.TEXT: "text/plain; charset=utf-8",
    ResultFormat.ENVELOPE: "application/vnd.spiceai.sql.v1+json",
    ResultFormat.ARROW_STREAM: "application/vnd.apache.arrow.stream",
}

_FORMATS = {name.partition(";")[0]: format_ for format_, name in CONTENT_TYPES.items()} | {
    "application/vnd.spiceai.nsql.v1+json": ResultFormat.ENVELOPE,
    "application/*": ResultFormat.JSON,
    "*/*": ResultFormat.JSON,
    "text/*": ResultFormat.TEXT,
}


def negotiate(accept: str) -> ResultFormat:
    """The first type that is known and not refused by `q=0`; JSON where there is none. Weights do not count."""
    known = (_FORMATS.get(name) for name in _accepted(accept))
    return next((format_ for format_ in known if format_ is not None), ResultFormat.JSON)


def _accepted(accept: str) -> Iterator[str]:
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if not any(_refuses(parameter) for parameter in parameters):
            yield name


def _refuses(parameter: str) -> bool:
    key, _, value = parameter.partition("=")
    return key.strip() == "q" and bool(value.strip()) and set(value.strip()) <= set("0.")
