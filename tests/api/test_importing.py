"""`cairn import` of exports, against the real API with its ingest and projections."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import click.testing
import pytest

from api.client import Client
from tests import recordings
from tests.exports import garmin, runkeeper, strava, zipped
from workers.cli.importing.command import import_command

PASSWORD = "a long password"


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A folder with an export of each service."""
    folder = tmp_path / "exports"
    folder.mkdir()
    for name, files in (("strava", strava()), ("garmin", garmin()), ("runkeeper", runkeeper())):
        (folder / f"{name}.zip").write_bytes(zipped(files))
    return folder


async def run(path: Path, url: str, email: str, journal: Path, *more: str) -> Any:
    """The command's report."""
    account = ("--email", email, "--password", PASSWORD, "--server", url, "--journal", str(journal))
    arguments = [str(path), *account, "--json", *more]
    done = await asyncio.to_thread(click.testing.CliRunner().invoke, import_command, arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def shown(client: Client) -> dict[str, tuple[str, str, str]]:
    """Sport, notes and visibility by title."""
    ids = [card["activity_id"] for card in await client.activities(client.user_id)]
    found = [await client.activity(activity_id) for activity_id in ids]
    return {one["title"]: (one["sport"], one["notes"], one["visibility"]) for one in found}


async def test_exports_keep_titles_sports_and_notes_and_a_second_run_changes_nothing(
    served: str, exports: Path, tmp_path: Path
) -> None:
    email, journal, report = f"anna-{uuid4().hex}@example.com", tmp_path / "journal", tmp_path / "report.csv"
    first = await run(exports, served, email, journal, "--visibility", "private", "--report", str(report))
    assert first["counts"] == {"imported": 8, "skipped": 4}
    assert first["others"] == 2
    assert len(report.read_text().splitlines()) == 1 + 12
    assert not any("notes" in seen for row in first["files"] for seen in row.get("activities", ()))
    async with Client(served) as anna:
        await anna.sign_in(email, PASSWORD)
        before = await shown(anna)
        assert (
            before.items()
            >= {
                'Round the "park", twice': ("running", "Rain,\nand new shoes.", "private"),
                "To the lake": ("hiking", "", "private"),
                "Canal": ("cycling", 'Easy, with "strides"', "private"),
                "Berlin Trail": ("running", "Mud.", "private"),
                "Berlin Gravel": ("cycling", "", "private"),
            }.items()
        )
        edited = next(one for one in await anna.activities(anna.user_id) if one["title"] == "Canal")["activity_id"]
        await anna.edit(edited, title="The canal", notes="As I remember it.")
        for known in (journal, tmp_path / "another journal"):
            again = await run(exports, served, email, known)
            assert again["counts"] == {"already there": 8, "skipped": 4}
            assert await shown(anna) == {
                **{title: words for title, words in before.items() if title != "Canal"},
                "The canal": ("cycling", "As I remember it.", "private"),
            }


async def test_notes_that_a_cut_off_run_left_out_are_brought_by_the_next(
    served: str, exports: Path, tmp_path: Path
) -> None:
    email = f"anna-{uuid4().hex}@example.com"
    await run(exports, served, email, tmp_path / "journal")
    async with Client(served) as anna:
        await anna.sign_in(email, PASSWORD)
        cards = await anna.activities(anna.user_id)
        canal = next(one["activity_id"] for one in cards if one["title"] == "Canal")
        await anna.edit(canal, notes="")  # as when it was cut off before the notes, and before the journal
        await _until_noted(anna, canal, "")  # the next run must not see it as it was before
        await run(exports, served, email, tmp_path / "another journal")
        await _until_noted(anna, canal, 'Easy, with "strides"')


async def test_the_better_recording_of_a_run_comes_once_the_first_is_deleted(served: str, tmp_path: Path) -> None:
    email = f"anna-{uuid4().hex}@example.com"
    for name, body in (("a.gpx", recordings.gpx()), ("b.fit", recordings.fit())):
        (tmp_path / name).write_bytes(body)
    for name, verdict in (("a.gpx", "imported"), ("b.fit", "duplicate"), ("b.fit", "duplicate")):
        assert (await run(tmp_path / name, served, email, tmp_path / "journal"))["counts"] == {verdict: 1}
    async with Client(served) as anna:
        await anna.sign_in(email, PASSWORD)
        (card,) = await anna.activities(anna.user_id)
        await anna.command("DELETE", f"/activities/{card['activity_id']}", b"", "")
        while await anna.activities(anna.user_id):
            await asyncio.sleep(0.1)
        for verdict, known in (("imported", "journal"), ("already there", "journal"), ("already there", "another")):
            assert (await run(tmp_path / "b.fit", served, email, tmp_path / known))["counts"] == {verdict: 1}
        assert len(await anna.activities(anna.user_id)) == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC"])
async def test_an_account_is_opened_in_the_zone_of_this_machine_unless_nobody_lives_there(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    email = f"anna-{uuid4().hex}@example.com"
    (tmp_path / "a.gpx").write_bytes(recordings.gpx())
    for _ in range(2):
        told = await run(tmp_path / "a.gpx", served, email, tmp_path / "journal")
        assert bool(told["remarks"]) is (zone == "UTC")
    async with Client(served) as anna:
        await anna.sign_in(email, PASSWORD)
        assert (await anna.me())["time_zone"] == (None if zone == "UTC" else zone)


async def _until_noted(runner: Client, activity_id: str, notes: str) -> None:
    """On a busy machine the read models may be later than a read waits for them."""
    async with asyncio.timeout(60):
        while (await runner.activity(activity_id))["notes"] != notes:
            await asyncio.sleep(0.1)
