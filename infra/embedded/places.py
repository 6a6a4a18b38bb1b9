"""Folders of an embedded server, and the short place that its socket needs."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from infra.faults import Fault

_SOCKET_PATH_BYTES: Final = 100  # of 104 to 108 that systems allow (unix(7)), Postgres's own lock file included


def private_folder(folder: Path) -> Path:
    """The folder, made if need be, open to its owner only; `Fault` when it cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise Fault(f"{folder} cannot be written ({error.strerror}): choose another folder with --data.") from None
    return folder


def socket_folder(data: Path) -> Path:
    """A folder for sockets: inside the data folder, or in the system's for temporary files where that is too deep."""
    inside = data.absolute() / "run"
    if len(os.fsencode(inside / ".s.PGSQL.5432.lock")) <= _SOCKET_PATH_BYTES:
        return private_folder(inside)
    name = hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:12]
    outside = private_folder(Path(tempfile.gettempdir()) / f"cairn-{os.geteuid()}-{name}")
    if outside.stat().st_uid != os.geteuid():
        raise Fault(f"{outside} belongs to another user: choose a shorter --data folder.")
    return outside
