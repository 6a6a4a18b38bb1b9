"""Old apps: what each of their versions asked for is answered as it was then."""

from typing import Any

import pytest

from tests.api.conftest import World
from tests.contract.golden import STORIES, Differs, compare, load, play


@pytest.mark.parametrize("name", sorted(path.stem for path in STORIES.glob("*.json")))
async def test_an_apps_version_is_answered_as_it_was(world: World, name: str) -> None:
    story = load(name)
    assert await play(world.http, story) == len(story["steps"]) > 0


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        (100.0, 100.5),
        (1.3, 1.4),
        (1.3, 1.2),
        ("<uuid:x>", "a0000000-0000-4000-8000-000000000001"),
        ("/v1/<uuid:x>/<etag:y>", '/v1/a0000000-0000-4000-8000-000000000001/"e"'),
        ([None, True, "<time>"], [None, True, "2026-05-01T07:00:00Z"]),
    ],
)
def test_more_fields_and_other_ids_are_no_difference(told: Any, found: Any) -> None:
    compare("here", told, found, {})


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"a": 1}, {"b": 1}),
        ({"a": None}, {}),
        (1, 1.0),
        (1, True),
        (1, 2),
        (100.0, 102.0),
        (1.3, 1.5),
        (0.013, 0.015),
        (0.00001, 0.0001),
        (None, 0),
        ("metric", "imperial"),
        ("<uuid:x>", "7"),
        (["<uuid:x>", "<uuid:x>"], ["a0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002"]),
        ([1], [1, 2]),
        ("<time>", None),
    ],
)
def test_less_or_other_than_before_is_a_difference(told: Any, found: Any) -> None:
    with pytest.raises(Differs, match="here"):
        compare("here", told, found, {})
