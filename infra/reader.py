"""Reading recordings in a process of its own: what crashes, hangs or swells there harms no worker."""

import asyncio
import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final

import msgspec

from domain.recordings.analysis import analyse
from domain.recordings.reading import ReaderFailed, Reading, SessionRead
from domain.recordings.recording import Session
from infra.formats import parse
from infra.formats.track import encode
from infra.processes import end_with_parent

_SECONDS: Final = 60.0  # for the largest file that is accepted
_BYTES: Final = 4 * 1024**3  # of address space, of which numpy and lxml reserve more than they use
_FILES_A_PROCESS: Final = 500  # then a fresh one: what leaks does not pile up


class ProcessReader:
    """Implements `workers.ingest.ports.Reader` with one child process."""

    def __init__(self) -> None:
        self._pool = _pool()

    async def read(self, body: bytes) -> Reading:
        """The recording; `UnreadableRecording`, `ReaderFailed`."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._pool, read, body), _SECONDS)
        except TimeoutError:
            self._restart()
            raise ReaderFailed(f"reading took longer than {_SECONDS:.0f} s") from None
        except BrokenProcessPool:
            self._restart()
            raise ReaderFailed("the reading process died") from None
        except MemoryError:
            raise ReaderFailed(f"reading took more than {_BYTES // 1024**3} GiB") from None

    def _restart(self) -> None:
        self.close()
        self._pool = _pool()

    def close(self) -> None:
        """End the child, also when it hangs."""
        for process in multiprocessing.active_children():
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_limit,
        initargs=(os.getpid(),),
        max_tasks_per_child=_FILES_A_PROCESS,
    )


def _limit(parent: int) -> None:
    end_with_parent()
    if os.getppid() != parent:
        os._exit(0)  # it died before it could be heard of
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))


def read(body: bytes) -> Reading:
    """Parse and analyse; `UnreadableRecording` when there is nothing to make an activity of."""
    recording = parse(body)
    return Reading(
        format=recording.format,
        device=recording.device_name,
        utc_offset_s=recording.utc_offset_s,
        sessions=tuple(_read_session(session, recording.warnings) for session in recording.sessions),
    )


def _read_session(session: Session, warnings: tuple[str, ...]) -> SessionRead:
    found = analyse(session, warnings)
    return SessionRead(
        sport=session.sport,
        title=session.title,
        started_at=session.started_at,
        distance_m=found.distance_m,
        elapsed_s=found.elapsed_s,
        moving_s=found.moving_s,
        elevation_gain_m=found.elevation_gain_m,
        measured=found.measured,
        details=msgspec.json.encode(found.details),
        track=encode(session.columns),
    )
