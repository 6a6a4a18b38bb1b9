"""What was measured as bytes: a third of its JSON. Their first byte says in which form; both are read for ever.

- 1: JSON, deflated with a dictionary: whatever there is.
- 2: numbers of fixed sizes and scales, as analysis rounds to them, which takes a fifth less: nearly all there is.

A form that is changed is another one, with the next number.
"""

import struct
import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from domain.events.measured import BestEffort, DeviceTotals, Measured

T = TypeVar("T")

NOTHING: Final = b""  # packed: nothing was measured


def pack(measured: Measured) -> bytes:
    """As numbers where that gives it back as it is, else as JSON."""
    try:
        packed = _pack_numbers(measured)
        if _unpack_numbers(packed) == measured:
            return packed
    except (ValueError, LookupError, OverflowError, struct.error):
        pass  # a number that is too large or too fine, or a name that has no number
    return pack_json(msgspec.json.encode(measured))


def unpack(packed: bytes) -> Measured:
    """What was packed. `ValueError` for other bytes."""
    if packed[:1] == _NUMBERS:
        return _unpack_numbers(packed)
    return msgspec.json.decode(unpack_json(packed), type=Measured)


# What most of them hold, as a dictionary (RFC 1950, 2.2): 875 bytes of JSON become 350, of which most are the route.
_JSON: Final = b"\x01"
_DICTIONARY: Final = (
    b'{"points":3875,"distance_source":"recorded","avg_speed_mps":3.119,"max_speed_mps":3.69,"avg_heart_rate_bpm":153.0,'
    b'"max_heart_rate_bpm":167.0,"avg_cadence_spm":172.3,"calories_kcal":336.0,"polyline":"","bbox":[],"best_efforts":['
    b'{"name":"400 m","distance_m":400.0,"elapsed_s":117.9,"start_s":290.0},'
    b'{"name":"1/2 mile","distance_m":804.672,"elapsed_s":240.13,"start_s":280.0},'
    b'{"name":"1 km","distance_m":1000.0,"elapsed_s":300.02,"start_s":284.98},'
    b'{"name":"1 mile","distance_m":1609.344,"elapsed_s":489.35,"start_s":28.65},'
    b'{"name":"5 km","distance_m":5000.0,"elapsed_s":1588.8,"start_s":32.0},'
    b'{"name":"10 km","distance_m":10000.0,"elapsed_s":3217.11,"start_s":0.0},'
    b'{"name":"half marathon","distance_m":21097.5,"elapsed_s":6217.3,"start_s":0.0}],'
    b'"device":{"distance_m":6239.73,"elapsed_s":3163.023,"timer_s":3163.023}}'
)
_WINDOW_BITS: Final = -15  # deflate alone: neither header nor checksum, for the seal around it is one


def pack_json(measured: bytes) -> bytes:
    """The same of what is JSON already, as it is."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, zdict=_DICTIONARY)
    return _JSON + packer.compress(measured) + packer.flush()


def unpack_json(packed: bytes) -> bytes:
    """What was packed, as JSON. `ValueError` for other bytes."""
    if packed == NOTHING:
        return b"{}"
    if packed.startswith(_NUMBERS):
        return msgspec.json.encode(_unpack_numbers(packed))
    if not packed.startswith(_JSON):
        raise ValueError("what was measured is packed in a way that this code does not know: newer code wrote it")
    unpacker = zlib.decompressobj(_WINDOW_BITS, zdict=_DICTIONARY)
    try:
        measured = unpacker.decompress(packed[1:])
    except zlib.error as error:
        raise ValueError(f"what was measured does not unpack: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise _other_length()
    return measured


_NUMBERS: Final = b"\x02"
_SOURCES: Final = ("unknown", "recorded", "positions", "device")
_EFFORTS: Final = (  # by their numbers in stored bytes, whatever is looked for today (`domain.recordings.stretches`)
    ("400 m", 400.0),
    ("1/2 mile", 804.672),
    ("1 km", 1_000.0),
    ("1 mile", 1_609.344),
    ("5 km", 5_000.0),
    ("10 km", 10_000.0),
    ("half marathon", 21_097.5),
    ("marathon", 42_195.0),
)
_EFFORT_OF: Final = {effort: number for number, effort in enumerate(_EFFORTS)}
# Points; the source; speeds in mm/s, heart rates and cadence in tenths, calories; the box in 1e-5 degrees; the device's
# totals in cm, ms, ms and dm; and how much follows: efforts, bytes of the route, bytes of warnings.
_HEAD: Final = struct.Struct(">xIB6H4i4IBHH")
_FIGURE_SCALES: Final = (1_000, 1_000, 10, 10, 10, 1)
_BOX_SCALE: Final = 100_000
_TOTAL_SCALES: Final = (100, 1_000, 1_000, 10)
_NO_FIGURE: Final = 0xFFFF
_NO_TOTAL: Final = 0xFFFF_FFFF
_NO_BOX: Final = (-0x8000_0000,) * 4
_EFFORT_BYTES: Final = 7  # its number, how long and from when, in hundredths of a second, 24 bits each
_HUNDREDTHS: Final = 100
_24_BITS: Final = 0xFF_FFFF
# A polyline has 64 characters, the last of which goes on with another: six bits each, by way of base64.
_POLYLINE: Final = bytes(range(63, 127))
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64: Final = bytes.maketrans(_POLYLINE, _BASE64)
_FROM_BASE64: Final = bytes.maketrans(_BASE64, _POLYLINE)
_PADDING: Final = "~"


def _pack_numbers(measured: Measured) -> bytes:
    """What is not as it is expected fails here, or unpacks to something else."""
    figures = (
        measured.avg_speed_mps,
        measured.max_speed_mps,
        measured.avg_heart_rate_bpm,
        measured.max_heart_rate_bpm,
        measured.avg_cadence_spm,
        measured.calories_kcal,
    )
    device, line = measured.device, measured.polyline or ""
    totals = (device.distance_m, device.elapsed_s, device.timer_s, device.ascent_m)
    efforts = [
        _EFFORT_OF[effort.name, effort.distance_m] << 48
        | round(effort.elapsed_s * _HUNDREDTHS) << 24
        | round(effort.start_s * _HUNDREDTHS)
        for effort in measured.best_efforts
    ]
    padded = line + _PADDING * (-len(line) % 4)
    route = a2b_base64(padded.encode("ascii").translate(_TO_BASE64))
    warnings = "\n".join(measured.warnings).encode()
    head = _HEAD.pack(
        measured.points,
        _SOURCES.index(measured.distance_source),
        *_whole(figures, _FIGURE_SCALES, _NO_FIGURE),
        *(_NO_BOX if measured.bbox is None else [round(degrees * _BOX_SCALE) for degrees in measured.bbox]),
        *_whole(totals, _TOTAL_SCALES, _NO_TOTAL),
        len(efforts),
        len(route),
        len(warnings),
    )
    return _NUMBERS + head[1:] + b"".join([effort.to_bytes(_EFFORT_BYTES) for effort in efforts]) + route + warnings


def _unpack_numbers(packed: bytes) -> Measured:
    if len(packed) < _HEAD.size:
        raise _other_length()
    points, source, *numbers, efforts, route, warnings = _HEAD.unpack_from(packed)
    route_begins = _HEAD.size + efforts * _EFFORT_BYTES
    warnings_begin = route_begins + route
    if len(packed) != warnings_begin + warnings:
        raise _other_length()
    speed, fastest, heart, highest, cadence, calories = _scaled(numbers[:6], _FIGURE_SCALES, _NO_FIGURE)
    south, west, north, east = numbers[6:10]
    distance_m, elapsed_s, timer_s, ascent_m = _scaled(numbers[10:], _TOTAL_SCALES, _NO_TOTAL)
    return Measured(
        points=points,
        distance_source=_name(_SOURCES, source),
        avg_speed_mps=speed,
        max_speed_mps=fastest,
        avg_heart_rate_bpm=heart,
        max_heart_rate_bpm=highest,
        avg_cadence_spm=cadence,
        calories_kcal=calories,
        polyline=_line(packed[route_begins:warnings_begin]) if route else None,
        bbox=None
        if south == _NO_BOX[0]
        else (south / _BOX_SCALE, west / _BOX_SCALE, north / _BOX_SCALE, east / _BOX_SCALE),
        best_efforts=tuple(
            [_effort(packed[at : at + _EFFORT_BYTES]) for at in range(_HEAD.size, route_begins, _EFFORT_BYTES)]
        ),
        device=DeviceTotals(distance_m=distance_m, elapsed_s=elapsed_s, timer_s=timer_s, ascent_m=ascent_m),
        warnings=tuple(packed[warnings_begin:].decode().split("\n")) if warnings else (),
    )


def _whole(values: Sequence[float | None], scales: Sequence[int], none: int) -> list[int]:
    return [none if value is None else round(value * scale) for value, scale in zip(values, scales, strict=True)]


def _scaled(numbers: Sequence[int], scales: Sequence[int], none: int) -> list[float | None]:
    return [None if number == none else number / scale for number, scale in zip(numbers, scales, strict=True)]


def _line(route: bytes) -> str:
    return b2a_base64(route, newline=False).translate(_FROM_BASE64).decode().rstrip(_PADDING)


def _effort(packed: bytes) -> BestEffort:
    number = int.from_bytes(packed)
    name, distance_m = _name(_EFFORTS, number >> 48)
    return BestEffort(name, distance_m, (number >> 24 & _24_BITS) / _HUNDREDTHS, (number & _24_BITS) / _HUNDREDTHS)


def _name(names: Sequence[T], number: int) -> T:
    if number >= len(names):
        raise ValueError(f"what was measured does not unpack: it has a number {number} that this code does not know")
    return names[number]


def _other_length() -> ValueError:
    return ValueError("what was measured does not unpack: it is cut off, or goes on behind its end")
