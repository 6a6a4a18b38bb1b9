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
