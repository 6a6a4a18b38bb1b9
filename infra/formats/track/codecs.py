"""Whole numbers to bytes and back: a few codecs, each known by an id that stored blobs carry for ever."""

import lzma
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, DeltaSpec, PagingSpec
from pcodec.wrapped import FileCompressor, FileDecompressor

from infra.formats.track.blob import CorruptTrack

Whole = NDArray[np.int64]
Counted = NDArray[np.signedinteger[Any]]

_ALL_ZERO: Final = 0
_PCO: Final = 1  # and by 16 more: the width of its numbers
_ZSTD_PLANES: Final = 2
_LZMA_PLANES: Final = 3

_DTYPES: Final = (np.int16, np.int32, np.int64)
_BITS: Final = (16, 32, 64)
_WIDEST: Final = len(_DTYPES) - 1
_PCO_NAMES: Final = ("i16", "i32", "i64")
_PLANE_WIDTHS: Final = (1, 2, 4, 8)
_PCO_HEADER: Final = b"\x04\x01"  # of a pcodec file: the version of its format. Another one is another codec here
_PCO_WRITER: Final = FileCompressor()
_PCO_FILE: Final = FileDecompressor.new(_PCO_HEADER)[0]
_PAGE: Final = 2**17  # numbers of a pcodec page
_BATCH: Final = 256  # of pcodec
_LEVEL: Final = 8
ORDERS: Final = (0, 1, 2)  # a third difference never pays
_SAMPLED: Final = 128
_TINY: Final = 48  # numbers, of which pcodec's description takes more than the numbers
_ZSTD_WINDOW: Final = 2**23  # as large as zstd makes one by itself
_LZMA: Final = [{"id": lzma.FILTER_LZMA1, "preset": 9, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}]


def encode(numbers: Whole) -> bytes:
    """The codec's id and what it makes of the numbers, by the order of differences that promises most."""
    if not numbers.any():
        return bytes([_ALL_ZERO])
    order = int(np.argmin(bits(numbers)))
    if len(numbers) < _TINY:
        return _planes(numbers, order, _zstd(9), _ZSTD_PLANES)
    return _pco(numbers, _config(_LEVEL, _consecutive(order), len(numbers)))


def encode_best(numbers: Whole) -> bytes:
    """The shortest that any codec makes of them, however long that takes."""
    if not numbers.any():
        return bytes([_ALL_ZERO])
    return min(_candidates(numbers), key=len)


def decode(payload: bytes, count: int) -> Counted:
    """The numbers, of which there must be `count`; `CorruptTrack`. No memory is taken for more than that."""
    if not payload:
        raise CorruptTrack("a column is empty")
    codec, body = payload[0], payload[1:]
    if codec == _ALL_ZERO:
        return np.zeros(count, np.int64)
    if codec & 15 == _PCO and codec >> 4 < len(_DTYPES):
        return _from_pco(body, codec >> 4, count)
    if codec == _ZSTD_PLANES:
        return _from_planes(body, count, _unzstd)
    if codec == _LZMA_PLANES:
        return _from_planes(body, count, _unlzma)
    raise CorruptTrack(f"the codec {codec} is not known")


def bits(numbers: Whole) -> list[float]:
    """About how many bits a difference takes, of each of `ORDERS`, by samples."""
    count = len(numbers)
    if count > 4 * _SAMPLED:
        starts = np.arange(4)[:, None] * ((count - _SAMPLED) // 3)
        numbers = numbers[starts + np.arange(_SAMPLED)]
    found, steps = [], numbers.astype(np.float64)
    for _ in ORDERS:
        found.append(float(np.log2(np.abs(steps) + 0.5).sum()) / max(1, steps.size))
        steps = steps[..., 1:] - steps[..., :-1]
    return found


def _candidates(numbers: Whole) -> Iterator[bytes]:
    count = len(numbers)
    for level in (_LEVEL, 12):
        for delta in (DeltaSpec.auto(), *(_consecutive(order) for order in range(4))):
            yield _pco(numbers, _config(level, delta, count))
    for order in (2, 4, 8):
        if _can_convolve(numbers, order):
            yield _pco(numbers, _config(12, DeltaSpec.try_conv1(order), count))
    for order in ORDERS:
        yield _planes(numbers, order, _zstd(19), _ZSTD_PLANES)
        yield _planes(numbers, order, _lzma, _LZMA_PLANES)


def _can_convolve(numbers: Whole, order: int) -> bool:
    """Whether pcodec 1.1 can: not numbers of 64 bits, and not when its last batch is shorter than the order."""
    return _width(numbers) < _WIDEST and len(numbers) >= _BATCH and not 0 < len(numbers) % _BATCH < order


def _consecutive(order: int) -> DeltaSpec:
    return DeltaSpec.try_consecutive(order) if order else DeltaSpec.no_op()


def _config(level: int, delta: DeltaSpec, count: int) -> ChunkConfig:
    return ChunkConfig(
        compression_level=level, delta_spec=delta, paging_spec=PagingSpec.exact_page_sizes(_pages(count))
    )


def _pages(count: int) -> list[int]:
    return [count] if count <= _PAGE else [min(_PAGE, count - begin) for begin in range(0, count, _PAGE)]


def _pco(numbers: Whole, config: ChunkConfig) -> bytes:
    width = _width(numbers)
    chunk = _PCO_WRITER.chunk_compressor(numbers.astype(_DTYPES[width]), config)
    pages = [chunk.write_page(page) for page in range(len(chunk.n_per_page()))]
    return b"".join([bytes([_PCO | width << 4]), chunk.write_meta(), *pages])


def _width(numbers: Whole) -> int:
    lowest, highest = int(numbers.min()), int(numbers.max())
    return next(at for at, size in enumerate(_BITS) if -1 << size - 1 <= lowest and highest < 1 << size - 1)


def _from_pco(body: bytes, width: int, count: int) -> Counted:
    numbers: Counted = np.empty(count, _DTYPES[width])
    try:
        chunk, at = _PCO_FILE.chunk_decompressor(body, _PCO_NAMES[width])
        begin = 0
        for size in _pages(count):
            _, used = chunk.read_page_into(body[at:], size, numbers[begin : begin + size])
            at, begin = at + used, begin + size
    except (RuntimeError, TypeError, ValueError) as error:
        raise CorruptTrack("a column cannot be unpacked") from error
    return numbers


def _planes(numbers: Whole, order: int, squeeze: Callable[[bytes], bytes], codec: int) -> bytes:
    """Differences with the sign as the last bit, their bytes sorted by weight: equal ones come to stand together."""
    for _ in range(order):
        numbers = np.diff(numbers, prepend=np.int64(0))
    folded = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    width = next(at for at, size in enumerate(_PLANE_WIDTHS) if int(folded.max()) < 1 << 8 * size)
    sorted_bytes = folded.astype(f"<u{_PLANE_WIDTHS[width]}").view(np.uint8).reshape(len(folded), -1).T.tobytes()
    return bytes([codec, order << 4 | width]) + squeeze(sorted_bytes)


def _from_planes(body: bytes, count: int, inflate: Callable[[bytes, int], bytes]) -> Whole:
    if not body or body[0] & 15 >= len(_PLANE_WIDTHS):
        raise CorruptTrack("a column's planes have no known width")
    order, size = body[0] >> 4, _PLANE_WIDTHS[body[0] & 15]
    raw = inflate(body[1:], count * size)
    if len(raw) != count * size:
        raise CorruptTrack("a column has not as many values as points")
    planes = np.frombuffer(raw, np.uint8).reshape(size, count)
    folded = np.ascontiguousarray(planes.T).view(f"<u{size}").ravel().astype(np.uint64)
    numbers = (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)
    for _ in range(order):
        numbers = np.cumsum(numbers)
    return numbers


def _zstd(level: int) -> Callable[[bytes], bytes]:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, write_content_size=False, write_checksum=False, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress


def _unzstd(body: bytes, size: int) -> bytes:
    """At most `size` bytes and one, whatever the frame says of itself."""
    inflater = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS, max_window_size=_ZSTD_WINDOW)
    try:
        return inflater.stream_reader(body).read(size + 1)
    except zstandard.ZstdError as error:
        raise CorruptTrack("a column cannot be inflated") from error


def _lzma(raw: bytes) -> bytes:
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=_LZMA)


def _unlzma(body: bytes, size: int) -> bytes:
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA).decompress(body, max_length=size)
    except (lzma.LZMAError, EOFError) as error:
        raise CorruptTrack("a column cannot be inflated") from error
