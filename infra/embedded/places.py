"""Folders of an embedded server, and the short place that its socket needs."""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

from infra.faults import Fault

SOCKET_LOCK: Final = ".s.PGSQL.5432.lock"  # the longest name in the folder

_SOCKET_PATH_BYTES: Final = 100  # of the 104 to 108 that systems allow (unix(7))
# Commas separate folders for Postgres and hosts for libpq, and both have rules for quotes and blanks of their own.
_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._@+-]*")


def private_folder(folder: Path) -> Path:
    """The folder, made for its owner only if it is not there; `Fault` when it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(f"{folder} cannot be made ({error.strerror}): choose another folder with --data.") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise Fault(f"{folder} cannot be written by this user: choose another folder with --data.")
    return folder


def socket_folder(data: Path) -> Path:
    """A folder for sockets: inside the data folder, or in the system's for temporary files where that is too deep."""
    inside = data.absolute() / "run"
    if _PLAIN.fullmatch(str(inside)) and len(os.fsencode(inside / SOCKET_LOCK)) <= _SOCKET_PATH_BYTES:
        return private_folder(inside)
    name = hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:12]
    outside = private_folder(Path(tempfile.gettempdir()) / f"cairn-{os.geteuid()}-{name}")
    found = outside.lstat()  # the folder around it is everybody's: a link or a stranger's folder is not for us
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise Fault(f"{outside} is not a private folder of this user: remove it, or choose a shorter --data folder.")
    return outside


def remove_socket_folder(data: Path) -> None:
    """Remove it, unless a server that was killed has left something there."""
    with contextlib.suppress(OSError):
        socket_folder(data).rmdir()
