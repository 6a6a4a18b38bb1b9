"""The process in which recordings are read, one after the other: `python -m infra.reading_child PARENT DESCRIPTOR`.

It is told each file's sport (nothing: what the file says) and its bytes, and answers with a `Reply`, over a pipe.
Replies are data, never pickles: what a hostile file might do to this process, it cannot do to its parent. It is given
no key, and no address of a server.
"""

import os
import resource
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Final

import msgspec
from msgspec import Struct

from domain.measures import Sport
from domain.recordings.reading import Reading
from domain.recordings.recording import UnreadableRecording
from infra.processes import end_with_parent
from infra.reader import read

BYTES: Final = 4 * 1024**3  # of address space, of which numpy reserves more than it uses


class Reply(Struct, frozen=True, omit_defaults=True):
    """One of the three."""

    reading: Reading | None = None
    refusal: tuple[str, str] | None = None  # code and reason of an `UnreadableRecording`
    failure: str | None = None


def main() -> None:
    """Say that all is loaded, then answer until the parent hangs up."""
    parent, descriptor = (int(argument) for argument in sys.argv[1:])
    end_with_parent()
    if os.getppid() != parent:
        return  # it died before it could be heard of
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    link, encoder = Connection(descriptor), msgspec.msgpack.Encoder()
    try:
        link.send_bytes(b"")
        while True:
            link.send_bytes(encoder.encode(_answer(link.recv_bytes(), link.recv_bytes())))
    except (EOFError, OSError):
        return


def _answer(sport: bytes, body: bytes) -> Reply:
    try:
        return Reply(reading=read(body, Sport(sport.decode()) if sport else None))
    except UnreadableRecording as refusal:
        return Reply(refusal=(refusal.code, refusal.reason))
    except MemoryError:
        return Reply(failure=f"reading took more than {BYTES // 1024**3} GiB")
    except Exception:  # noqa: BLE001 - whatever it is, the parent tells it, and the next file is another one
        return Reply(failure=traceback.format_exc())


if __name__ == "__main__":
    main()
