import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from infra.embedded.places import remove_socket_folder
from infra.embedded.postgres import EmbeddedPostgres, buffers_mib
from infra.faults import Fault
from infra.processes import IN_NAMESPACE, can_drop_root, child_command, child_environ
from tests.servers import running, start, stop
from workers.supervisor import Service, Supervisor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def postmaster(folder: Path) -> int | None:
    try:
        return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):  # the next one takes the last one's file away, and writes its own
        return None


def test_what_was_acked_is_meant_to_be_durable(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",)


def test_a_session_that_does_nothing_in_a_transaction_is_ended(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("30s",)


def test_text_is_unicode_and_sorts_alike_on_every_machine(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = 'cairn'"
        ).fetchone()
    assert row == ("UTF8", "C.UTF-8")


@pytest.mark.parametrize(("gib", "mib"), [(0.25, 128), (2, 512), (4, 1_024), (64, 1_024)])
def test_a_quarter_of_the_memory_at_most_a_gigabyte_is_for_pages(gib: float, mib: int) -> None:
    assert buffers_mib(int(gib * 1024**3)) == mib


def test_the_server_has_so_much_of_this_machine(postgres_url: str) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT setting::int * 8 / 1024 FROM pg_settings WHERE name = 'shared_buffers'")
        assert 128 <= row.fetchone()[0] <= buffers_mib(machine)  # type: ignore[index]  # less in a container


def test_only_the_owner_may_use_the_socket(folder: Path) -> None:
    with running(EmbeddedPostgres, folder):
        assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "run" / ".s.PGSQL.5432").stat().st_mode) == 0o700


def test_why_it_cannot_be_reached_is_told_after_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(EmbeddedPostgres, folder) as server:
        monkeypatch.setenv("PGREQUIREAUTH", "scram-sha-256")
        assert not server.is_ready()
        assert caplog.text == ""
        monkeypatch.setattr("infra.embedded.postgres._QUIET_SECONDS", 0.0)
        assert not EmbeddedPostgres(folder).is_ready()
        assert "Postgres takes no connection yet: " in caplog.text
        assert "scram-sha-256" in caplog.text


async def test_rows_survive_a_killed_server_which_is_started_again(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.make()
    supervisor = Supervisor(lambda _name, _line: None)
    service = Service("postgres", server.argv, child_environ(), server.is_ready, server.stop_signal)
    await supervisor.start(service)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
        killed = postmaster(folder)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while postmaster(folder) in {killed, None} or not await asyncio.to_thread(server.is_ready):
            await asyncio.sleep(0.05)
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    finally:
        await supervisor.stop()


def test_a_start_cut_off_while_the_folder_is_made_begins_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.unfinished").mkdir()
    (tmp_path / "postgres.unfinished" / "half").write_text("written")
    with running(EmbeddedPostgres, tmp_path) as server:
        assert server.is_ready()
    assert not (tmp_path / "postgres.unfinished").exists()


@pytest.mark.parametrize("left", ["{stranger}\n{data}/postgres\n1\n5432\n{data}/run\n\n  1 1\n", ""])
def test_what_a_power_cut_left_does_not_stop_the_next_start_whosever_its_number_is(tmp_path: Path, left: str) -> None:
    server = EmbeddedPostgres(tmp_path)
    stop(server, start(server))
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as stranger:
        for file in (tmp_path / "postgres" / "postmaster.pid", tmp_path / "run" / ".s.PGSQL.5432.lock"):
            file.write_text(left.format(stranger=stranger.pid, data=tmp_path))
        server.forget_dead()
        stop(server, start(server))
        stranger.kill()


def test_the_files_of_a_server_that_runs_stay(tmp_path: Path) -> None:
    with running(EmbeddedPostgres, tmp_path):
        EmbeddedPostgres(tmp_path).forget_dead()
        assert postmaster(tmp_path) is not None
        assert (tmp_path / "run" / ".s.PGSQL.5432.lock").exists()


def test_a_database_that_is_gone_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with running(EmbeddedPostgres, tmp_path):
        pass
    (tmp_path / "postgres").rename(tmp_path / "elsewhere")
    with pytest.raises(Fault, match=rf"is gone: there is no {tmp_path}/postgres.*remove {tmp_path}/postgres\.made"):
        EmbeddedPostgres(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "postgres")
    with running(EmbeddedPostgres, tmp_path) as server:
        assert server.is_ready()


def test_a_folder_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(Fault, match="was made by Postgres 17, this is Postgres 18"):
        EmbeddedPostgres(tmp_path).make()


def test_a_folder_that_is_not_of_postgres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(Fault, match="is not a data folder of Postgres"):
        EmbeddedPostgres(tmp_path).make()


@pytest.mark.parametrize("name", ["a, 'b' %c", "deep" * 30])
@pytest.mark.usefixtures("place_for_sockets")
def test_any_data_folder_will_do(tmp_path: Path, name: str) -> None:
    with running(EmbeddedPostgres, tmp_path / name) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    remove_socket_folder(tmp_path / name)
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


STARTS = """
import os, sys
from pathlib import Path
from infra.embedded.postgres import EmbeddedPostgres
from tests.servers import running
with running(EmbeddedPostgres, Path(sys.argv[1])) as server:
    print(os.geteuid() == 0, server.argv[server.argv.index("infra.child") + 3])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs every test here as one")
@pytest.mark.skipif(not can_drop_root(), reason="no user namespaces here to be an ordinary user in")
def test_an_ordinary_user_runs_it_as_itself(tmp_path: Path) -> None:
    argv = child_command([sys.executable, "-c", STARTS, str(tmp_path)], on_death=signal.SIGKILL, identity=IN_NAMESPACE)
    assert (
        subprocess.run(argv, env=child_environ(), stdout=subprocess.PIPE, text=True, check=True).stdout == "False -\n"
    )


def test_a_server_started_again_has_its_rows(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    for expected in ([], [(1,)]):
        process = start(server)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS stone (id int)")
            assert connection.execute("SELECT id FROM stone").fetchall() == expected
            connection.execute("INSERT INTO stone VALUES (1)")
        stop(server, process)
        assert process.returncode == 0
