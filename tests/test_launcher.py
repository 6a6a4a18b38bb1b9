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
    first = launch(checkout, "up", "--data", "x", cwd=elsewhere)
    made = (checkout / ".venv").resolve()
    expected = f"{['up', '--data', 'x']} {elsewhere} {made} {checkout}/domain/__init__.py\n"
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


RUNS_ON = """
import subprocess, sys
print(sys.prefix, flush=True)
sys.stdin.read()
sys.exit(subprocess.run([sys.executable, "-c", "import pip"]).returncode)
"""


def started(checkout: Path) -> "tuple[subprocess.Popen[str], Path]":
    """One that runs on, and where its packages are; told to, it starts a child that needs one of them."""
    (checkout / "workers" / "cli" / "main.py").write_text(RUNS_ON)
    command, pipe = [sys.executable, str(checkout / "cairn")], subprocess.PIPE
    running = subprocess.Popen(command, env={"PATH": os.defpath}, stdin=pipe, stdout=pipe, text=True)
    assert running.stdout is not None
    environment = Path(running.stdout.readline().strip())
    (checkout / "workers" / "cli" / "main.py").write_text(TELLS)
    return running, environment


def test_what_runs_keeps_its_packages_when_the_lock_changes(checkout: Path) -> None:
    running, environment = started(checkout)
    with running:
        week_ago = time.time() - 8 * 86_400
        os.utime(environment / "cairn-stamp", (week_ago, week_ago))
        (checkout / "requirements.lock").write_text("# nothing still\n")
        launch(checkout)
        assert (checkout / ".venv").resolve() != environment
        running.communicate("", timeout=20)
        assert running.returncode == 0
    (checkout / "requirements.lock").write_text("# nothing at last\n")
    launch(checkout)
    assert not environment.exists()  # nobody runs in it, and nobody asked for it in a week
    assert len(list((checkout / ".venvs").iterdir())) == 2


def test_another_python_gets_packages_of_its_own(checkout: Path) -> None:
    launch(checkout)
    ours = (checkout / ".venv").resolve()
    launch(checkout, python=RUNS_AS.format(given="sys.version_info = (3, 99, 0)"))
    assert (checkout / ".venv").resolve().name.startswith("3.99-")
    again = launch(checkout)
    assert (again.returncode, again.stderr) == (0, "")
    assert (checkout / ".venv").resolve() == ours


def test_an_environment_from_before_makes_way_for_the_link(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    done = launch(checkout)
    assert (done.returncode, done.stderr) == (0, f"{SETTING_UP}\n")
    assert (checkout / ".venv").is_symlink()
    assert len(list((checkout / ".venvs").iterdir())) == 1


def test_a_kill_in_between_does_no_harm(checkout: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, str(checkout / "cairn")], env={"PATH": os.defpath}, stderr=subprocess.DEVNULL
    )
    while not list(checkout.glob(".venvs/*/bin")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (checkout / ".venv").exists()
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
