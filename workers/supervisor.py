"""Starts services in order, passes on what they print, restarts what crashes, and stops them in reverse order."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_FIRST_PAUSE: Final = 0.2  # seconds before a restart, doubling up to
_LONGEST_PAUSE: Final = 30.0
_HEALTHY_SECONDS: Final = 30.0  # after which the pause begins anew
_STEADY_SECONDS: Final = 2.0  # a service without a probe is ready when it has run so long
_PROBE_SECONDS: Final = 0.05
_MOST_FAILURES: Final = 3  # in a row, while starting
_LAST_LINES: Final = 8


class ServiceFailed(Exception):
    """A service did not become ready. The message has its last lines."""


@dataclass(frozen=True)
class Service:
    """One child process. `ready` is asked, in a thread, until it says yes."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 30.0
    pass_fds: Sequence[int] = ()


@dataclass
class _Child:
    service: Service
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    began: float = 0.0  # on the monotonic clock
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0  # in a row
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    async def is_ready(self) -> bool:
        asked = self.process
        if asked is None or asked.returncode is not None:
            return False
        if self.service.ready is None:
            return time.monotonic() - self.began >= _STEADY_SECONDS
        answers = await asyncio.to_thread(self.service.ready)
        return answers and asked is self.process and asked.returncode is None  # else another one has answered


class Supervisor:
    """Services that live and end together with this process.

    Their argv should ask the kernel to end them with this process (`infra.processes.child_command` does): nothing
    here runs any more when this process is killed.
    """

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._children: list[_Child] = []

    async def start(self, *services: Service, timeout_seconds: float = 60.0) -> None:
        """Start these, and return when all are ready; `ServiceFailed` when one crashes thrice or takes too long."""
        children = [_Child(service) for service in services]
        for child in children:
            self._children.append(child)
            child.keeper = asyncio.create_task(self._keep(child))
        deadline = time.monotonic() + timeout_seconds
        for child in children:
            await self._wait(child, deadline)
            self._log(child.service.name, "ready")

    async def _wait(self, child: _Child, deadline: float) -> None:
        while not await child.is_ready():
            if child.keeper is not None and child.keeper.done():
                child.keeper.result()  # it could not even be run
            if child.failures >= _MOST_FAILURES or time.monotonic() > deadline:
                lines = "\n".join(f"  {line}" for line in child.last_lines) or "  (it printed nothing)"
                raise ServiceFailed(f"{child.service.name} does not start. Its last lines:\n{lines}")
            await asyncio.sleep(_PROBE_SECONDS)

    async def stop(self) -> None:
        """Stop all, the last started first: each gets its signal, its grace, and then the end."""
        for child in self._children:
            child.stopping.set()
        for child in reversed(self._children):
            await self._halt(child)

    async def _halt(self, child: _Child) -> None:
        if child.keeper is None:
            return
        _signal(child)
        _, late = await asyncio.wait({child.keeper}, timeout=child.service.grace_seconds)
        if late and child.process is not None:
            self._log(child.service.name, "does not end by itself: ending it")
            _end_group(child.process)
            await asyncio.wait({child.keeper})

    async def _keep(self, child: _Child) -> None:
        pause = _FIRST_PAUSE
        while not child.stopping.is_set():
            code = await self._run(child)
            if child.stopping.is_set():
                return
            if time.monotonic() - child.began >= _HEALTHY_SECONDS:
                pause, child.failures = _FIRST_PAUSE, 0
            child.failures += 1
            self._log(child.service.name, f"ended {_told(code)}; starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _run(self, child: _Child) -> int:
        """One life of the process.

        Its output has a pipe of ours: asyncio's own would make `wait` wait for grandchildren that hold it open, and a
        killed service would never be started again.
        """
        service = child.service
        child.began = time.monotonic()
        output, into = os.pipe()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *service.argv,
                env=dict(service.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                start_new_session=True,  # Ctrl-C is for us, who then stop them in order
                pass_fds=service.pass_fds,
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(into)
        if child.stopping.is_set():  # told while the process was being made
            _signal(child)
        reading = asyncio.create_task(self._read(child, output))
        code = await child.process.wait()
        _end_group(child.process)
        with contextlib.suppress(TimeoutError):  # a grandchild in a group of its own may hold the pipe open
            await asyncio.wait_for(reading, 1.0)
        return code

    async def _read(self, child: _Child, output: int) -> None:
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(output, "rb"))
        try:
            while chunk := await _line(stream):
                text = chunk.decode(errors="replace").rstrip()
                child.last_lines.append(text)
                self._log(child.service.name, text)
        finally:
            transport.close()


def _signal(child: _Child) -> None:
    if child.process is not None and child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(child.service.stop_signal)


def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the process and what it has started in its group; nothing when all have left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(process.pid, signal.SIGKILL)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """A line, or a piece of one that is too long for the buffer."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as rest:
        return rest.partial
    except asyncio.LimitOverrunError as long:
        return await stream.read(long.consumed)


def _told(code: int) -> str:
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
