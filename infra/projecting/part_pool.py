"""The processes of a rebuild, as the command that started them sees them."""

import base64
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from queue import Empty, LifoQueue, Queue

import msgspec

from infra.processes import child_command, child_environ, cores
from infra.projecting.part_worker import Begin, Task, Told


class PartPool:
    """Processes that work on tasks, each with a thread that speaks with it. They end with this process."""

    def __init__(self, database_url: str, master_keys: Sequence[bytes], workers: int, memory_bytes: int) -> None:
        """So many processes, each of which may have so much memory. Fewer than cores leave one that others want."""
        keys = [base64.b64encode(key).decode() for key in master_keys]
        begin = Begin(database_url, keys, memory_bytes, gentle=workers < cores())
        self._begin = msgspec.json.encode(begin) + b"\n"
        self._workers = workers
        self._tasks: LifoQueue[Task | None] = LifoQueue()
        self._told: Queue[tuple[Task, Told]] = Queue()
        self._left = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self.throttled = False

    def __enter__(self) -> "PartPool":
        for _ in range(self._workers):
            argv = [sys.executable, "-m", "infra.projecting.part_worker"]
            process = subprocess.Popen(  # noqa: S603 - our own module
                child_command(argv, on_death=signal.SIGKILL),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **child_environ(), "PATH": os.environ.get("PATH", os.defpath)},
            )
            self._processes.append(process)
            thread = threading.Thread(target=self._speak, args=(process,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError), process:  # it had not read everything
                pass

    @property
    def finished(self) -> bool:
        """Whether every task is done and was heard of."""
        return self._left == 0 and self._told.empty()

    def add(self, tasks: Sequence[Task]) -> None:
        """To be worked on in this order, and before what was added earlier: what does not fit at all is found soon."""
        self._left += len(tasks)
        for task in reversed(tasks):
            self._tasks.put(task)

    def take(self, seconds: float) -> Iterator[tuple[Task, Told]]:
        """What was said, after waiting for it as long as that."""
        wait = seconds
        while True:
            try:
                task, told = self._told.get(timeout=wait) if wait else self._told.get_nowait()
            except Empty:
                return
            wait = 0.0
            if told.done or told.too_big or told.fault:
                self._left -= 1
            yield task, told

    def throttle(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Have the processes rest, or go on."""
        if on != self.throttled:
            self.throttled = on
            for process in self._processes:
                process.send_signal(signal.SIGTSTP if on else signal.SIGCONT)

    def _speak(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101 - as it was started
        assert process.stdout is not None  # noqa: S101 - as above
        said = self._begin
        while (task := self._tasks.get()) is not None:
            try:
                process.stdin.write(said + msgspec.json.encode(task) + b"\n")
                process.stdin.flush()
                said = b""
                for line in process.stdout:
                    told = msgspec.json.decode(line, type=Told)
                    self._told.put((task, told))
                    if told.done or told.too_big or told.fault:
                        break
                else:
                    self._told.put((task, Told(fault="its process died")))
                    return
            except OSError:
                self._told.put((task, Told(fault="its process died")))
                return
