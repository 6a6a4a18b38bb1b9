"""What each of the 66 bad inputs costs a running instance: CPU of all its processes but the servers', and the most
memory that one of them took beyond what it had.

By hand: `.venv/bin/python -m tests.system.bad_inputs`. Each input is sent three times. The least CPU counts, as what
else the instance did meanwhile is in it, and the most memory, as what was taken once may be used again.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from infra.settings import load_settings
from tests.api.bad_inputs import ABSENT, ENTRIES
from tests.api.bad_inputs.place import Bad, Place, bad, settle, told
from tests.system.instances import descendants, up

MOST_MS = 250.0
MOST_MB = 64.0
TIMES = 3
OTHERS = ("postgres", "valkey")


class Cost(Struct, frozen=True):
    """What an input cost, and how it was answered."""

    told: str
    ms: float
    mb: float


class _Process:
    """What it used of CPU, and the most memory since it was looked at."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def cpu_ms(self) -> float:
        """Of all its threads that live."""
        threads = (self._folder / "task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6

    def memory_mb(self, name: str) -> float:
        """`VmRSS` now, `VmHWM` at most since `forget`."""
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    def forget(self) -> None:
        """Begin to look for the most memory anew."""
        (self._folder / "clear_refs").write_text("5")


async def cost(entry: Bad, place: Place, processes: list[_Process]) -> Cost:
    """Of sending it once."""
    for process in processes:
        process.forget()
    memory = [process.memory_mb("VmRSS") for process in processes]
    began = sum(process.cpu_ms() for process in processes)
    answered = told(await entry.send(place))
    await asyncio.sleep(0.05)  # what it does behind its answer
    took = sum(process.cpu_ms() for process in processes) - began
    grown = max(process.memory_mb("VmHWM") - before for process, before in zip(processes, memory, strict=True))
    return Cost(answered, took, grown)


async def _costs(port: int, key: tuple[str, bytes], processes: list[_Process]) -> list[tuple[Bad, Cost]]:
    absent = [bad(number, reason, send, "404 not-found") for number, (reason, send) in ABSENT.items()]
    idle = bad(0, "nothing at all", lambda place: place.ask("GET", "/nothing"), "404 not-found")
    entries = sorted([idle, *ENTRIES, *absent], key=lambda entry: entry.number)
    seen: Mapping[int, list[Cost]] = {place: [] for place in range(len(entries))}
    for _ in range(TIMES):
        place = await settle(port, key)
        for number, entry in enumerate(entries):
            seen[number].append(await cost(entry, place, processes))
    counted = [
        Cost(found[0].told, min(one.ms for one in found), max(one.mb for one in found)) for found in seen.values()
    ]
    return list(zip(entries, counted, strict=True))


def run(data: Path) -> bool:
    """Print a line for each, and the worst; whether all were answered as meant, and none cost too much."""
    with up(data) as (supervisor, instance):
        key = load_settings(data, os.environ).token_keys[0]
        below = descendants(supervisor.pid)
        processes = [_Process(pid) for pid, command in below if not any(part in command for part in OTHERS)]
        port = int(instance.api_url.rpartition(":")[2])
        found = asyncio.run(_costs(port, (key.kid, key.secret), processes))
    wrong = [entry for entry, seen in found if seen.told not in entry.expected]
    dear = [entry for entry, seen in found if seen.ms > MOST_MS or seen.mb > MOST_MB]
    for entry, seen in found:
        mark = "  <- not what was meant" if entry in wrong else "  <- too much" if entry in dear else ""
        print(f"{entry.number:2}  {seen.told:38} {seen.ms:7.1f} ms {seen.mb:6.1f} MB  {entry.text[:60]!a}{mark}")  # noqa: T201
    for name, worst in (
        ("CPU", sorted(found, key=lambda one: -one[1].ms)),
        ("memory", sorted(found, key=lambda one: -one[1].mb)),
    ):
        told_of = "; ".join(
            f"{entry.number} {entry.text[:40]!a} {seen.ms:.0f} ms {seen.mb:.0f} MB" for entry, seen in worst[:8]
        )
        print(f"most {name}: {told_of}")  # noqa: T201
    print(f"{len(found)} inputs, {len(wrong)} answered otherwise than meant, {len(dear)} cost too much")  # noqa: T201
    return not wrong and not dear


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.suppress(KeyboardInterrupt):
        sys.exit(not run(Path(temporary) / "data"))
