"""Who reads slowly, late or never holds up nobody who logs."""

import os
import re
import subprocess
import sys

import pytest

from infra.processes import child_environ
from workers.prefixed_log import PrefixedLog

LOGS = """
import os, signal, sys
from workers.prefixed_log import PrefixedLog
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
log = PrefixedLog()
for number in range(100_000):
    log("api", f"line {number}")
log.flush(0.2)
os.write(2, b"logged")
sys.stdin.read()
log.flush(10)
log("api", "the end")
log.flush()
"""


def test_lines_are_aligned_after_their_service(capfd: pytest.CaptureFixture[str]) -> None:
    log = PrefixedLog()
    log("api", "one")
    log("projector", "two")
    log.flush()
    assert capfd.readouterr().out == "      api | one\nprojector | two\n"


def test_a_closed_terminal_does_not_stop_the_stopping() -> None:
    code = (
        "import os; from workers.prefixed_log import PrefixedLog; os.close(1);"
        "log = PrefixedLog(); log('api', 'x'); log.flush(); os._exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=child_environ(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (7, b"")


def logging(stdout: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", LOGS]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=child_environ(), stdin=pipe, stdout=stdout, stderr=pipe, text=True)


def test_what_nobody_reads_is_left_out_and_counted_where_it_is_missing() -> None:
    with logging(subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.read(6) == "logged"  # while nobody reads
        told, _ = process.communicate("", timeout=20)
    numbers = [int(number) for number in re.findall(r"^      api \| line (\d+)$", told, re.MULTILINE)]
    gaps = re.findall(r"^    cairn \| (\d+) lines were left out here: nobody read them in time$", told, re.MULTILINE)
    assert numbers == sorted(numbers)
    assert gaps
    assert len(numbers) + sum(map(int, gaps)) == 100_000
    assert told.endswith("      api | the end\n")


def test_a_pipe_that_does_not_wait_gets_every_line_that_is_not_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # by whoever has it too, such as Node.js
    with logging(writer) as process, open(reader, encoding="utf-8") as output:  # noqa: PTH123 - no path
        os.close(writer)
        assert process.stderr is not None
        assert process.stderr.read(6) == "logged"
        assert process.stdin is not None
        process.stdin.close()
        told = output.read()
    numbers = re.findall(r"^      api \| line (\d+)$", told, re.MULTILINE)
    gaps = re.findall(r"^    cairn \| (\d+) lines were left out here", told, re.MULTILINE)
    assert len(numbers) + sum(map(int, gaps)) == 100_000
    assert told.endswith("      api | the end\n")


def test_a_process_ends_whose_terminal_is_held() -> None:
    held, terminal = os.openpty()
    with logging(terminal) as process:
        assert process.stderr is not None
        assert process.stderr.read(6) == "logged"
        process.terminate()  # nobody ever reads the terminal
        process.wait(5)
    assert process.returncode == 0
    os.close(held)
    os.close(terminal)
