"""Columns as text, by Arrow kernels alone: the spelling of Rust's arrow-cast, which Spice's answers have.

A NULL stays a NULL; what a format makes of it is the format's business.
"""

import pyarrow as pa
import pyarrow.compute as pc

from caraway.errors import QueryError, QueryFailure

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
YEAR_10000 = 253_402_300_800  # seconds since 1970
YEAR_0 = -62_167_219_200


def join(*parts: pa.Array | str) -> pa.Array:
    """The parts of each row in one string; NULL if any part is."""
    return pc.binary_join_element_wise(*(pa.scalar(part) if isinstance(part, str) else part for part in parts), "")


def raw_bytes(text: pa.Array) -> bytes:
    """The concatenated values of a string or binary array."""
    offsets = _offsets(text)
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    data = text.buffers()[2]
    return bytes(data.slice(first, last - first)) if data is not None else b""


def unfolded(array: pa.Array) -> pa.Array:
    """The same values in the plain layout: no dictionary, run ends, views, extension or 64 bit offsets."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return unfolded(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return unfolded(pc.run_end_decode(array))
    if isinstance(array, pa.ExtensionArray):
        return unfolded(array.storage)
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return array.cast(pa.string())
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return array.cast(pa.binary())
    return array


def texts(array: pa.Array) -> pa.Array:
    """A column of an unfolded type that is neither nested nor a float, as strings."""
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_decimal(kind):
        return _decimals(array)
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        return _timestamps(array)
    if pa.types.is_date32(kind):
        return _signed_years(array.cast(pa.string()), array.view(pa.int32()), 86_400)
    if pa.types.is_time(kind):
        storage = pa.int32() if pa.types.is_time32(kind) else pa.int64()
        return _trim_fraction(array.cast(pa.string()), array.view(storage), kind.unit)
    if pa.types.is_duration(kind):
        return _durations(array)
    if pa.types.is_binary(kind):
        return _hex(array)
    if pa.types.is_interval(kind):
        return pa.array([None if value is None else _interval(value) for value in array.to_pylist()], pa.string())
    raise QueryError(f"Can't render values of type {kind} as text; cast the column.", QueryFailure.INTERNAL)


def float_texts(array: pa.Array) -> pa.Array:
    """Floats as Rust's ryu prints them: `1.0`, `0.00001`, `1e-6`, `12345678901.5`, `1e16`, `NaN`, `inf`.

    Its exponents begin at 1e16 and below 1e-5; for 32 bits at 1e13 and below 1e-6.
    """
    double = pa.types.is_float64(array.type)
    text = _shortest(array)
    text = pc.replace_substring(text, "nan", "NaN") if pc.any(pc.is_nan(array)).as_py() else text
    if pc.any(pc.greater_equal(pc.abs(array), 1e10)).as_py():
        text = _without_exponent(text, range(10, 16 if double else 13))
    return _small(text, array, ".e", "e") if double else text


def json_float_texts(array: pa.Array) -> pa.Array:
    """Floats as arrow-json prints them: an exponent from 1e10 up and below 1e-5, a digit after every point.

    What JSON has no number for becomes the text `null`, where an absent value stays NULL.
    """
    text = _shortest(array)
    if not pc.all(pc.is_finite(array)).as_py():
        text = pc.if_else(pc.is_finite(array), text, "null")
    text = _small(text, array, ".e", ".0e")
    if pc.any(pc.match_substring(text, "e")).as_py():
        text = pc.replace_substring_regex(text, r"^(-?\d)e", r"\1.0e")
    return text


def _shortest(array: pa.Array) -> pa.Array:
    """Arrow's shortest digits with `.0` after whole numbers and no plus in exponents."""
    wide = array.cast(pa.float32()) if pa.types.is_float16(array.type) else array
    text = wide.cast(pa.string())
    whole = pc.and_(pc.equal(pc.floor(wide), wide), pc.less(pc.abs(wide), 1e10))
    if pc.any(whole).as_py():
        text = pc.if_else(whole, join(text, ".0"), text)
    if pc.any(pc.greater_equal(pc.abs(wide), 1e10)).as_py():
        text = pc.replace_substring(text, "e+", "e")
    return text


def _small(text: pa.Array, array: pa.Array, empty: str, filled: str) -> pa.Array:
    """Values from 1e-6 to 1e-5, which Arrow prints without an exponent and Rust with one."""
    size = pc.abs(array)
    small = pc.and_(pc.less(size, 1e-5), pc.greater_equal(size, 9.9e-7))
    if not pc.any(small).as_py():
        return text
    moved = pc.replace_substring_regex(text, r"^(-?)0\.00000([1-9])(\d*)$", r"\1\2.\3e-6")
    return pc.if_else(small, pc.replace_substring(moved, empty, filled), text)


def _without_exponent(text: pa.Array, exponents: range) -> pa.Array:
    """Expand `d.ddde10` and its like into plain digits."""
    for exponent in exponents:
        here = pc.ends_with(text, f"e{exponent}")
        if not pc.any(here).as_py():
            continue
        bare = pc.replace_substring_regex(text, r"^-?(\d)\.?(\d*)e\d+$", r"\1\2")
        digits = pc.ascii_rpad(bare, exponent + 2, "0")
        plain = join(
            pc.utf8_slice_codeunits(digits, 0, exponent + 1), ".", pc.utf8_slice_codeunits(digits, exponent + 1)
        )
        text = pc.if_else(here, pc.if_else(pc.starts_with(text, "-"), join("-", plain), plain), text)
    return text


def _decimals(array: pa.Array) -> pa.Array:
    scale = array.type.scale
    if scale < 0:
        return array.cast(pa.decimal256(76, 0)).cast(pa.string())
    if scale <= 6:
        return array.cast(pa.string())
    # Beyond scale 6 Arrow C++ may print `1E-8`; the digits of the unscaled integer have no such habit.
    unscaled = type(array).from_buffers(_with_scale_0(array.type), len(array), array.buffers(), offset=array.offset)
    digits = unscaled.cast(pa.string())
    negative = pc.starts_with(digits, "-")
    padded = pc.ascii_lpad(pc.ascii_ltrim(digits, "-"), scale + 1, "0")
    pointed = join(pc.utf8_slice_codeunits(padded, 0, -scale), ".", pc.utf8_slice_codeunits(padded, -scale))
    return pc.if_else(negative, join("-", pointed), pointed)


def _with_scale_0(kind: pa.DataType) -> pa.DataType:
    make = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}[kind.bit_width]
    return make(kind.precision, 0)


def _timestamps(array: pa.Array) -> pa.Array:
    if pa.types.is_date64(array.type):
        array = array.view(pa.timestamp("ms"))
    unit, zone = array.type.unit, array.type.tz
    local = array if zone is None else pc.local_timestamp(array)
    ticks = local.view(pa.int64())
    plain = local.cast(pa.string())
    text = _with_t(_trim_fraction(plain, ticks, unit), _usual_years(ticks, UNITS[unit]))
    if zone is not None:
        text = join(text, _zone_suffix(pc.subtract(ticks, array.view(pa.int64())), UNITS[unit]))
    beyond = pc.starts_with(plain, "<")  # after the year 32767: Arrow says that it's out of range, and so do we
    return pc.if_else(beyond, plain, text) if pc.any(beyond).as_py() else text


def _with_t(text: pa.Array, usual: bool) -> pa.Array:
    if usual:
        return pc.binary_replace_slice(text.view(pa.binary()), 10, 11, b"T").view(pa.string())
    return _plus_sign(pc.replace_substring(text, " ", "T"))


def _signed_years(text: pa.Array, days: pa.Array, seconds: int) -> pa.Array:
    seconds_since = pc.multiply(days.cast(pa.int64()), seconds)
    return text if _usual_years(seconds_since, 1) else _plus_sign(text)


def _usual_years(ticks: pa.Array, per_second: int) -> bool:
    bounds = pc.min_max(ticks).as_py()
    if bounds["min"] is None:
        return True
    return bool(bounds["min"] >= YEAR_0 * per_second and bounds["max"] < YEAR_10000 * per_second)


def _plus_sign(text: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(text, r"^(\d{5,}-)", r"+\1")


def _zone_suffix(shift: pa.Array, per_second: int) -> pa.Array | str:
    seconds = pc.divide(shift, per_second)
    known = pc.unique(seconds.drop_null())
    if len(known) <= 1:
        return _offset(known[0].as_py()) if len(known) else ""
    names = pa.array([_offset(value) for value in known.to_pylist()])
    return pc.take(names, pc.index_in(seconds, known))


def _offset(seconds: int) -> str:
    if seconds == 0:
        return "Z"
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _trim_fraction(text: pa.Array, ticks: pa.Array, unit: str) -> pa.Array:
    """Keep none, three, six or nine digits of the second: the fewest that lose nothing."""
    whole = text
    for step, drop in ((10**3, 3), (10**6, 6), (10**9, 9)):
        if step > UNITS[unit]:
            break
        idle = pc.equal(pc.modulo(ticks, step), 0)
        if not pc.any(idle).as_py():
            break
        cut = drop + 1 if step == UNITS[unit] else drop  # the point goes with its last digit
        text = pc.if_else(idle, pc.utf8_slice_codeunits(whole, 0, -cut), text)
    return text


def _durations(array: pa.Array) -> pa.Array:
    """ISO 8601 in seconds, as chrono prints: `P0D`, `PT90.061S`, `-PT1S`."""
    per_second = UNITS[array.type.unit]
    ticks = array.view(pa.int64())
    size = pc.abs(ticks)
    seconds = pc.divide(size, per_second).cast(pa.string())
    fraction = pc.modulo(size, per_second)
    digits = pc.ascii_rtrim(pc.ascii_lpad(fraction.cast(pa.string()), len(str(per_second)) - 1, "0"), "0")
    number = pc.if_else(pc.equal(fraction, 0), seconds, join(seconds, ".", digits))
    text = join(pc.if_else(pc.less(ticks, 0), "-PT", "PT"), number, "S")
    return pc.if_else(pc.equal(ticks, 0), "P0D", text)


def _hex(array: pa.Array) -> pa.Array:
    offsets = _offsets(array)
    doubled = pc.multiply(pc.subtract(offsets, offsets[0]), pa.scalar(2, pa.int32()))
    digits = pa.py_buffer(raw_bytes(array).hex().encode())
    plain = pa.StringArray.from_buffers(len(array), doubled.buffers()[1], digits)
    return pc.if_else(array.is_valid(), plain, None) if array.null_count else plain


def _offsets(array: pa.Array) -> pa.Array:
    """The n + 1 offsets of a string or binary array, whatever it was sliced from."""
    if not len(array):
        return pa.array([0], pa.int32())
    return pa.Array.from_buffers(pa.int32(), len(array) + 1, [None, array.buffers()[1]], offset=array.offset)


def _interval(value: pa.MonthDayNano) -> str:
    """`14 mons 3 days 1 hours 2 mins 3.500000000 secs`; rare enough for Python."""
    months, days, nanos = value
    sign = "-" if nanos < 0 else ""
    seconds, fraction = divmod(abs(nanos), 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    words = [(months, "mons"), (days, "days")]
    parts = [f"{number} {word}" for number, word in words if number]
    parts += [f"{sign}{number} {word}" for number, word in ((hours, "hours"), (minutes, "mins")) if number]
    if seconds or fraction or not parts:
        parts.append(f"{sign}{seconds}.{fraction:09} secs" if seconds or fraction else "0 secs")
    return " ".join(parts)
