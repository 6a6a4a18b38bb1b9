from collections.abc import Sequence

from domain.chunks import Chunk, ChunksMissing, Range, beginning, gaps, ranges
from tests.scenarios import MAY_1


def held(*numbers: int) -> Sequence[Chunk]:
    return [Chunk(seq, 10, "", MAY_1) for seq in numbers]


def test_numbers_are_told_as_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == ((0, 2), (5, 5), (7, 8))
    assert ranges([]) == ()


def test_what_is_missing_before_the_last_one_is_known_without_a_count() -> None:
    assert gaps(held(1, 4)) == ((0, 0), (2, 3))
    assert gaps(held(0, 1)) == gaps(held()) == ()


def test_a_count_tells_what_is_missing_at_the_end() -> None:
    assert gaps(held(1, 4), 7) == ((0, 0), (2, 3), (5, 6))
    assert gaps(held(0, 1, 2), 2) == ()


def test_the_beginning_ends_at_the_first_gap() -> None:
    assert beginning(held(0, 1, 3, 4)) == held(0, 1)
    assert beginning(held(1, 2)) == []


def test_a_refusal_names_twenty_ranges_at_most() -> None:
    missing: list[Range] = [(n, n + 1) for n in range(0, 90, 3)]
    detail, errors = ChunksMissing(missing).args
    assert len(errors) == 20
    assert "and more" in detail
