"""A process that decodes a sealed log in memory, for `cairn bench decode`: it says that it is ready, and waits.

python -m workers.cli.bench.decoding URL
"""

import gc
import sys
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

import psycopg

from infra.event_store.mapper import MAPPER
from infra.event_store.reader import LogReader
from infra.event_store.rows import Row
from infra.keys import MasterKeys, UserCipher
from workers.cli.bench.appending import MASTER
from workers.projector import COLLECTIONS


def key_of(owner_id: UUID) -> bytes:
    """An owner's key in the made-up logs."""
    return owner_id.bytes * 2


def opened(rows: Sequence[Row], ciphers: Mapping[UUID, UserCipher]) -> float:
    """Events a second, with what is private in them."""
    began = time.perf_counter()
    for row in rows:
        MAPPER.event(row, ciphers[row.owner_id])
    return len(rows) / (time.perf_counter() - began)


def _main(url: str) -> None:
    gc.set_threshold(*COLLECTIONS)
    with psycopg.connect(url, autocommit=True) as connection:
        rows = [row for page in LogReader(connection, MasterKeys([MASTER])).scan() for row in page]
    ciphers = {owner: UserCipher(key_of(owner)) for owner in {row.owner_id for row in rows}}
    gc.collect()
    gc.freeze()
    print("ready", flush=True)  # noqa: T201 - the parent listens
    sys.stdin.readline()
    print(opened(rows, ciphers), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main(sys.argv[1])
