"""FIT files made byte by byte, for what our own writer never writes."""

import struct
from collections.abc import Sequence

from fastcrc.crc16 import arc

U8, U16, S32, U32, F64 = 0x02, 0x84, 0x85, 0x86, 0x89
_CODES = {0x00: "B", U8: "B", 0x83: "h", U16: "H", S32: "i", U32: "I", F64: "d"}

BEGIN = 1_000_000_000  # FIT seconds: 2021-09-08T01:46:40Z
RECORD = [(253, U32), (3, U8), (5, U32)]  # time, heart rate, distance in cm


def define(
    local: int,
    message: int,
    fields: Sequence[tuple[int, int]],
    order: str = "<",
    developer: Sequence[tuple[int, int, int]] = (),
) -> bytes:
    """A definition message; `developer` fields are (number, size, developer)."""
    body = b"".join(struct.pack("BBB", number, struct.calcsize(_CODES[base]), base) for number, base in fields)
    head = struct.pack(f"{order}BBBHB", 0x40 | bool(developer) << 5 | local, 0, order == ">", message, len(fields))
    own = b"".join(struct.pack("BBB", *field) for field in developer)
    return head + body + (bytes([len(developer)]) + own if developer else b"")


def data(
    local: int, fields: Sequence[tuple[int, int]], *values: float, order: str = "<", header: int | None = None
) -> bytes:
    """A data message of these fields."""
    codes = "".join(_CODES[base] for _, base in fields)
    return bytes([local if header is None else header]) + struct.pack(order + codes, *values)


def records(count: int, first: int = BEGIN, local: int = 0, order: str = "<") -> bytes:
    """A definition and this many records, one a second, 3 m apart, heart rate rising from 120 to 199."""
    rows = [data(local, RECORD, first + i, 120 + i % 80, 300 * i, order=order) for i in range(count)]
    return define(local, 20, RECORD, order) + b"".join(rows)


SESSION = [(253, U32), (2, U32), (7, U32), (8, U32), (9, U32), (5, 0x00)]


def session(start: int, elapsed_s: int, distance_m: int, sport: int = 1, local: int = 1) -> bytes:
    """A session message with its definition."""
    values = (start + elapsed_s, start, elapsed_s * 1000, elapsed_s * 1000, distance_m * 100, sport)
    return define(local, 18, SESSION) + data(local, SESSION, *values)


def fit_file(*messages: bytes) -> bytes:
    """Header, messages, checksum."""
    body = b"".join(messages)
    head = struct.pack("<BBHI4s", 14, 0x20, 2195, len(body), b".FIT")
    head += struct.pack("<H", arc(head))
    return head + body + struct.pack("<H", arc(head + body))
