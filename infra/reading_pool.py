"""Reading recordings in processes of their own: a file that crashes, hangs or swells there harms nothing else."""

import asyncio
import contextlib
import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from typing import Final

import msgspec

from domain.measures import Sport
from domain.recordings.reading import ReaderFailed, Reading
from domain.recordings.recording import EmptyRecording, UnreadableRecording
from infra.processes import child_environ
from infra.reading_child import Reply

_SECONDS: Final = 60.0  # for the largest file that is accepted
_START_SECONDS: Final = 60.0  # to load a child on the slowest machine
_FILES_A_CHILD: Final = 500  # then a fresh one: what leaks does not pile up
_REFUSALS: Final = {refusal.code: refusal for refusal in (UnreadableRecording, EmptyRecording)}
_DECODER: Final = msgspec.msgpack.Decoder(Reply)
# one thread a child is what it is given; and it is given nothing of our own environment
_ENVIRON: Final = {**child_environ(), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class ProcessReader:
    """Implements `workers.ingest.ports.Reader` with so many child processes, which are started at once.

    As many files are read at the same time; others wait. A file that ends its child, or takes longer than `seconds`,
    fails alone, and the next one finds a fresh child.
    """

    def __init__(self, children: int = 1, seconds: float = _SECONDS) -> None:
        self._threads = ThreadPoolExecutor(children, thread_name_prefix="reader")
        self._seconds = seconds
        self._children = [_Child() for _ in range(children)]
        self._free: queue.LifoQueue[int] = queue.LifoQueue()  # who read last has warm caches
        for place in range(children):
            self._free.put(place)
        self._closed = False

    async def read(self, body: bytes, sport: Sport | None) -> Reading:
        """The recording, as of this sport if one is told; `UnreadableRecording`, `ReaderFailed`."""
        reply = await asyncio.get_running_loop().run_in_executor(self._threads, self._reply, body, sport)
        if reply.refusal is not None:
            code, reason = reply.refusal
            raise _REFUSALS.get(code, UnreadableRecording)(reason)
        if reply.reading is None:
            raise ReaderFailed(reply.failure or "the reading process gave no answer")
        return reply.reading

    def _reply(self, body: bytes, sport: Sport | None) -> Reply:
        """What a free child answers: there is one, as there are no more threads than children."""
        place = self._free.get()
        try:
            if not self._children[place].is_fresh_enough():
                self._replace(place)
            return self._children[place].ask(body, sport, self._seconds)
        except ReaderFailed:
            self._replace(place)
            raise
        finally:
            self._free.put(place)

    def _replace(self, place: int) -> None:
        self._children[place].end()
        if not self._closed:
            self._children[place] = _Child()

    def close(self) -> None:
        """End the children, also those that hang."""
        self._closed = True
        for child in self._children:
            child.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)  # they notice at once
        for child in self._children:
            child.end()


class _Child:
    """A process that reads, and the pipe to it. It is loaded while its parent goes on."""

    def __init__(self) -> None:
        self._link, theirs = Pipe()
        argv = [sys.executable, "-P", "-m", "infra.reading_child", str(os.getpid()), str(theirs.fileno())]
        self._process = subprocess.Popen(argv, env=_ENVIRON, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603 - Python itself
        theirs.close()
        self._files = 0

    def is_fresh_enough(self) -> bool:
        """Whether it runs, and has not read its share."""
        return self._files < _FILES_A_CHILD and self._process.poll() is None

    def ask(self, body: bytes, sport: Sport | None, seconds: float) -> Reply:
        """Its answer; `ReaderFailed` when it dies, or takes too long: then it is of no use any more."""
        try:
            if self._files == 0:
                self._receive(_START_SECONDS)
            self._files += 1
            self._link.send_bytes((sport or "").encode())
            self._link.send_bytes(body)
            return _DECODER.decode(self._receive(seconds))
        except (EOFError, OSError):
            raise ReaderFailed("the reading process died") from None
        except msgspec.DecodeError as error:
            raise ReaderFailed(f"the reading process answered in no words of ours: {error}") from None

    def _receive(self, seconds: float) -> bytes:
        if not self._link.poll(seconds):
            raise ReaderFailed(f"reading took longer than {seconds:g} s")
        return self._link.recv_bytes()

    def kill(self) -> None:
        """What it reads fails."""
        self._process.kill()

    def end(self) -> None:
        """Nothing is left of it. Twice is once."""
        self.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._link.close()
