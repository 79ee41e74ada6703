"""Sizes in bytes as a spicepod writes them (reference/spicepod.md 2)."""

import re
from fractions import Fraction

LARGEST = 2**63 - 1

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_SIZE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?) ?([kmgtpe]?)(i?)(b?)", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of `4096`, `128MiB`, `1.5 GB` (any case, `KB` decimal, `KiB` binary); ValueError says what is wrong."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is not a size; write a number and a unit such as B, KB, KiB, MB, MiB, GB or GiB")
    base = 1024 if match[3] else 1000
    size = int(Fraction(match[1]) * base ** _POWERS[match[2].lower()])
    if size > LARGEST:
        raise ValueError(f"{text!r} is more than 64 bits hold")
    return size
