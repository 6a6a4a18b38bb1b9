"""One process of a rebuild: folds parts of the log into memory and copies them in. JSON lines in, JSON lines out.

`python -m infra.projecting.part_worker`: a process of its own that imports little, so that its memory goes to rows.
"""

import base64
import ctypes
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from msgspec import Struct
from psycopg import Connection

from domain.errors import StoreUnavailable
from infra.event_store.reader import LogReader
from infra.keys import MasterKeys
from infra.processes import end_with_parent
from infra.projecting.quarantine import note_faults
from infra.projecting.refold import Part, Refold, left_out, refold
from infra.projecting.tables import Store, prepare, stores
from projections import PROJECTIONS
from projections.projection import Key

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LOOK_EVENTS: Final = 5_000  # after so many, whether they still fit: a page of theirs takes a few megabytes
_TELL_SECONDS: Final = 0.2
_NICE: Final = 10  # runners wait for answers, nobody for a rebuild: the cores are theirs first
_LOOK_SECONDS: Final = 0.05  # while it rests, for whether it may go on
_REST_SECONDS: Final = 0.008  # with it a rebuild beside runners takes twice as long


class Begin(Struct, frozen=True):
    """The first line. The master keys come this way because others could read a command line or an environment."""

    database_url: str
    master_keys: list[str]
    memory_bytes: int  # of this process
    gentle: bool  # leave the core to others who want it: there is another one for each worker


class Share(Struct, frozen=True):
    """A part, for builds by their schema, name and version."""

    foreign: bool
    first: int
    last: int
    builds: list[tuple[str, str, int]]


class Task(Struct, frozen=True):
    """What is made in one pass of the log."""

    shares: list[Share]
    upto: int


class Told(Struct, frozen=True, omit_defaults=True):
    """What the process says: how far it is, that the part is in, that it does not fit, or what went wrong."""

    position: int = 0
    events: int = 0
    rows: int = 0
    done: bool = False
    too_big: bool = False
    fault: str = ""
    peak_bytes: int = 0


class _TooBig(Exception):
    """The part's rows do not fit into the memory that the process may have."""


def main() -> None:
    """Work until there are no more lines."""
    end_with_parent()
    os.nice(_NICE)
    gc.disable()  # rows, events and pages form no cycles, and looking for some in so many takes a quarter of the time
    rests = Rests()
    begin = msgspec.json.decode(sys.stdin.buffer.readline(), type=Begin)
    master = MasterKeys([base64.b64decode(key) for key in begin.master_keys])
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        try:
            _work(begin, master, task, rests)
        except _TooBig:
            _tell(Told(too_big=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the command tells it and fails
            _tell(Told(fault=_reason(error)))
        give_back()


def _reason(error: Exception) -> str:
    """What went wrong, in the words of whoever knows: the server's, where it is that one."""
    why = error.__cause__ if isinstance(error, StoreUnavailable) and error.__cause__ else error
    return f"{type(why).__name__}: {why}".strip()


def give_back() -> None:
    """Let go of the memory of what is no more, so that the next part is not taken for too big because of the last one.

    Python keeps thousands of freed tuples for later, each of which holds an arena of a megabyte; a collection frees
    them too. The C library keeps what lies between pieces in use until it is told (glibc; others have no such call).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _work(begin: Begin, master: MasterKeys, task: Task, rests: "Rests") -> None:
    projections = {(projection.name, projection.version): projection for projection in PROJECTIONS}
    wanted = {
        (share.foreign, schema): (projections[name, version], _part(share))
        for share in task.shares
        for schema, name, version in share.builds
    }
    began, progress = time.perf_counter(), Progress(begin.memory_bytes, gentle=begin.gentle)
    with (
        psycopg.connect(begin.database_url, autocommit=True) as reading,
        psycopg.connect(begin.database_url, autocommit=True) as writing,
    ):
        reading.execute("SET work_mem = '64MB'")  # a window of rows is sorted
        reading.execute("SET enable_seqscan = off")  # the window is known, its size is not
        skipped = left_out(writing)
        reader = LogReader(reading, master)

        def after_page(events: int, position: int) -> None:
            rests.take(reader)
            progress.page(events, position)

        folded = refold(reader, list(wanted.values()), task.upto, skipped, after_page)
        made = {place: one for place, pair in wanted.items() for one in folded if (one.projection, one.part) == pair}
        count = _write(prepare(writing), reader, made, task, progress.events, began)
    _tell(Told(done=True, events=progress.events, rows=count, peak_bytes=_peak()))


def _part(share: Share) -> Part:
    return Part(share.foreign, frozenset(range(share.first, share.last + 1)))


def _write(
    connection: Connection,
    reader: LogReader,
    made: Mapping[tuple[bool, str], Refold],  # by schema; a build may have no fold in this kind of part
    task: Task,
    events: int,
    began: float,
) -> int:
    """All rows of the task and that it is done, in one transaction: one that was cut off has left nothing."""
    total = 0
    with connection.transaction():
        for share in task.shares:
            for schema, *_ in share.builds:
                one = made.get((share.foreign, schema))
                count = 0 if one is None else _written(connection, reader, one, schema, task.upto)
                total += count
                seconds = time.perf_counter() - began
                connection.execute(_DONE, (events, count, seconds, schema, share.foreign, share.first))
    return total


def _written(connection: Connection, reader: LogReader, one: Refold, schema: str, upto: int) -> int:
    """How many rows went in. What is wrong with the others is noted."""
    total, faults = 0, list(one.faults)
    for name in one.tables:
        copied, refused = _copied(connection, stores(one.projection, schema)[name], one, name)
        total += copied
        if refused:
            faults += one.blamed(reader, name, refused, upto)
    if faults:
        note_faults(connection, schema, faults)
    return total


def _copied(connection: Connection, store: Store, one: Refold, name: str) -> tuple[int, dict[Key, str]]:
    """How many rows went in, and the keys of those that the server does not take, with the reasons."""
    try:
        with connection.transaction():
            return store.copy(connection, one.of_table(name)), {}
    except (psycopg.DataError, psycopg.IntegrityError):
        rows = list(one.of_table(name))
        refused = dict(_refused(connection, store, rows))
        return len(rows) - len(refused), refused


def _refused(connection: Connection, store: Store, rows: Sequence[Struct]) -> Iterator[tuple[Key, str]]:
    """Copies the rows in halves of halves, down to those that are at fault."""
    try:
        with connection.transaction():
            store.copy(connection, rows)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(rows) == 1:
            yield store.key_of(rows[0]), f"{type(error).__name__}: {str(error).strip()}"
            return
        yield from _refused(connection, store, rows[: len(rows) // 2])
        yield from _refused(connection, store, rows[len(rows) // 2 :])


class Rests:
    """Those that the command wants, from SIGTSTP until SIGCONT.

    They are taken with nothing open: a process that is stopped while a page comes holds a snapshot of the database for
    as long, and vacuum up with it.
    """

    def __init__(self) -> None:
        self._wanted = False
        signal.signal(signal.SIGTSTP, lambda *_: self._want(wanted=True))
        signal.signal(signal.SIGCONT, lambda *_: self._want(wanted=False))

    def _want(self, *, wanted: bool) -> None:
        self._wanted = wanted

    def take(self, reader: LogReader) -> None:
        """Rest, if that is wanted, until it is not."""
        while self._wanted:
            reader.take_in()
            time.sleep(_LOOK_SECONDS)


class Progress:
    """Tells how far the part is, and when it does not fit; rests where it is in the way."""

    def __init__(self, memory_bytes: int, *, gentle: bool) -> None:
        self._memory_bytes = memory_bytes
        self._gentle = gentle
        self._sent_off = 0  # how often others got the core before the turn on it was over
        self._told_at = 0.0
        self._unlooked = _LOOK_EVENTS  # events since memory was looked at
        self.events = 0

    def page(self, events: int, position: int) -> None:
        """So many events more, the last at this position."""
        if self._gentle:
            self._stand_aside()
        self.events += events
        self._unlooked += events
        if self._unlooked >= _LOOK_EVENTS:
            self._unlooked = 0
            if _resident() > self._memory_bytes:
                raise _TooBig
        if time.monotonic() - self._told_at > _TELL_SECONDS:
            _tell(Told(events=self.events, position=position))
            self._told_at = time.monotonic()

    def _stand_aside(self) -> None:
        """Leave the core for a moment to those who wanted it since the page before: they will want it again.

        Nice alone does not do it: whoever wakes up may wait until the scheduler's next tick, four milliseconds of it.
        """
        sent_off = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        if sent_off != self._sent_off:
            self._sent_off = sent_off
            time.sleep(_REST_SECONDS)


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except FileNotFoundError:  # not Linux
        return _peak()


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


_DONE: Final = """
    UPDATE rebuild_parts SET events = %s, rows = %s, seconds = %s, done_at = now()
    WHERE schema_name = %s AND foreign_rows = %s AND first_partition = %s
"""

if __name__ == "__main__":
    main()
