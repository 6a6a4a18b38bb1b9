"""FIT's checksum: CRC-16 with the reflected polynomial 0xA001, from 0 (FIT protocol, section "CRC")."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LANE_BYTES: Final = 32


def _table() -> NDArray[np.uint16]:
    values = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ 0xA001, values >> 1).astype(np.uint16)
    return values


_TABLE: Final = _table()


def crc(data: bytes) -> int:
    """The checksum of the bytes, in lanes of 32 bytes side by side, which are then joined two by two.

    The sum is linear over GF(2), and zeros before the data leave it at 0: so lanes can be summed each from 0, and
    joined by shifting what stands to the left through as many zero bytes.
    """
    lanes = 1
    while lanes * _LANE_BYTES < len(data):
        lanes *= 2
    padded = np.zeros(lanes * _LANE_BYTES, np.uint8)
    padded[len(padded) - len(data) :] = np.frombuffer(data, np.uint8)
    sums = np.zeros(lanes, np.uint16)
    for column in padded.reshape(lanes, _LANE_BYTES).T.copy():
        sums = sums >> 8 ^ _TABLE[(sums ^ column) & 0xFF]
    level = 0
    while len(sums) > 1:
        low, high = _shift(level)
        left, right = sums[::2], sums[1::2]
        sums = low[left & 0xFF] ^ high[left >> 8] ^ right
        level += 1
    return int(sums[0])


@cache
def _shift(level: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Sums after as many zero bytes as 2 ** `level` lanes have: of each low byte, and of each high one."""
    if level:
        low, high = _shift(level - 1)
        return low[low & 0xFF] ^ high[low >> 8], low[high & 0xFF] ^ high[high >> 8]
    low = np.arange(256, dtype=np.uint16)
    high = (low << 8).astype(np.uint16)
    for _ in range(_LANE_BYTES):
        low, high = low >> 8 ^ _TABLE[low & 0xFF], high >> 8 ^ _TABLE[high & 0xFF]
    return low, high
