"""What tests put into a store of responses."""

from caraway.core.freshness import Stored
from caraway.core.freshness_keys import key_of, variant_of
from caraway.model import HttpRequest

MIB = 1024 * 1024
HEADERS = (("cache-control", "max-age=60"), ("x", "caf\xe9 \u2603"), ("x", "again"))


def key(number=0, namespace="me"):
    return key_of(namespace, HttpRequest("GET", f"https://a.example/{number}"))


def stored(body=b"body", *, vary=(), request=(), **more):
    given = {"status": 200, "headers": HEADERS, "received": 1772366400.125, "initial_age": 0.5, **more}
    return Stored(body=body, vary=vary, variant=variant_of(vary, request), **given)
