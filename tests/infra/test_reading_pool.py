"""Reading in other processes: one file's fate is its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from domain.measures import Sport
from domain.recordings.reading import ReaderFailed
from domain.recordings.recording import EmptyRecording, UnreadableRecording
from infra.reader import read
from infra.reading_pool import ProcessReader
from tests.recordings import TCX, fit

RUN = fit(kilometres=0.5)
SLOW = b"<gpx><trk><trkseg>" + b'<trkpt lat="52.5" lon="13.4"/>' * 150_000 + b"</trkseg></trk></gpx>"


@pytest.fixture(scope="module")
async def reader() -> AsyncIterator[ProcessReader]:
    made = ProcessReader(children=2)
    yield made
    made.close()


async def test_a_reading_is_the_same_from_another_process(reader: ProcessReader) -> None:
    assert await asyncio.gather(*(reader.read(RUN, None) for _ in range(5))) == [read(RUN)] * 5
    assert await reader.read(TCX, None) == read(TCX)


async def test_the_sport_that_is_told_is_that_of_its_file_only(reader: ProcessReader) -> None:
    told = (Sport.HIKING, None, Sport.CYCLING, None)
    found = await asyncio.gather(*(reader.read(RUN, sport) for sport in told))
    assert found == [read(RUN, sport) for sport in told]
    assert [reading.sessions[0].sport for reading in found] == ["hiking", "running", "cycling", "running"]


async def test_a_refusal_comes_back_whole(reader: ProcessReader) -> None:
    with pytest.raises(UnreadableRecording, match="FIT, GPX, TCX or JSON"):
        await reader.read(b"no recording", None)
    with pytest.raises(EmptyRecording, match="no track point"):
        await reader.read(b"<gpx/>", None)


async def test_a_child_that_dies_fails_its_file_only(reader: ProcessReader) -> None:
    before = [child._files for child in reader._children]
    slow = [asyncio.create_task(reader.read(SLOW, None)) for _ in range(2)]
    await _busy(reader, before)
    reader._children[0].kill()
    first, second = await asyncio.gather(*slow, return_exceptions=True)
    died, lived = sorted((first, second), key=lambda found: not isinstance(found, ReaderFailed))
    assert "died" in str(died)
    assert not isinstance(lived, BaseException)
    assert lived.sessions[0].measured.points == 150_000
    assert len((await reader.read(RUN, None)).sessions) == 1


async def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_read(reader: ProcessReader) -> None:
    reader._seconds, kept = 0.2, reader._seconds
    with pytest.raises(ReaderFailed, match=r"longer than 0\.2 s"):
        await reader.read(SLOW, None)
    reader._seconds = kept
    assert len((await reader.read(RUN, None)).sessions) == 1


async def test_a_child_that_was_killed_while_idle_costs_nothing(reader: ProcessReader) -> None:
    for child in reader._children:
        child.kill()
        child._process.wait()
    assert len((await reader.read(RUN, None)).sessions) == 1


async def test_a_child_is_given_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_MASTER_KEY", "of ours")
    made = ProcessReader()
    environ = Path(f"/proc/{made._children[0]._process.pid}/environ")
    assert not environ.exists() or b"CAIRN" not in environ.read_bytes()
    made.close()


async def test_closing_ends_what_is_read() -> None:
    made = ProcessReader()
    reading = asyncio.create_task(made.read(SLOW, None))
    await _busy(made, [0] * len(made._children))
    await asyncio.to_thread(made.close)
    with pytest.raises(ReaderFailed):
        await reading


async def _busy(reader: ProcessReader, before: Sequence[int]) -> None:
    """Wait until the children read one more file each."""
    until = time.monotonic() + 30
    while any(child._files == count for child, count in zip(reader._children, before, strict=True)):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
