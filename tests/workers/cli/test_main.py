import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from infra.instance import Instance, announce, hold
from infra.processes import AS_WE_ARE, IN_NAMESPACE, can_drop_root, child_command, child_environ
from infra.secrets import make_secrets
from workers.cli.checks import test_command as command_of_tests

MODULE = (sys.executable, "-P", "-m", "workers.cli.main")


def cairn(
    *arguments: object, command: Sequence[str] = MODULE, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, arguments)],
        env={**child_environ(), **environ},
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
    )


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


def test_help_lists_the_commands_and_a_first_run() -> None:
    told = cairn("--help").stdout
    for part in ("./cairn demo ", "./cairn up ", "  migrate ", "  worker ", "  import ", "  test "):
        assert part in told
    assert "\\b" not in told
    assert "\n  First run:\n" in told


@pytest.mark.parametrize("command", ["up", "demo", "api", "worker", "migrate", "import"])
def test_every_command_takes_a_data_folder(command: str) -> None:
    assert "--data DIRECTORY" in cairn(command, "--help").stdout


def test_a_command_imports_nothing_of_the_others() -> None:
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from workers.cli.main import main; main()"
    imported = cairn("worker", "--help", command=(sys.executable, "-P", "-c", told)).stdout.split()
    assert "workers.cli.worker" in imported
    assert not {"workers.cli.bench", "workers.cli.up", "alembic"} & set(imported)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["upp"], "Did you mean 'up'?"),
        (["up", "--prot", "1"], "'--port'"),
        (["up", "--port", "70000"], "--port"),
        (["worker", "mailer"], "'projector', 'reactor', 'ingest'"),
        (["test", "--static", "tests/domain"], "--static runs no tests"),
    ],
)
def test_a_wrong_command_line_is_told_with_the_right_one(arguments: list[str], told: str) -> None:
    done = cairn(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["api", "worker", "migrate"])
def test_without_an_instance_a_command_says_what_to_do_in_one_line(command: str, tmp_path: Path) -> None:
    done = cairn(command, "--data", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"cairn: DATABASE_URL is not set, and no instance runs in {tmp_path}: start ./cairn up"
    )
    assert done.stderr.count("\n") == 1


def test_an_instance_over_a_postgres_of_ones_own_is_reached_by_what_libpq_takes_from_the_environment(
    database_url: str, tmp_path: Path
) -> None:
    parts = conninfo_to_dict(database_url)
    make_secrets(tmp_path)
    instance = Instance(
        pid=1,
        api_url="http://127.0.0.1:1",
        database_url=f"postgresql:///{parts['dbname']}?user={parts['user']}",
        redis_url="redis://127.0.0.1:1",
        object_store_url=tmp_path.as_uri(),
    )
    with hold(tmp_path):
        announce(tmp_path, instance)
        reached = cairn("events", "stats", "--data", tmp_path, PGHOST=str(parts["host"]), PGPORT=str(parts["port"]))
    assert (reached.returncode, reached.stderr) == (0, "")


def test_the_data_folder_may_come_by_environment(tmp_path: Path) -> None:
    assert f"no instance runs in {tmp_path}:" in cairn("worker", CAIRN_DATA=str(tmp_path)).stderr


def test_a_relative_data_folder_is_below_where_the_user_is(tmp_path: Path) -> None:
    assert f"no instance runs in {tmp_path}/here:" in cairn("worker", "--data", "here", cwd=tmp_path).stderr


def test_an_empty_data_folder_is_not_where_the_user_is(tmp_path: Path) -> None:
    done = cairn("up", "--data", "", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "cairn: --data is empty: name a folder, or leave it out.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["up", "api"])
@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_is_not_all_of_the_machines(tmp_path: Path, command: str, host: str) -> None:
    done = cairn(command, "--host", host, "--data", tmp_path)
    told = "cairn: --host is empty: name an address, 0.0.0.0 for all of this machine's.\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_data_folder_that_cannot_be_named_is_told_in_one_line(tmp_path: Path) -> None:
    done = cairn("up", "--data", tmp_path / "b\udcffd")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"the name of the folder '{tmp_path}/b\\udcffd' is no UTF-8: choose another" in done.stderr
    shell = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = cairn("up", "--data", "here", command=("sh", "-c", shell, "sh", *MODULE), cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the folder that you are in was removed, so that here is nowhere" in done.stderr


def test_a_closed_output_is_not_another_file(tmp_path: Path) -> None:
    shell = f'exec "$@" >&- 2> {tmp_path}/told'
    command, url = ("sh", "-c", shell, "sh", *MODULE), "postgresql:///d?host=/nowhere"
    assert cairn("up", "--data", tmp_path / "d", command=command, DATABASE_URL=url).returncode == 1
    assert "the keys must be given" in (tmp_path / "told").read_text()
    assert (tmp_path / "d" / "lock").read_text().isdigit()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_an_output_that_takes_nothing_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MODULE, "--help"],
            env=dict(child_environ()),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "cairn: what is to be printed cannot be written: No space left on device.\n",
    )


@pytest.mark.parametrize(
    "stuck",
    [
        "main.import_module = wait",  # on the way to a command
        "main.log_level = wait",  # before
    ],
)
def test_ctrl_c_ends_it_without_a_traceback(stuck: str) -> None:
    wait = "def wait(*_, **__): print('here', flush=True); time.sleep(60)"
    told = f"import click, time\nfrom workers.cli import main\n{wait}\n{stuck}\nmain.main()"
    command = [sys.executable, "-P", "-c", told, "queue"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=child_environ(), text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr.read().strip()) == (130, "")


def test_a_wrong_setting_is_told_in_one_line(tmp_path: Path) -> None:
    done = cairn("up", "--data", tmp_path, DATABASE_URL="mysql://h/d")
    assert (done.returncode, done.stderr) == (
        1,
        "cairn: DATABASE_URL must begin with postgresql:// or postgres://.\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_ones_own_that_does_not_answer_is_told_before_anything_starts(tmp_path: Path, port: int) -> None:
    key = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
    done = cairn(
        *("up", "--port", port, "--data", tmp_path),
        DATABASE_URL="postgresql:///d?host=/nowhere",
        CAIRN_MASTER_KEY=key,
        CAIRN_TOKEN_KEYS=f"k:{key}",
        CAIRN_CURSOR_KEY=key,
    )
    assert done.returncode == 1
    assert "cairn: the Postgres of DATABASE_URL does not answer:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "valkey").exists()


def test_keys_are_never_made_for_a_database_of_ones_own(tmp_path: Path, port: int) -> None:
    done = cairn("up", "--port", port, "--data", tmp_path, DATABASE_URL="postgresql:///d?host=/nowhere")
    assert done.returncode == 1
    assert "the keys must be given: set CAIRN_MASTER_KEY, CAIRN_TOKEN_KEYS, CAIRN_CURSOR_KEY" in done.stderr
    assert not (tmp_path / "secrets").exists()


def test_a_database_without_its_secrets_is_refused(tmp_path: Path, port: int) -> None:
    (tmp_path / "postgres").mkdir()
    done = cairn("up", "--port", port, "--data", tmp_path)
    assert done.returncode == 1
    assert f"cairn: {tmp_path}/secrets is missing, and the data there was made with it: put back" in done.stderr
    assert not (tmp_path / "secrets").exists()


@pytest.mark.parametrize("inside", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("no folder")
    done = cairn("up", "--data", tmp_path / inside)
    assert done.returncode in {1, 2}
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not can_drop_root(), reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    identity = IN_NAMESPACE if os.geteuid() == 0 else AS_WE_ARE
    done = cairn("up", "--data", tmp_path, command=child_command(MODULE, on_death=signal.SIGKILL, identity=identity))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written by this user: choose another folder with --data." in done.stderr


def test_checks_pass_on_what_failed() -> None:
    done = cairn("test", "--no-such-flag")
    assert done.returncode == 4
    assert "pytest --no-such-flag failed (exit code 4)" in done.stderr


def test_what_is_static_is_checked_without_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(command: Sequence[Path], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[0].name)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(subprocess, "run", run)
    for arguments, expected in (
        (["--static"], {"ruff", "lint-imports", "deptry", "vulture", "mypy"}),
        (["-k", "goal"], {"pytest"}),
        ([], {"ruff", "lint-imports", "deptry", "vulture", "mypy", "pytest"}),
    ):
        ran.clear()
        assert CliRunner().invoke(command_of_tests, arguments).exit_code == 0
        assert set(ran) == expected


def test_tests_run_on_embedded_servers_whatever_is_said_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Mapping[str, str]] = []

    def run(_command: Sequence[Path], *, env: Mapping[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        given.append(env)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(subprocess, "run", run)
    CliRunner().invoke(command_of_tests, ["-k", "goal"], env={"PGSERVICE": "work", "OTHER": "stays"})
    assert [("PGSERVICE" in env, env["OTHER"]) for env in given] == [(False, "stays")]
