"""The launcher, in checkouts of its own whose environment holds no packages: no network is needed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[1] / "cairn"
SETTING_UP = "cairn: setting up Python packages (once) ..."
TELLS = """
import os, sys
import domain
print(sys.argv[1:], os.getcwd(), sys.prefix, domain.__file__)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "check out"
    (folder / "workers" / "cli").mkdir(parents=True)
    (folder / "workers" / "cli" / "main.py").write_text(TELLS)
    (folder / "domain").mkdir()
    (folder / "domain" / "__init__.py").touch()
    (folder / "requirements.lock").write_text("# nothing\n")
    shutil.copy(LAUNCHER, folder / "cairn")
    return folder


def launch(
    checkout: Path, *arguments: str, cwd: Path | None = None, python: str = ""
) -> subprocess.CompletedProcess[str]:
    """Without uv, which not everybody has."""
    command = [sys.executable, "-c", python] if python else [sys.executable]
    return subprocess.run(
        [*command, str(checkout / "cairn"), *arguments],
        env={"PATH": os.defpath, "HOME": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
    )


def test_it_sets_up_once_and_runs_our_packages_where_the_user_is(checkout: Path, tmp_path: Path) -> None:
    """And once more when the lock has changed, also when two come at the same time. What was cut off: below."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "domain").mkdir(parents=True)  # a folder of the user's, with the name of one of our packages
    (elsewhere / "domain" / "__init__.py").touch()
    expected = f"{['up', '--data', 'x']} {elsewhere} {checkout}/.venv {checkout}/domain/__init__.py\n"
    first = launch(checkout, "up", "--data", "x", cwd=elsewhere)
    assert (first.returncode, first.stdout) == (0, expected)
    assert first.stderr.splitlines() == [SETTING_UP]
    second = launch(checkout, "up", "--data", "x", cwd=elsewhere)
    assert (second.returncode, second.stdout, second.stderr) == (0, expected, "")

    (checkout / "requirements.lock").write_text("# nothing still\n")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: launch(checkout), range(2)))
    assert [each.returncode for each in done] == [0, 0]
    assert sum(SETTING_UP in each.stderr for each in done) == 1
    assert launch(checkout).stderr == ""


def test_a_kill_in_between_does_no_harm(checkout: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, str(checkout / "cairn")], env={"PATH": os.defpath}, stderr=subprocess.DEVNULL
    )
    while not (checkout / ".venv" / "bin").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    done = launch(checkout)  # at once, while the installer of the killed one still writes
    assert (done.returncode, done.stderr) == (0, f"{SETTING_UP}\n")
    assert launch(checkout).stderr == ""
    pip = subprocess.run([checkout / ".venv/bin/python", "-m", "pip", "check"], capture_output=True, check=False)
    assert pip.returncode == 0


def test_packages_that_cannot_be_installed_are_told_with_what_to_do(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text(
        f"nothing @ file:///nowhere/nothing-1-py3-none-any.whl --hash=sha256:{'0' * 64}\n"
    )
    done = launch(checkout)
    assert done.returncode == 1
    assert "/nowhere/nothing-1-py3-none-any.whl" in done.stderr
    assert "cairn: the packages could not be installed (above: why)." in done.stderr
    again = [sys.executable, str(checkout / "cairn")]  # what failed is not taken for done
    environ = {"PATH": os.defpath}
    with subprocess.Popen(again, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"{SETTING_UP}\n"
        os.killpg(process.pid, signal.SIGKILL)  # as it said what is to be seen


RUNS_AS = """
import runpy, sys
sys.argv = sys.argv[1:]
{given}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_older_python_is_told_in_one_line(checkout: Path) -> None:
    done = launch(checkout, python=RUNS_AS.format(given="sys.version_info = (3, 10, 4)"))
    assert done.returncode == 1
    assert done.stderr == "cairn: Python 3.11 or newer is needed, this is 3.10.4: run python3.11 ./cairn\n"


def test_a_python_without_venv_is_told_the_line_that_installs_it(checkout: Path, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'ensurepip is not available' >&2\nexit 1\n")
    bare.chmod(0o755)
    done = launch(checkout, python=RUNS_AS.format(given=f"sys.executable = {str(bare)!r}"))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode == 1
    assert "ensurepip is not available" in done.stderr
    assert done.stderr.endswith(f"this installs it:\n  sudo apt install python{version}-venv\n")


def test_a_checkout_that_cannot_be_written_is_told_in_one_line(checkout: Path) -> None:
    (checkout / ".venv.lock").mkdir()  # root may write everywhere, but not into a folder as if it were a file
    done = launch(checkout)
    assert done.returncode == 1
    assert done.stderr == f"cairn: {checkout}/.venv.lock: Is a directory: can this folder be read and written?\n"
