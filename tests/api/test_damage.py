"""What an activity's screens are told where the object store has lost or damaged what they show."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from tests.api.conftest import Runner, World
from tests.recordings import fit

NAMED = {"tracks", "details", "originals", "manifests", "verdicts"}
TOLD = {  # the code, where that is damaged
    "": "track-damaged",
    "/track": "track-damaged",
    "/track?from=60": "track-damaged",
    "/export.gpx": "track-damaged",
    "/export.fit": "track-damaged",
    "/elevation.svg": "track-damaged",
    "/original": "original-damaged",
    "/upload": "upload-damaged",
    "/chunks": "upload-damaged",
}


def flipped(sealed: bytes) -> bytes:
    return bytes([sealed[0] ^ 1]) + sealed[1:-1] + bytes([sealed[-1] ^ 1])


@pytest.mark.parametrize("harm", [flipped, lambda _: b"", None])
async def test_what_is_damaged_or_gone_is_told(
    world: World, anna: Runner, harm: Callable[[bytes], bytes] | None
) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(83), activity_id)
    await anna.get(f"/activities/{activity_id}/track?columns=t", after=position)
    store = Path(unquote(urlsplit(world.settings.object_store_url).path))
    found = [path for path in store.rglob("*") if path.is_file() and NAMED.intersection(path.parts)]
    for stored in found:
        if str(activity_id) not in stored.name and str(anna.user_id) not in stored.parts:
            continue
        if harm is not None:
            stored.write_bytes(harm(stored.read_bytes()))
        elif "tracks" in stored.parts or "originals" in stored.parts:  # without details, there are no splits
            stored.unlink()
    whole = () if harm else ("", "/upload", "/chunks")
    assert (await anna("GET", f"/activities/{activity_id}/map.svg")).status_code == 200  # the card knows the route
    for path, code in TOLD.items():
        answer = await anna("GET", f"/activities/{activity_id}{path}")
        told = (answer.status_code, answer.json()["code"] if answer.status_code > 400 else "")
        assert told == ((200, "") if path in whole else (503, code)), path
