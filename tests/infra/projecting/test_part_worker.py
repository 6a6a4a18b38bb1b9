"""A rebuild's worker process takes one part after the other."""

import subprocess
import sys

import pytest

_PART = """
import gc
from pathlib import Path
from infra.projecting.part_worker import give_back

gc.disable()


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20


def part():
    rows = {}
    for n in range(200_000):
        key = (n, str(n), float(n))
        rows[key] = (bytes(300), bytes(700), [n] * 3)
        rows[str(n), n] = bytes(600)
    return resident()


before = resident()
during = part()
give_back()
print(before, during, resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and musl and macOS have no malloc_trim")
def test_what_a_part_had_is_given_back_before_the_next_one() -> None:
    told = subprocess.run([sys.executable, "-c", _PART], capture_output=True, text=True, check=True).stdout
    before, during, after = map(int, told.split())
    assert during - before > 200
    assert after - before < 20


_RESTING = """
import os, signal, threading, time
from infra.projecting.part_worker import Rests

class Reader:
    taken_in = 0

    def take_in(self):
        self.taken_in += 1

reader, rests = Reader(), Rests()
rests.take(reader)
print(reader.taken_in)
os.kill(os.getpid(), signal.SIGTSTP)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGCONT)).start()
began = time.monotonic()
rests.take(reader)
print(reader.taken_in > 0, time.monotonic() - began > 0.2)
"""


def test_a_worker_rests_when_it_is_told_to_with_nothing_open() -> None:
    told = subprocess.run([sys.executable, "-c", _RESTING], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["0", "True", "True"]


_PAGES = """
import os, resource, subprocess, sys, time
from infra.projecting.part_worker import Progress

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
progress = Progress(2**40, gentle=sys.argv[1] == "gentle")
for _ in range(200):
    until = time.process_time() + 0.002
    while time.process_time() < until:
        pass
    progress.page(128, 0)
busy.kill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pins a process to a core")
@pytest.mark.parametrize("kind", ["gentle", "not"])
def test_a_gentle_worker_rests_where_others_want_its_core(kind: str) -> None:
    told = subprocess.run([sys.executable, "-c", _PAGES, kind], capture_output=True, text=True, check=True).stdout
    rests = int(told.splitlines()[-1])  # and a few other waits
    assert rests >= 30 if kind == "gentle" else rests < 30
