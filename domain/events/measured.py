"""What analysis found of an activity besides what counts, in the form in which events and read models hand it on."""

import zlib
from typing import Final

import msgspec
from msgspec import Struct


class BestEffort(Struct, frozen=True, omit_defaults=True, gc=False):
    """The fastest stretch of a standard distance within one activity."""

    name: str
    distance_m: float
    elapsed_s: float
    start_s: float  # from the activity's start


class DeviceTotals(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the device concluded itself: kept beside our figures, never mixed with them."""

    distance_m: float | None = None
    elapsed_s: float | None = None
    timer_s: float | None = None
    ascent_m: float | None = None


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What analysis found besides the tally. None: the recording does not say."""

    points: int = 0
    distance_source: str = "unknown"
    avg_speed_mps: float | None = None
    max_speed_mps: float | None = None
    avg_heart_rate_bpm: float | None = None
    max_heart_rate_bpm: float | None = None
    avg_cadence_spm: float | None = None
    calories_kcal: float | None = None
    polyline: str | None = None  # Google's encoding, precision 5, simplified
    bbox: tuple[float, float, float, float] | None = None  # south, west, north, east; degrees
    best_efforts: tuple[BestEffort, ...] = ()
    device: DeviceTotals = DeviceTotals()
    warnings: tuple[str, ...] = ()


NOTHING: Final = b""  # packed: nothing was measured

# What most of them hold, as a dictionary (RFC 1950, 2.2): 875 bytes of JSON become 350, of which most are the route.
# Stored bytes cannot be read without it. A better one gets the next number, and this one stays.
_NUMBER: Final = b"\x01"
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


def pack(measured: Measured) -> bytes:
    """The same as bytes, at a third of its JSON."""
    return pack_json(msgspec.json.encode(measured))


def pack_json(measured: bytes) -> bytes:
    """The same of what is JSON already."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, zdict=_DICTIONARY)
    return _NUMBER + packer.compress(measured) + packer.flush()


def unpack(packed: bytes) -> Measured:
    """What was packed. `ValueError` for other bytes."""
    return msgspec.json.decode(unpack_json(packed), type=Measured)


def unpack_json(packed: bytes) -> bytes:
    """The same as JSON."""
    if packed == NOTHING:
        return b"{}"
    if not packed.startswith(_NUMBER):
        raise ValueError("what was measured is packed in a way that this code does not know: newer code wrote it")
    unpacker = zlib.decompressobj(_WINDOW_BITS, zdict=_DICTIONARY)
    try:
        measured = unpacker.decompress(packed[1:])
    except zlib.error as error:
        raise ValueError(f"what was measured does not unpack: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("what was measured does not unpack: it is cut off, or goes on behind its end")
    return measured
