"""Columns from the texts that spell their values, as CSV and JSON have them; nothing is rounded and nothing guessed.

Arrow's casts do the reading. What they take and should not is refused before or after: numbers in base 16, decimals of
more digits than their type holds (which wrap around), floats that are too great (which become infinite).
"""

from binascii import Error as BinasciiError
from binascii import a2b_base64
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from caraway.kernels.times import zoned

_TIME = r"^\d\d:\d\d(:\d\d(\.\d+)?)?$"
_ZEROS = r"(\.\d*?)0+(Z|[+-]\d\d(?::?\d\d)?)?$"
_POINT = r"\.(Z|[+-]\d\d(?::?\d\d)?)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def from_texts(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    """The values that the texts spell, null for null; ArrowInvalid where one spells none."""
    return next(read for applies, read, _ in _READERS if applies(kind))(texts, kind)


def spelling(kind: pa.DataType) -> str:
    """What `from_texts` takes, for a message: 'a whole number from -128 to 127'."""
    return next(tell for applies, _, tell in _READERS if applies(kind))(kind)


def _texts(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    return texts.cast(kind)


def _integers(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    _refuse(pc.match_substring(texts, "x", ignore_case=True))
    return texts.cast(kind)


def _floats(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    values = texts.cast(kind)
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():
        _refuse(pc.and_not(infinite, pc.match_substring_regex(texts, _INFINITE)))
    return values


def _decimals(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    most = 38 if pa.types.is_decimal128(kind) else 76
    if pc.any(pc.greater(pc.binary_length(texts), most)).as_py():
        _refuse(pc.match_substring_regex(pc.replace_substring(texts, ".", ""), f"[0-9]{{{most + 1}}}"))
    return texts.cast(kind)


def _timestamps(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    in_utc = pa.timestamp(kind.unit, "UTC")
    try:
        moments = texts.cast(in_utc)
    except pa.ArrowInvalid:
        moments = _without_zeros(zoned(pc.utf8_upper(texts))).cast(in_utc)
    return moments.cast(kind)


def _times(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    _refuse(pc.invert(pc.match_substring_regex(texts, _TIME)))
    moments = pc.binary_join_element_wise("1970-01-01T", _without_zeros(texts), "")
    return moments.cast(pa.timestamp(kind.unit)).cast(kind)


def _without_zeros(texts: pa.StringArray) -> pa.StringArray:
    """Without the zeros that end a fraction of a second, which say nothing and may be too many for the type."""
    return pc.replace_substring_regex(pc.replace_substring_regex(texts, _ZEROS, r"\1\2"), _POINT, r"\1")


def _binaries(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    try:
        values = [None if text is None else a2b_base64(text, strict_mode=True) for text in texts.to_pylist()]
    except (BinasciiError, ValueError) as error:
        raise pa.ArrowInvalid(str(error)) from error
    return pa.array(values, kind)


def _refuse(wrong: pa.BooleanArray) -> None:
    if pc.any(wrong).as_py():
        raise pa.ArrowInvalid("a text spells no value of its type")


def _whole_numbers(kind: pa.DataType) -> str:
    signed = pa.types.is_signed_integer(kind)
    low = -(2 ** (kind.bit_width - 1)) if signed else 0
    return f"a whole number from {low} to {low + 2**kind.bit_width - 1}"


def _numbers(kind: pa.DataType) -> str:
    return f"a number that fits {kind}"


def _exact_numbers(kind: pa.DataType) -> str:
    whole = kind.precision - kind.scale
    return f"a number with at most {whole} digits before the point and {max(kind.scale, 0)} behind it"


def _moments(kind: pa.DataType) -> str:
    return f'a moment such as "2026-01-31T12:00:00Z" with at most {_DIGITS[kind.unit]} digits behind the seconds'


def _times_of_day(kind: pa.DataType) -> str:
    return f'a time such as "23:59:59" with at most {_DIGITS[kind.unit]} digits behind the seconds'


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _is_decimal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind))


_Applies = Callable[[pa.DataType], bool]
_Read = Callable[[pa.StringArray, pa.DataType], pa.Array]
_Tell = Callable[[pa.DataType], str]
_READERS: tuple[tuple[_Applies, _Read, _Tell], ...] = (
    (_is_text, _texts, lambda _: "a text"),
    (pa.types.is_integer, _integers, _whole_numbers),
    (_is_float, _floats, _numbers),
    (pa.types.is_boolean, _texts, lambda _: "true or false"),
    (_is_decimal, _decimals, _exact_numbers),
    (pa.types.is_timestamp, _timestamps, _moments),
    (pa.types.is_date32, _texts, lambda _: 'a date such as "2026-01-31"'),
    (pa.types.is_time, _times, _times_of_day),
    (_is_binary, _binaries, lambda _: "bytes in base64"),
)
