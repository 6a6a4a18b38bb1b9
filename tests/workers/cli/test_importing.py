"""`cairn import` where the server and the files are not as one would like."""

import asyncio
import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from api.client import Pacing
from infra.processes import child_environ
from tests.network import Answer, Request, network, tokens
from tests.workers.cli.import_server import ACCOUNT, READY, RUN_1, RUN_2, SESSION, activity, run, server

pytestmark = pytest.mark.usefixtures("data")


def runs(tmp_path: Path, count: int) -> Path:
    """A folder of so many files, numbered from 0 in their names and bytes."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:0{len(str(count - 1))}}.fit").write_bytes(b"bytes %d" % number)
    return folder


async def test_a_file_of_several_sessions_is_shown_with_all_of_them(run_file: Path) -> None:
    script = server(
        lambda _: Answer(202, {"status": "ready", "activities": [RUN_1, RUN_2]}),
        **{
            RUN_1: Answer(200, activity(RUN_1, "swimming")),
            RUN_2: Answer(200, activity(RUN_2, "cycling", "teleport: 3 points")),
        },
    )
    async with network(script) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    assert lines[1] == [
        "run",
        "[evening].fit",
        "imported",
        "swimming",
        "1.23",
        "km",
        "1:02:05",
        "session",
        "1",
        "of",
        "2",
    ]
    assert lines[2] == ["cycling", "1.23", "km", "1:02:05", "session", "2", "of", "2,", "teleport"]
    assert lines[-1] == ["1", "imported"]


async def test_what_says_nothing_about_a_file_leaves_it_unsent(run_file: Path) -> None:
    script = server(lambda _: Answer(401, {"code": "token-refused", "detail": "This session is ended."}))
    async with network(script) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--json")
    assert done.exit_code == 1
    assert [(row["file"], row["verdict"], row["note"]) for row in json.loads(done.stdout)["files"]] == [
        (str(run_file), "not sent", "This session is ended.")
    ]


async def test_a_refused_file_is_a_verdict(run_file: Path) -> None:
    refusal = Answer(415, {"code": "recording-format-unknown", "detail": "This is no recording."})
    async with network(server(lambda _: refusal)) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--json")
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (0, {"failed": 1})


async def test_a_read_model_that_is_behind_is_waited_for(run_file: Path) -> None:
    script, asked = server(lambda _: Answer(202, {"status": "ready", "activities": [RUN_1]})), 0

    def behind(request: Request) -> Answer:
        nonlocal asked
        if not request.line.endswith(RUN_1):
            return script(request)
        asked += 1
        return Answer(404, {"code": "not-found"}) if asked < 3 else Answer(200, activity(RUN_1, "running"))

    async with network(behind) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--json")
    assert json.loads(done.stdout)["files"][0]["activities"][0]["sport"] == "running"


async def test_the_same_bytes_get_the_same_id_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.gpx").write_bytes(b"<gpx/>")
    (tmp_path / "b.gpx.gz").write_bytes(gzip.compress(b"<gpx/>"))
    (tmp_path / "c.GPX").write_bytes(b"<gpx />")
    failed = Answer(202, {"status": "failed", "problem": {"detail": "no points"}})
    async with network(server(lambda _: failed)) as (url, asked):
        done = await run(tmp_path, *ACCOUNT, "--server", url, "--json")
    sent = {request.body: request.line for request in asked if request.line.startswith("PUT")}
    assert sent.keys() == {b"<gpx/>", b"<gpx />"}
    assert len({request.line for request in asked if request.line.startswith("PUT")}) == 2
    assert json.loads(done.stdout)["counts"] == {"failed": 2, "duplicate": 1}


async def test_a_file_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "cut.fit.gz").write_bytes(gzip.compress(b"bytes")[:-9])
    (tmp_path / "run.fit").write_bytes(b"bytes")
    failed = Answer(202, {"status": "failed", "problem": {"detail": "no points"}})
    async with network(server(lambda _: failed)) as (url, _):
        done = await run(tmp_path, *ACCOUNT, "--server", url)
    assert done.exit_code == 1
    assert "cannot be read" in next(line for line in done.stdout.splitlines() if line.startswith("cut.fit.gz"))
    assert done.stdout.splitlines()[-1] == "1 failed, 1 not opened"
    assert sorted(line.partition(":")[0] for line in done.stderr.splitlines()) == ["failed", "not opened"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always UTF-8")
async def test_a_file_name_that_is_no_text_is_printed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"")
    async with network(lambda _: tokens(1)) as (url, _):
        done = await run(tmp_path, *ACCOUNT, "--server", url)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "1 skipped")
    assert "caf\ufffd.txt" in done.stdout


async def test_a_file_name_cannot_tell_the_terminal_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a\n\x1b[31m.txt").write_bytes(b"")
    (tmp_path / "._b.fit").write_bytes(b"what macOS keeps of a file")
    async with network(lambda _: tokens(1)) as (url, _):
        done = await run(tmp_path, *ACCOUNT, "--server", url)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "1 skipped")
    assert "a\ufffd\ufffd[31m.txt" in done.stdout
    assert "\x1b" not in done.output


async def test_a_zip_that_cannot_be_opened_is_no_success(tmp_path: Path, run_file: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"half a zip")
    async with network(server(lambda _: Answer(202, READY))) as (url, _):
        done = await run(tmp_path / "export.zip", run_file, *ACCOUNT, "--server", url)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "1 imported, 1 not opened")


@pytest.mark.parametrize(("matched", "told"), [("bytes", "the same bytes as"), ("track", "the same run as")])
async def test_a_duplicate_is_told_by_what_matched_and_by_the_file_that_it_is(
    tmp_path: Path, matched: str, told: str
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("a.fit", "b.gpx", "c.tcx"):
        (folder / name).write_bytes(name.encode())
    same = {"status": "duplicate", "matched": matched, "activities": []}

    def upload(request: Request) -> Answer:
        if request.body == b"a.fit":
            return Answer(202, {"status": "ready", "activities": [RUN_1]})
        return Answer(202, {**same, "duplicate_of": RUN_1 if request.body == b"b.gpx" else RUN_2})

    script = server(upload, **{RUN_1: Answer(200, activity(RUN_1, "running"))})
    arguments = (folder, *ACCOUNT, "--json", "--journal", tmp_path / "journal")
    for _ in range(2):  # the second time by the journal
        async with network(script) as (url, _asked):
            done = await run(*arguments, "--server", url)
        notes = [row["note"] for row in json.loads(done.stdout)["files"]]
        assert notes[1:] == [f"{told} {folder / 'a.fit'}", f"{told} {RUN_2}"]


async def test_what_was_cut_off_goes_on_and_what_is_done_is_not_sent_again(tmp_path: Path) -> None:
    folder, journal = runs(tmp_path, 3), tmp_path / "journal"

    def one_is_late(request: Request) -> Answer:
        late = request.body == b"bytes 1"
        return Answer(400, {"code": "late"}) if late else Answer(202, READY)

    async with network(server(one_is_late)) as (url, _):
        first = await run(folder, *ACCOUNT, "--server", url, "--json", "--journal", journal)
    assert (first.exit_code, json.loads(first.stdout)["counts"]) == (1, {"imported": 2, "not sent": 1})
    script = server(lambda _: Answer(202, READY))
    async with network(script) as (url, asked):
        again = await run(folder, *ACCOUNT, "--server", url, "--json", "--journal", journal)
    assert json.loads(again.stdout)["counts"] == {"imported": 1, "already there": 2}
    assert [request.body for request in asked if request.line.startswith("PUT")] == [b"bytes 1"]


async def test_bytes_that_the_server_has_are_not_sent_again(run_file: Path) -> None:
    def answer(request: Request) -> Answer:
        known = {"status": "failed", "problem": {"detail": "no points"}}
        return Answer(200, known) if request.line.endswith("/upload") else tokens(1)

    async with network(answer) as (url, asked):
        done = await run(run_file, *ACCOUNT, "--server", url, "--json")
    assert json.loads(done.stdout)["files"][0]["note"] == "no points"
    assert not [request for request in asked if request.line.startswith("PUT")]


@pytest.mark.parametrize("code", ["processing-failed", "body-damaged", "session-ended", "upload-dropped"])
@pytest.mark.parametrize("is_found", [True, False])
async def test_what_failed_in_passing_is_sent_once_more_and_is_not_done_when_it_fails_again(
    tmp_path: Path, run_file: Path, code: str, *, is_found: bool
) -> None:
    failed = {"status": "failed", "problem": {"code": code, "detail": "Send it again."}}
    found = Answer(200, failed) if is_found else Answer(404, {"code": "not-found"})
    arguments = (run_file, *ACCOUNT, "--json", "--journal", tmp_path / "journal", "--server")
    async with network(server(lambda _: Answer(202, failed), upload=found)) as (url, asked):
        done = await run(*arguments, url)
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (1, {"not sent": 1})
    assert [one.line.split()[0] for one in asked].count("PUT") == (1 if is_found else 2)
    async with network(server(lambda _: Answer(202, READY), upload=Answer(200, failed))) as (url, _):
        done = await run(*arguments, url)
    assert json.loads(done.stdout)["counts"] == {"imported": 1}


async def test_of_a_long_list_what_asks_for_a_look_is_shown_and_the_report_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.cli.importing.report._MOST_ROWS", 5)
    folder = runs(tmp_path, 9)

    def one_is_bad(request: Request) -> Answer:
        bad = request.body == b"bytes 7"
        return Answer(422, {"code": "recording-empty", "detail": "empty"}) if bad else Answer(202, READY)

    async with network(server(one_is_bad)) as (url, _):
        done = await run(folder, *ACCOUNT, "--server", url, "--report", tmp_path / "report.csv")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:2]] == [["7.fit", "failed"]]
    assert lines[2] == "8 more files are not shown: --report FILE has them all."
    assert lines[3].startswith("failed: no run could be read")
    assert lines[4:] == ["1 failed, 8 imported"]
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 10


async def test_a_report_that_cannot_be_written_is_found_out_before_anything_is_sent(
    tmp_path: Path, run_file: Path
) -> None:
    async with network(server(lambda _: Answer(202, READY))) as (url, asked):
        done = await run(run_file, *ACCOUNT, "--server", url, "--report", tmp_path / "nowhere" / "report.csv")
    assert "report.csv cannot be written" in str(done.exception)
    assert not asked


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
async def test_a_report_that_finds_no_room_is_told_all_the_same(run_file: Path) -> None:
    async with network(server(lambda _: Answer(202, READY))) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--report", "/dev/full")
    assert "/dev/full cannot be written" in str(done.exception)
    assert done.stdout.splitlines()[-1] == "1 imported"


async def test_a_report_takes_the_place_of_the_last_one(tmp_path: Path, run_file: Path) -> None:
    report = tmp_path / "report.csv"
    report.write_text("a longer report\n" * 100)
    async with network(server(lambda _: Answer(202, READY))) as (url, _):
        await run(run_file, *ACCOUNT, "--server", url, "--report", report)
    assert [row["verdict"] for row in csv.DictReader(report.read_text().splitlines())] == ["imported"]


@pytest.mark.parametrize("first_is_there", [True, False])
async def test_what_was_a_duplicate_of_a_run_that_is_deleted_by_now_is_sent_anew(
    run_file: Path, *, first_is_there: bool
) -> None:
    placed: list[str] = []

    def answer(request: Request) -> Answer:
        method, path = request.line.split(" ")
        if path.startswith("/v1/sessions"):
            return SESSION
        if method == "PUT":
            placed.append(path)
            return Answer(202, {"status": "ready", "activities": [RUN_2]})
        if path.endswith("/upload") and not placed and RUN_1 not in path:
            placed.append("")  # of the first id, the server knows this much
            return Answer(200, {"status": "duplicate", "duplicate_of": RUN_1, "matched": "track", "activities": []})
        there = {RUN_2} | ({RUN_1} if first_is_there else set())
        found = path.rpartition("/")[2]
        return Answer(200, activity(found, "running")) if found in there else Answer(404, {"code": "not-found"})

    async with network(answer) as (url, _):
        done = await run(run_file, *ACCOUNT, "--server", url, "--json")
    counts = json.loads(done.stdout)["counts"]
    assert (counts, len(placed)) == (({"duplicate": 1}, 1) if first_is_there else ({"imported": 1}, 2))


async def test_what_the_journal_has_and_the_account_has_not_is_looked_at_again(tmp_path: Path) -> None:
    folder, there = tmp_path / "runs", [RUN_1]
    folder.mkdir()
    for name in ("a.fit", "b.fit"):
        (folder / name).write_bytes(name.encode())

    def upload(request: Request) -> Answer:
        return Answer(202, {"status": "ready", "activities": [RUN_1 if request.body == b"a.fit" else RUN_2]})

    script = server(upload, **{one: Answer(200, activity(one, "running")) for one in (RUN_1, RUN_2)})

    def answer(request: Request) -> Answer:
        if "/activities?limit=100" not in request.line:
            return script(request)
        last = "cursor" in request.line  # there are two pages
        items = [{"activity_id": one} for one in there] if last else []
        return Answer(200, {"items": items, "next_cursor": None if last else "next"})

    arguments = (folder, *ACCOUNT, "--json", "--journal", tmp_path / "journal")
    sent = []
    for expected in ({"imported": 2}, {"already there": 1, "imported": 1}):  # a backup without b was put back
        async with network(answer) as (url, asked):
            done = await run(*arguments, "--server", url)
        assert json.loads(done.stdout)["counts"] == expected
        sent.append(sorted(request.body for request in asked if request.line.startswith("PUT")))
    assert sent == [[b"a.fit", b"b.fit"], [b"b.fit"]]


async def test_once_a_server_is_away_the_rest_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.cli.importing.command.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("workers.cli.importing.running._ASKED_SECONDS", 0.2)
    folder = runs(tmp_path, 40)
    is_dead = False

    def dies(request: Request) -> Answer | None:
        nonlocal is_dead
        is_dead = is_dead or "/upload" in request.line
        return None if is_dead else SESSION

    async with network(dies) as (url, asked):
        done = await run(folder, *ACCOUNT, "--server", url, "--json")
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (1, {"not sent": 40})
    assert json.loads(done.stdout)["files"][-1]["note"] == "the server does not answer any more"
    assert len({request.line for request in asked}) < 12


@pytest.mark.parametrize("left", [[RUN_2], []])
async def test_what_a_duplicate_of_a_file_of_several_sessions_is_of_is_known_by_its_sessions(
    tmp_path: Path, run_file: Path, left: list[str]
) -> None:
    first, there = "33333333-3333-4333-8333-333333333333", [RUN_1, RUN_2]
    same = {"status": "duplicate", "matched": "bytes", "duplicate_of": first, "activities": []}
    script = server(lambda _: Answer(202, same))

    def answer(request: Request) -> Answer:
        if "/activities?limit=100" in request.line:
            return Answer(200, {"items": [{"activity_id": one} for one in there], "next_cursor": None})
        if request.line.endswith(f"{first}/upload"):
            return Answer(200, {"status": "ready", "activities": [RUN_1, RUN_2]})
        return script(request)

    asks = []
    for _ in range(2):
        async with network(answer) as (url, asked):
            done = await run(run_file, *ACCOUNT, "--server", url, "--json", "--journal", tmp_path / "journal")
        assert json.loads(done.stdout)["counts"] == {"duplicate": 1}
        asks.append([request.line for request in asked if "/upload" in request.line])
        there = left
    assert asks[0]
    assert bool(asks[1]) is not bool(left)


@pytest.mark.parametrize(
    ("in_the_way", "counts"), [([1], {"imported": 5, "not sent": 1}), ([1, 2, 3, 4], {"imported": 1, "not sent": 5})]
)
async def test_one_file_that_does_not_get_through_is_passed_over_and_many_in_a_row_are_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_way: list[int], counts: dict[str, int]
) -> None:
    monkeypatch.setattr("workers.cli.importing.command.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("workers.cli.importing.command.WATCHED", Pacing(first_seconds=0.05, longest_seconds=0.05))
    monkeypatch.setattr("workers.cli.importing.running._MOST_IN_VAIN", 3)
    folder = runs(tmp_path, 6)

    def upload(request: Request) -> Answer:
        return Answer(502, {}) if int(request.body.removeprefix(b"bytes ")) in in_the_way else Answer(202, READY)

    script = server(upload, me=Answer(200, {"time_zone": "Europe/Berlin"}))
    async with network(script) as (url, _):
        done = await run(folder, *ACCOUNT, "--server", url, "--json", "--jobs", "1")
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (1, counts)


async def test_a_sport_that_is_given_is_that_of_recordings_of_which_no_export_tells_it(run_file: Path) -> None:
    async with network(server(lambda _: Answer(202, READY))) as (url, asked):
        await run(run_file, *ACCOUNT, "--server", url, "--sport", "hiking")
    sent = next(request.line.split(" ")[1] for request in asked if request.line.startswith("PUT"))
    assert parse_qs(urlsplit(sent).query) == {"sport": ["hiking"]}


async def test_ctrl_c_ends_it_and_a_second_one_in_any_case(run_file: Path) -> None:
    stuck = "def items(*_): time.sleep(600); yield"  # as on a disk of the network that does not answer
    command = f"import time, workers.cli.importing.command as one\n{stuck}\none.items = items; one.import_command()"
    async with network(server(lambda _: Answer(202, READY))) as (url, asked):
        arguments = [sys.executable, "-P", "-c", command, str(run_file), *ACCOUNT, "--server", url]
        process = await asyncio.create_subprocess_exec(*arguments, env=dict(child_environ()), stderr=subprocess.PIPE)
        async with asyncio.timeout(60):
            while not asked:
                await asyncio.sleep(0.1)
            ends_at = time.monotonic() + 1  # it is stuck by then
            while process.returncode is None:
                if time.monotonic() > ends_at:
                    process.send_signal(signal.SIGINT)
                    ends_at = time.monotonic() + 2
                await asyncio.sleep(0.1)
        assert b"Traceback" not in await process.stderr.read()  # type: ignore[union-attr]
    assert process.returncode == -signal.SIGINT
