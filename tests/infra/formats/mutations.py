"""Damaged recordings by the thousand: each gets a verdict, soon, in little memory, and its sums can be.

By hand: `.venv/bin/python -m tests.infra.formats.mutations --count 10000` damages the real files, when their folder is
there, or files that the repository makes; `--seed` repeats a run, and `--only N` one of its files. Limits are 250 ms of
CPU and 64 MB, or for large files 250 ms and 64 MB a megabyte.
"""

import argparse
import gc
import math
import multiprocessing
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from domain.recordings.analysis import Details
from domain.recordings.reading import Reading, SessionRead
from domain.recordings.recording import Column, UnreadableRecording
from infra.formats.track import decode
from infra.reader import read
from tests.infra.formats import real_files
from tests.infra.formats.damage import damaged
from tests.infra.formats.test_json_points import document
from tests.recordings import TCX, fit, gpx

CPU_MS: Final = 250.0
GROWTH_MB: Final = 64.0
_HANGS_SECONDS: Final = 20  # of CPU: then the file is given up, and its process with it
_TRIES: Final = 3  # a busy machine slows one down: the fastest of them counts
_REAL: Final = Path("/proc/self")


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one damaged file."""

    index: int
    source: str
    ways: str
    size: int
    verdict: str
    cpu_ms: float = 0.0
    growth_mb: float = 0.0
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f"#{self.index} {self.source} {self.ways}, {self.size:,} bytes: {self.verdict}"
        return "; ".join([f"{told}, {self.cpu_ms:.0f} ms, {self.growth_mb:.1f} MB", *self.faults])


class Report(Struct, frozen=True, kw_only=True):
    """What came of them all. `faults` is empty when all is well."""

    files: int
    verdicts: dict[str, int]
    slowest: Outcome
    largest: Outcome
    faults: list[str]


def made_files() -> dict[str, bytes]:
    """Small recordings of every format that the repository makes itself."""
    return {
        "made.fit": fit(kilometres=0.5),
        "made.gpx": gpx(kilometres=0.5),
        "made.tcx": TCX,
        "made.json": document(),
    }


def files_in(folder: Path) -> dict[str, bytes]:
    """All recordings of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".csv"}


def attempt(sources: dict[str, bytes], seed: int, index: int) -> Outcome:
    """Damage a file as the seed and the number say, or leave it whole while the number is below that of the files."""
    random, names = Random(f"{seed}:{index}"), list(sources)
    name = names[index] if index < len(names) else random.choice(names)
    ways, content = "whole", sources[name]
    if index >= len(names):
        ways, content = damaged(random, content, sources[random.choice(names)])
    told: list[tuple[str, float, float, tuple[str, ...]]] = []
    megabytes = max(1.0, len(content) / 2**20)
    while len(told) < _TRIES and (not told or told[-1][1] > CPU_MS or told[-1][2] > GROWTH_MB):
        told.append(_measured(content))
    verdict, cpu_ms, growth_mb, found = told[0][0], min(one[1] for one in told), min(one[2] for one in told), told[0][3]
    faults = list(found)
    if cpu_ms > CPU_MS * megabytes:
        faults.append("takes too long")
    if growth_mb > GROWTH_MB * megabytes:
        faults.append("takes too much memory")
    return Outcome(
        index=index,
        source=name,
        ways=ways,
        size=len(content),
        verdict=verdict,
        cpu_ms=cpu_ms,
        growth_mb=growth_mb,
        faults=tuple(faults),
    )


def _measured(content: bytes) -> tuple[str, float, float, tuple[str, ...]]:
    """The verdict, milliseconds of CPU, megabytes of growth, and what is wrong."""
    gc.collect()
    before = _forget_peak()
    began = time.process_time()
    faults: Sequence[str] = ()
    reading = None
    try:
        reading = read(content)
        verdict = f"read as {reading.format}"
    except UnreadableRecording as refusal:
        verdict = f"refused as {refusal.code}"
        if not refusal.reason.endswith((".", "recorded")):
            faults = ["the refusal is no sentence"]
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        verdict, faults = "an exception", [repr(error)]
    cpu_ms = (time.process_time() - began) * 1e3
    growth_mb = (_peak() - before) / 2**20
    if reading is not None:
        faults = list(impossible(reading))
    return verdict, cpu_ms, growth_mb, tuple(faults)


def impossible(reading: Reading) -> Iterator[str]:
    """What cannot be about a reading."""
    if not reading.sessions:
        yield "no session"
    for session in reading.sessions:
        yield from _impossible_sums(session)
        yield from _impossible_details(session)
        columns = decode(session.track)
        if len({len(column) for column in columns.values()} | {session.measured.points}) > 1:
            yield "columns differ in length"
        if any(
            abs(columns[name][columns[name] == columns[name]]).max(initial=0.0) > most
            for name, most in _WITHIN
            if name in columns
        ):
            yield "a position is nowhere on Earth"


_WITHIN: Final = ((Column.LAT, 90.0), (Column.LON, 180.0))


def _impossible_sums(session: SessionRead) -> Iterator[str]:
    told, device = session.measured, session.measured.device
    sums = [session.distance_m, session.elapsed_s, session.moving_s, session.elevation_gain_m]
    figures = [told.avg_speed_mps, told.max_speed_mps, told.avg_heart_rate_bpm, told.max_heart_rate_bpm]
    figures += [told.avg_cadence_spm, told.calories_kcal]
    figures += [device.distance_m, device.elapsed_s, device.timer_s, device.ascent_m]
    if any(
        not math.isfinite(value) or value < 0 for value in [*sums, *(value for value in figures if value is not None)]
    ):
        yield f"sums that cannot be: {sums}, {told}"
    if session.moving_s > session.elapsed_s:
        yield f"moving for {session.moving_s} s of {session.elapsed_s} s"
    if (told.avg_heart_rate_bpm or 0) > (told.max_heart_rate_bpm or 0):
        yield "a mean heart rate above its maximum"
    for effort in told.best_efforts:
        if not (effort.elapsed_s > 0 and effort.start_s >= 0 and math.isfinite(effort.elapsed_s + effort.start_s)):
            yield f"an effort that cannot be: {effort}"
    if told.bbox is not None and not (-90 <= told.bbox[0] <= told.bbox[2] <= 90):
        yield f"a box that cannot be: {told.bbox}"


def _impossible_details(session: SessionRead) -> Iterator[str]:
    details = msgspec.json.decode(session.details, type=Details)
    untimed = any(warning.startswith("no-times") for warning in session.measured.warnings)
    for found in (details.splits_km, details.splits_mi):
        if any(min(split.distance_m, split.elapsed_s, split.moving_s, split.elevation_gain_m) < 0 for split in found):
            yield f"a split that cannot be: {found}"
        missing_m = session.distance_m - sum(split.distance_m for split in found)
        untimed_m = session.distance_m * (1.0 if untimed else 0.01)  # up to a hundredth goes unsaid
        rounded_m = 1 + 0.01 * len(found)
        if found and not -rounded_m < missing_m < untimed_m + rounded_m:
            yield f"splits of {sum(split.distance_m for split in found)} m in {session.distance_m} m"


def _forget_peak() -> int:
    """Bytes in memory now; `_peak` tells the most from here on, where Linux lets a process forget its peak."""
    if not _REAL.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (_REAL / "clear_refs").write_text("5")
    return _status("VmRSS:")


def _peak() -> int:
    return _status("VmHWM:") if _REAL.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    line = next(line for line in (_REAL / "status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _child(link: Connection, sources: dict[str, bytes], seed: int, numbers: Sequence[int]) -> None:
    attempt(sources, seed, 0)  # what is loaded with the first file is no growth
    gc.freeze()
    for index in numbers:
        signal.setitimer(signal.ITIMER_PROF, _HANGS_SECONDS)  # the signal ends the process, wherever it is
        link.send(attempt(sources, seed, index))


def outcomes(sources: dict[str, bytes], seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """What becomes of the files of these numbers, read in a child process, and in another one should it die."""
    context = multiprocessing.get_context("spawn")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, sources, seed, numbers), daemon=True)
        child.start()
        theirs.close()
        try:
            while numbers:
                yield ours.recv()
                numbers = numbers[1:]
        except EOFError:
            child.join()
            why = f"the process ended with {child.exitcode}"
            yield Outcome(index=numbers[0], source="", ways="", size=0, verdict="none", faults=(why,))
            numbers = numbers[1:]
        child.join()


def run(sources: dict[str, bytes], seed: int, numbers: Sequence[int]) -> Report:
    """Read them all."""
    found = list(outcomes(sources, seed, numbers))
    return Report(
        files=len(found),
        verdicts=dict(Counter(outcome.verdict for outcome in found)),
        slowest=max(found, key=lambda outcome: outcome.cpu_ms),
        largest=max(found, key=lambda outcome: outcome.growth_mb),
        faults=[str(outcome) for outcome in found if outcome.faults],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="damaged files, after all whole ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one file")
    parser.add_argument("--from", dest="folder", type=Path, default=real_files.FOLDER, help="a folder of recordings")
    given = parser.parse_args()
    sources = files_in(given.folder) if given.folder.exists() else made_files()
    report = run(sources, given.seed, range(given.count + len(sources)) if given.only is None else [given.only])
    told = [f"seed {given.seed}: {report.files:,} files", *(f"{n:7,} {what}" for what, n in report.verdicts.items())]
    told += [
        f"slowest: {report.slowest}",
        f"largest: {report.largest}",
        f"faults: {len(report.faults)}",
        *report.faults,
    ]
    sys.stdout.write("\n".join(told) + "\n")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
