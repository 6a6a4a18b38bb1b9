"""FIT's checksum: CRC-16 with the reflected polynomial 0xA001, from 0 (FIT protocol, section "CRC")."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LANE_BYTES: Final = 256


def _table() -> NDArray[np.uint16]:
    values = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ 0xA001, values >> 1).astype(np.uint16)
    return values


_TABLE: Final = _table()


def crc(data: bytes) -> int:
    """The checksum of the bytes, in lanes of 256 bytes side by side.

    The sum is linear over GF(2), and zeros before the data leave it at 0: so lanes can be summed each from 0, and
    joined by shifting what stands to their left through as many zero bytes.
    """
    lanes = -(-len(data) // _LANE_BYTES) or 1
    padded = np.zeros(lanes * _LANE_BYTES, np.uint8)
    padded[len(padded) - len(data) :] = np.frombuffer(data, np.uint8)
    sums = np.zeros(lanes, np.uint16)
    for column in padded.reshape(lanes, _LANE_BYTES).T:
        sums = sums >> 8 ^ _TABLE[(sums ^ column) & 0xFF]
    value = 0
    for lane in sums.tolist():
        value = int(_SHIFT_LOW[value & 0xFF] ^ _SHIFT_HIGH[value >> 8]) ^ lane
    return value


def _shifted(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """These sums after a lane of zeros."""
    for _ in range(_LANE_BYTES):
        values = values >> 8 ^ _TABLE[values & 0xFF]
    return values


_SHIFT_LOW: Final = _shifted(np.arange(256, dtype=np.uint16))
_SHIFT_HIGH: Final = _shifted((np.arange(256) << 8).astype(np.uint16))
