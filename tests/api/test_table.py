import pytest

from api.front.table import Table


def table(*paths: str) -> Table[str]:
    made: Table[str] = Table()
    for path in paths:
        made.add(path, "GET", path)
    return made


def found(made: Table[str], path: str) -> tuple[str, list[str]] | None:
    there = made.find(path)
    return None if there is None else (there[0]["GET"], there[2])


def test_a_path_finds_its_route_and_its_parameters() -> None:
    made = table("/v1/me", "/v1/activities/{activity_id}", "/v1/activities/{activity_id}/chunks/{seq}")
    assert found(made, "/v1/me") == ("/v1/me", [])
    assert found(made, "/v1/activities/7") == ("/v1/activities/{activity_id}", ["7"])
    assert found(made, "/v1/activities/7/chunks/3") == ("/v1/activities/{activity_id}/chunks/{seq}", ["7", "3"])


def test_a_literal_comes_before_a_parameter_if_the_rest_fits() -> None:
    made = table("/users/me", "/users/{id}", "/users/{id}/runs")
    assert found(made, "/users/me") == ("/users/me", [])
    assert found(made, "/users/me/runs") == ("/users/{id}/runs", ["me"])


def test_a_way_that_ends_nowhere_leaves_no_parameters() -> None:
    made = table("/runs/{id}/{other}/never", "/runs/last/{other}/map", "/{anything}/{id}/{other}/notes")
    assert found(made, "/runs/last/7/notes") == ("/{anything}/{id}/{other}/notes", ["runs", "last", "7"])


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/me/", "//v1/me", "/v1/activities/", "/v1//me", "/V1/me"])
def test_what_is_not_there_is_not_found(path: str) -> None:
    assert table("/v1/me", "/v1/activities/{id}").find(path) is None


def test_parameters_are_named_by_method() -> None:
    made: Table[int] = Table()
    made.add("/a/{one}", "GET", 1)
    made.add("/a/{other}", "PUT", 2)
    there = made.find("/a/x")
    assert there is not None
    assert (dict(there[0]), dict(there[1])) == ({"GET": 1, "PUT": 2}, {"GET": ("one",), "PUT": ("other",)})


def test_a_segment_is_a_parameter_or_none() -> None:
    with pytest.raises(ValueError, match="segment"):
        table("/routes/{id}.gpx")
