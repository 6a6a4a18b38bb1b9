"""Where an embedded Postgres lives, and as whom it runs: Postgres refuses to be root.

An ordinary user runs it as itself in the data folder. Root does too, in a user namespace where it is not root. Where
root is not allowed namespaces (most containers), the server is handed to an account without rights: its programs and
its data are then below `/var/lib/cairn`, because that account could not walk into a folder that only root may enter.
"""

import os
import pwd
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final
from uuid import uuid4

from infra.embedded.places import private_folder, socket_folder
from infra.faults import Fault
from infra.processes import AS_WE_ARE, IN_NAMESPACE, can_drop_root

_STATE: Final = Path("/var/lib/cairn")
_ACCOUNT: Final = "nobody"  # the one account that every system has
_PLACE: Final = "postgres.place"  # in the data folder: the name of the folder below _STATE that belongs to it
_OWNER: Final = "owner"  # in that folder: the inode of the file above, and a line on, the data folder's path
_MADE: Final = "postgres.made"  # in the data folder: that there was a database once


@dataclass(frozen=True)
class Home:
    """Folders of one server: `folder` is the one around all, to be locked; `identity` is for `child_command`."""

    folder: Path
    programs: Path
    cluster: Path
    sockets: Path
    identity: str


def home_of(data: Path, programs: Path) -> Home:
    """The home of the server of this data folder, made ready; `Fault` when there can be none here."""
    here = data.absolute() / "postgres"
    if os.geteuid() != 0:
        return Home(data, programs, here, socket_folder(data), AS_WE_ARE)
    if (data / _PLACE).exists():  # once handed over, always: the data is there
        return _handed_over(data, programs)
    if can_drop_root():
        return Home(data, programs, here, socket_folder(data), IN_NAMESPACE)
    if here.exists():
        raise Fault(
            f"{here} was made with user namespaces, which this system does not allow: allow them, run cairn as the "
            f"user that owns the folder, or set DATABASE_URL to a Postgres of yours."
        )
    return _handed_over(data, programs)


def _handed_over(data: Path, programs: Path) -> Home:
    try:
        account = pwd.getpwnam(_ACCOUNT)
        place = _STATE / _place_name(data)
        _open_folder(_STATE)
        _open_folder(place)
        staged = _staged(programs)
        for folder in (place / "data", place / "run"):
            private_folder(folder)
            os.chown(folder, account.pw_uid, account.pw_gid)
    except (OSError, KeyError) as error:
        raise Fault(
            f"Postgres refuses to run as root, and cannot be handed to the account {_ACCOUNT} ({error}): "
            f"run cairn as an ordinary user, or set DATABASE_URL to a Postgres of yours."
        ) from None
    _require_own(data, place)
    return Home(place, staged, place / "data" / "postgres", place / "run", _ACCOUNT)


def _place_name(data: Path) -> str:
    """Kept in the data folder, so that moving or renaming that folder loses nothing."""
    file = data / _PLACE
    if not file.exists():
        unfinished = file.with_name(f"{_PLACE}.{uuid4().hex}")
        unfinished.write_text(uuid4().hex[:12])
        unfinished.rename(file)
    return file.read_text().strip()


def _require_own(data: Path, place: Path) -> None:
    """Raise for a copy, whose pointer leads to the database of its original.

    A data folder that was moved still has the pointer's inode, one that was mounted anew its path.
    """
    file, inode, path = place / _OWNER, str((data / _PLACE).stat().st_ino).encode(), os.fsencode(data.absolute())
    if file.exists():
        its_inode, _, its_path = file.read_bytes().partition(b"\n")
        if inode != its_inode and path != its_path:
            raise Fault(
                f"{data} is a copy of {os.fsdecode(its_path)}, and the database of that one, in {place}, is not copied "
                f"with it: copy it as a dump. If this folder has taken the other's place for good, remove {file}, "
                f"and start again."
            )
    unfinished = file.with_name(f"{_OWNER}.{uuid4().hex}")
    unfinished.write_bytes(inode + b"\n" + path)
    unfinished.replace(file)


def made_file(data: Path) -> Path:
    """By which an instance knows that it had a database."""
    return data / _MADE


def require_database(data: Path, home: Home) -> None:
    """Raise where the database of an instance is gone: an empty one in its place would look like a new instance."""
    if made_file(data).exists() and not home.cluster.exists():
        raise Fault(
            f"the database of {data} is gone: there is no {home.cluster}. Put it back, or your backup of it. "
            f"To begin with an empty one, for a dump to be restored in, remove {made_file(data)}."
        )


def note_database(data: Path) -> None:
    """From now on, the instance has a database."""
    made_file(data).touch()


def _open_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # whatever the umask: the account has to walk through


def _staged(programs: Path) -> Path:
    """A copy of the programs, with their libraries beside them as in the wheel, that every account may run."""
    package = programs.parents[1]  # PACKAGE/pginstall/bin
    whole = _STATE / f"{package.name}-{version(package.name)}"
    copied = whole / package.name / "pginstall" / "bin"
    if not copied.exists():
        unfinished = whole.with_name(f"{whole.name}.{uuid4().hex}")
        not_to_run = shutil.ignore_patterns("include", "pgxs", "*.a", "__pycache__")
        shutil.copytree(package, unfinished / package.name, symlinks=True, ignore=not_to_run)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        _open_to_read(unfinished)
        try:
            unfinished.rename(whole)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not copied.exists():  # else another instance was faster
                raise
    return copied


def _open_to_read(root: Path) -> None:
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            if not path.is_symlink():
                path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
