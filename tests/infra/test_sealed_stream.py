import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.keys import UserCipher
from infra.sealed_stream import CorruptStream, Sealer, Unwrap, Wrap, handed_over, unsealed

MASTER, ANNAS = UserCipher(b"m" * 32), UserCipher(b"a" * 32)
PLACE = b"anna's first run"
HEAD, PIECE = 5 + 2 + 12 + 32 + 16, 256 * 1024 + 16  # bytes of the head with its wrapped key, and of a sealed piece
NOISE = os.urandom(600_000)  # three pieces, for it does not pack


def wrap_for(cipher: UserCipher) -> Wrap:
    return lambda key: cipher.seal(key, b"key")


def unwrap_for(cipher: UserCipher) -> Unwrap:
    return lambda wrapped: cipher.open(wrapped, b"key")


def sealed(*fed: bytes) -> bytes:
    sealer = Sealer(wrap_for(MASTER), PLACE)
    return b"".join([*(sealer.feed(data) for data in fed), sealer.end()])


async def cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def opened(data: bytes, size: int = 100_000, place: bytes = PLACE, cipher: UserCipher = MASTER) -> bytes:
    return b"".join([piece async for piece in unsealed(cut(data, size), unwrap_for(cipher), place)])


@given(st.lists(st.binary(max_size=2_000), max_size=5), st.integers(1, 3_000))
async def test_what_is_fed_comes_out(fed: list[bytes], size: int) -> None:
    assert await opened(sealed(*fed), size) == b"".join(fed)


@pytest.mark.parametrize("size", [7_777, 256 * 1024, 10_000_000])
@pytest.mark.parametrize("length", [256 * 1024 - 10, 256 * 1024, 2 * 256 * 1024, 600_000])
async def test_large_ones_come_out_too(length: int, size: int) -> None:
    assert await opened(sealed(NOISE[:length]), size) == NOISE[:length]


async def test_nothing_can_be_read_in_it() -> None:
    assert b"secret" not in sealed(b"a secret place" * 10)


@pytest.mark.parametrize("at", [0, 4, 6, 20, 90, 300_000, -1])
async def test_a_flipped_bit_is_found(at: int) -> None:
    data = bytearray(sealed(NOISE))
    data[at] ^= 1
    with pytest.raises(CorruptStream):
        await opened(bytes(data))


@pytest.mark.parametrize("length", [0, 3, 6, 50, 100, 262_300, 300_000, 599_999])
async def test_an_object_that_was_cut_off_is_found(length: int) -> None:
    with pytest.raises(CorruptStream):
        await opened(sealed(NOISE)[:length])


async def test_cut_off_at_the_end_of_a_piece_it_is_found_too() -> None:
    with pytest.raises(CorruptStream):
        await opened(sealed(NOISE)[: HEAD + 2 * PIECE])


async def test_pieces_that_were_exchanged_are_found() -> None:
    whole = sealed(NOISE)
    first, second = whole[HEAD : HEAD + PIECE], whole[HEAD + PIECE : HEAD + 2 * PIECE]
    assert await opened(whole[:HEAD] + first + second + whole[HEAD + 2 * PIECE :]) == NOISE
    with pytest.raises(CorruptStream):
        await opened(whole[:HEAD] + second + first + whole[HEAD + 2 * PIECE :])


async def test_in_another_place_it_does_not_open() -> None:
    with pytest.raises(CorruptStream):
        await opened(sealed(b"run"), place=b"ben's")


async def test_handed_over_it_opens_under_the_new_key_only() -> None:
    pieces = cut(sealed(NOISE, b"end"), 1_000)
    over = b"".join([data async for data in handed_over(pieces, unwrap_for(MASTER), wrap_for(ANNAS))])
    assert await opened(over, cipher=ANNAS) == NOISE + b"end"
    with pytest.raises(CorruptStream):
        await opened(over, cipher=MASTER)
