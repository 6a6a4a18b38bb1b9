"""Zips of strangers, read entry by entry, from the zip into memory: nothing is unpacked onto the disk.

Bounded are the entries, what each inflates to, and what all do together. Names serve to find entries and to be shown.
"""

import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from workers.cli.importing.entries import NOT_OPENED, Left, NotRead, is_of_macos, within
from workers.cli.importing.report import printable

_MAX_ENTRIES: Final = 200_000
_MAX_DIRECTORY: Final = 32 * 1024 * 1024  # bytes: what zipfile reads whole before anything else
_MAX_INFLATED: Final = 64 * 1024**3  # of all entries of an archive together
_MAX_INNER: Final = 8 * 1024**3  # bytes of one zip in the zip
_ENCRYPTED: Final = 0x1
_LOCKED: Final = "it is encrypted: unpack the export and zip it again without a password"
_PACKED: Final = "it is packed in a way that exports do not use"
_CLOSED: Final = (_LOCKED, _PACKED)
_FAULTS: Final = (
    *(BadZipFile, OSError, EOFError, RuntimeError, ValueError, ArithmeticError, LookupError),
    *(zlib.error, struct.error),
)


class Archive:
    """A zip. `files` are the entries that may be read, by their names; `left` are those that may not, and why."""

    def __init__(self, opened: ZipFile, name: str) -> None:
        self._zip = opened
        self._inflated = 0
        self.name = name
        self.files: dict[str, ZipInfo] = {}
        self.left: list[Left] = []
        for info in opened.infolist():
            if info.filename.endswith("/") or is_of_macos(info.filename):
                continue
            refusal = "another entry has the same name" if info.filename in self.files else _refusal(info)
            if refusal is None:
                self.files[info.filename] = info
            else:
                verdict = NOT_OPENED if refusal in _CLOSED else "skipped"
                self.left.append(Left(self.shown(info.filename), refusal, verdict))

    def shown(self, name: str) -> str:
        """The entry's name in reports."""
        return f"{self.name}/{printable(name)}"

    def key(self, name: str) -> str:
        """Of the entry's name and bytes, as the archive's directory tells them."""
        info = self.files[name]
        return f"{info.CRC:08x}/{info.file_size}/{name}"

    def read(self, name: str, limit: int) -> bytes:
        """The entry's bytes, inflated; `NotRead`."""
        info = self.files[name]
        if info.file_size > limit:
            raise NotRead(f"it is larger than {limit >> 20} MiB")
        with _readable(), self._zip.open(info) as packed:
            body = packed.read(limit + 1)
        self._count(len(body))
        return within(body, limit)

    @contextmanager
    def inner(self, name: str) -> Iterator["Archive"]:
        """The zip that an entry is; `NotRead`. Copied to a file without a name, as its directory is at its end."""
        with tempfile.TemporaryFile() as copy:
            self._copy(name, copy)
            with open_archive(copy, self.shown(name.rpartition("/")[2])) as archive:
                yield archive

    def _copy(self, name: str, target: IO[bytes]) -> None:
        left = _MAX_INNER
        for chunk in self._chunks(name):
            left -= len(chunk)
            if left < 0:
                raise NotRead(f"it is larger than {_MAX_INNER >> 30} GiB")
            try:
                target.write(chunk)
            except OSError as error:
                raise NotRead(f"there is no room for it in {tempfile.gettempdir()}: {error.strerror}") from None

    def _chunks(self, name: str) -> Iterator[bytes]:
        with _readable(), self._zip.open(self.files[name]) as packed:
            while chunk := packed.read(1024 * 1024):
                self._count(len(chunk))
                yield chunk

    def _count(self, inflated: int) -> None:
        self._inflated += inflated
        if self._inflated > _MAX_INFLATED:
            raise NotRead(f"the archive inflates to more than {_MAX_INFLATED >> 30} GiB: this is no export")


@contextmanager
def open_archive(file: Path | IO[bytes], name: str) -> Iterator[Archive]:
    """The zip in a file; `NotRead` when it is none, or has too much in it."""
    if isinstance(file, Path):
        try:
            opened = file.open("rb")
        except OSError as error:
            raise NotRead(f"the file cannot be read: {error.strerror}") from None
        with opened:
            yield _archive(opened, name)
    else:
        yield _archive(file, name)


def _archive(file: IO[bytes], name: str) -> Archive:
    with _readable():
        if _directory_bytes(file) > _MAX_DIRECTORY:
            raise NotRead(f"it has more than {_MAX_ENTRIES:,} entries: this is no export")
        opened = ZipFile(file)
    if len(opened.infolist()) > _MAX_ENTRIES:
        raise NotRead(f"it has more than {_MAX_ENTRIES:,} entries: this is no export")
    return Archive(opened, name)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise NotRead(f"damaged, or no zip: {error}") from None


def _directory_bytes(file: IO[bytes]) -> int:
    """How large the zip says that its directory is (APPNOTE.TXT, 4.3.14 to 4.3.16); 0 where it does not say."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 22 - 0xFFFF - 20))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        return 0
    told: int = struct.unpack_from("<I", tail, at + 12)[0]
    if told == 0xFFFFFFFF and at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        file.seek(struct.unpack_from("<Q", tail, at - 12)[0])
        record = file.read(56)
        told = struct.unpack_from("<Q", record, 40)[0] if len(record) == 56 else 0
    return told


def _refusal(info: ZipInfo) -> str | None:
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        return "its name leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & _ENCRYPTED:
        return _LOCKED
    if info.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        return _PACKED
    return None
