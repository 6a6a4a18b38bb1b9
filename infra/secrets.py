"""The keys of an instance in `DIR/secrets/`: made once, for their owner's eyes, replaced only by what they become."""

import base64
import json
import os
import secrets
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from infra.faults import Fault

_FILES: Final = {"CAIRN_MASTER_KEY": "master.key", "CAIRN_TOKEN_KEYS": "tokens.json", "CAIRN_CURSOR_KEY": "cursor.key"}
_KEY_BYTES: Final = 32


def load_secrets(data: Path) -> Mapping[str, str]:
    """The keys by the names of their variables; empty when there are none. `Fault` when only some can be used."""
    folder = data / "secrets"
    try:
        present = {file.name for file in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise Fault(f"{folder} cannot be read by this user ({error.strerror}): run cairn as its owner.") from None
    missing = sorted(set(_FILES.values()) - present)
    if len(missing) == len(_FILES):
        return {}
    if missing:
        raise Fault(f"{folder} lacks {', '.join(missing)}: put back what your backup of the secrets has.")
    return {name: _read(folder / file) for name, file in _FILES.items()}


def make_secrets(data: Path) -> None:
    """Make the keys of a new instance, all or none: the folder appears whole. `Fault` where something is already."""
    folder, unfinished = data / "secrets", data / f"secrets.{uuid4().hex}"
    unfinished.mkdir(mode=0o700)
    _write(unfinished / "master.key", _key())
    _write(unfinished / "tokens.json", json.dumps({f"k-{secrets.token_hex(4)}": _key()}))
    _write(unfinished / "cursor.key", _key())
    _sync(unfinished)
    try:
        unfinished.rename(folder)
    except OSError:  # not empty, or no folder
        raise Fault(f"{folder} has something in it that is no secret of cairn: move it away.") from None
    _sync(data)


def add_master_key(data: Path) -> Path | None:
    """Put a new master key before the one there is; where. None, and nothing done, when there are several."""
    path = data / "secrets" / "master.key"
    keys = _master_keys(data)
    if len(keys) > 1:
        return None
    _replace(path, ",".join([_key(), *keys]))
    return path


def keep_first_master_key(data: Path) -> Path:
    """Drop all master keys but the first; where."""
    path = data / "secrets" / "master.key"
    _replace(path, _master_keys(data)[0])
    return path


def master_key_changed_at(data: Path) -> float:
    """When the master key's file was last written, seconds since 1970."""
    return (data / "secrets" / "master.key").stat().st_mtime


def _master_keys(data: Path) -> list[str]:
    found = load_secrets(data)
    if not found:
        raise Fault(f"there are no secrets in {data}: start ./cairn up there, or choose the folder with --data.")
    return found["CAIRN_MASTER_KEY"].split(",")


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}")
    _write(unfinished, text)
    unfinished.replace(path)
    _sync(path.parent)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> str:
    """What the variable would hold; `Fault` names the file, and nothing of what is in it."""
    try:
        closed = not stat.S_IMODE(path.stat().st_mode) & 0o077
        value = _value(path.read_text().strip(), is_json=path.suffix == ".json")
    except (OSError, ValueError, AttributeError, TypeError):
        raise Fault(f"{path} is not as it was made: put back what your backup of the secrets has.") from None
    if not closed:
        raise Fault(f"{path} can be read by others: run chmod 600 {shlex.quote(str(path))}.")
    return value


def _value(text: str, *, is_json: bool) -> str:
    """The text as a variable; one of several errors when it holds anything but whole keys."""
    named: dict[str, str] = json.loads(text) if is_json else {}
    keys = list(named.values()) if is_json else text.split(",")
    if {len(base64.b64decode(key, validate=True)) for key in keys} != {_KEY_BYTES}:
        raise ValueError
    return ",".join(f"{kid}:{key}" for kid, key in named.items()) if is_json else text
