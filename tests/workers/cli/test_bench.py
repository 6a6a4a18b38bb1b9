from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from domain.recordings.recording import Column
from infra.event_store.mapper import MAPPER
from infra.faults import Fault
from tests.domain.recordings.tracks import NAN
from tests.recordings import fit
from workers.cli.bench.command import _sentence
from workers.cli.bench.events import log
from workers.cli.bench.measure import Bench, Contender, Finding, Goal, Shared, Spread, measure
from workers.cli.bench.recordings import from_folder, made_up
from workers.cli.bench.tracks import SIZE_GOALS, SPEED_GOALS, Tracks, compare
from workers.cli.bench.upload import percentile


def rates(*figures: float) -> Iterator[float]:
    yield from figures


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    """A machine that is slow for a while is slow for both."""
    ours, theirs = rates(10, 200, 30), rates(5, 100, 60)
    bench = Bench(
        "append",
        "saves/s",
        [Contender("ours", lambda: next(ours)), Contender("theirs", lambda: next(theirs))],
        [
            Goal("a", "ours", "theirs", 1.5),
            Goal("b", "ours", "theirs", 2.5),
            Goal("c", "ours", None, 30.0),
            Goal("d", "theirs", "ours", None),
        ],
    )
    told: list[str] = []
    outcome = measure(bench, 3, told.append)
    assert outcome.figures == {"ours": Spread(30, 10, 200), "theirs": Spread(60, 5, 100)}
    assert [finding.figure.median for finding in outcome.findings] == [2.0, 2.0, 30, 0.5]
    assert [finding.met for finding in outcome.findings] == [True, False, True, None]
    assert outcome.findings[0].figure == Spread(2.0, 0.5, 2.0)
    assert sorted(told) == sorted(f"append {number}/3: {name}" for number in (1, 2, 3) for name in ("ours", "theirs"))


def test_figures_of_one_run_are_of_the_same_run_in_each_round_whatever_the_order() -> None:
    runs = iter(range(1, 10))

    def run() -> dict[str, float]:
        number = next(runs)
        return {"cpu": number, "rows": number * 10}

    shared = Shared(run)
    contenders = [shared.contender(name) for name in ("cpu", "rows")]
    goals = [Goal("ratio", "rows", "cpu", 9.0, at_most=True)]
    outcome = measure(Bench("upload", "ms", contenders, goals), 5, lambda _: None)
    assert outcome.findings[0].figure == Spread(10, 10, 10)
    assert outcome.findings[0].met is False
    assert next(runs) == 6


def test_what_is_a_sum_over_a_long_run_already_is_measured_once() -> None:
    bench = Bench("growth", "MB", [Contender("ours", lambda: 1.0)], [], once=True)
    assert measure(bench, 5, lambda _: None).rounds == 1


def test_a_percentile_is_a_figure_that_was_measured() -> None:
    assert percentile([*range(200, 0, -1)], 99) == 198
    assert percentile([3.0], 99) == 3.0


def test_findings_are_told_in_a_sentence() -> None:
    spread = Spread(1.234, 1.0, 2.0)
    assert _sentence(Finding("append", "ours", "theirs", 1.5, spread, met=False)) == (
        "append: ours / theirs: 1.23 (1.00 to 2.00), at least 1.5: MISSED"
    )
    assert (
        _sentence(Finding("append", "ours", "theirs", None, spread, met=None))
        == "append: ours / theirs: 1.23 (1.00 to 2.00): no goal"
    )
    small = Finding("bytes", "ours", None, 4.15, Spread(4.2, 4.2, 4.2), met=False, at_most=True)
    assert _sentence(small) == "bytes: ours: 4.20, at most 4.15: MISSED"
    alone = Finding("decode", "ours", None, 600_000.0, Spread(700_000.0, 1.0, 2.0), met=True)
    assert _sentence(alone) == "decode: ours: 700,000, at least 600,000: met"


def test_the_made_up_log_is_the_same_for_the_same_seed_and_is_stored_as_a_real_one() -> None:
    first, again = list(log(300)), list(log(300))
    assert first == again
    for made in first:
        topic, state = MAPPER.encode(made.event)
        assert MAPPER.decode(topic, state) == made.event


def test_every_made_up_stream_counts_its_versions_from_one() -> None:
    streams: dict[UUID, int] = {}
    kinds = set()
    for made in log(3_000):
        assert made.version == streams.get(made.stream_id, 0) + 1
        streams[made.stream_id] = made.version
        kinds.add(made.event.TOPIC)
    assert len(kinds) == 7


def test_tracks_are_measured_beside_other_ways_to_keep_them() -> None:
    tracks, told = Tracks(made_up(2), seconds=0.0), list[str]()
    sizes, speeds = (measure(bench(), 1, told.append) for bench in (tracks.sizes, tracks.speeds))
    assert [finding.name for finding in sizes.findings] == [goal.name for goal in SIZE_GOALS]
    assert [finding.name for finding in speeds.findings] == [goal.name for goal in SPEED_GOALS]
    figures = {name: figure.median for name, figure in sizes.figures.items()}
    cold, written = figures.pop("ours, recompacted"), figures.pop("ours, as written")
    assert 1 < cold < written < min(figures.values())
    assert min(figure.median for figure in speeds.figures.values()) > 0


def test_a_track_that_comes_back_changed_fails_the_bench() -> None:
    columns = {Column.T: np.arange(9.0), Column.POWER: np.array([1.0, NAN] * 4 + [0.0])}
    compare(columns, columns)
    for at, other in ((0, np.nextafter(1, 2)), (1, 0.0), (2, NAN), (8, -0.0)):
        changed = columns[Column.POWER].copy()
        changed[at] = other
        with pytest.raises(Fault, match="power_w of 9 points differs"):
            compare({**columns, Column.POWER: changed}, columns)
    with pytest.raises(Fault):
        compare({Column.T: columns[Column.T]}, columns)


def test_recordings_of_a_folder_are_those_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "run.fit").write_bytes(fit(kilometres=1))
    (tmp_path / "notes.txt").write_text("no recording")
    (tmp_path / "more").mkdir()
    assert [recording.body for recording in from_folder(tmp_path)] == [fit(kilometres=1)]
    (tmp_path / "run.fit").unlink()
    with pytest.raises(Fault, match="no recording with points"):
        from_folder(tmp_path)
