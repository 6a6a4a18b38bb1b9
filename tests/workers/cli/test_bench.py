from collections.abc import Iterator
from uuid import UUID

from infra.event_store.mapper import MAPPER
from workers.cli.bench.command import _sentence
from workers.cli.bench.events import log
from workers.cli.bench.measure import Bench, Contender, Finding, Goal, Shared, Spread, measure
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
