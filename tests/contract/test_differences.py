"""Each rule: what it lets pass, and what it says when an app would break."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.differences import additions, breaks, lost_codes

Edit = Callable[[dict[str, Any]], object]

RUN = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "sport": {"type": "string", "enum": ["running", "walking"]},
        "started_at": {"type": "string", "format": "date-time"},
        "heart": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "laps": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        "notes": {"type": "string"},
        "parent": {"$ref": "#/components/schemas/Run"},
    },
    "required": ["title", "sport", "started_at", "heart", "laps"],
}
WISH = {
    "type": "object",
    "properties": {
        "metric": {"type": "string", "enum": ["distance", "count"]},
        "target": {"type": "number", "minimum": 1, "maximum": 100},
        "name": {"anyOf": [{"type": "string", "maxLength": 80}, {"type": "null"}]},
        "repeats": {"type": "integer", "default": 1},
        "days": {"type": "array", "items": {"type": "integer"}},
        "place": {"$ref": "#/components/schemas/Place"},
    },
    "required": ["metric"],
    "additionalProperties": False,
}
PLACE = {"type": "string", "maxLength": 9}
INTEGER = {"type": "integer"}
OLD: dict[str, Any] = {
    "paths": {
        "/runs": {
            "put": {
                "operationId": "putRun",
                "tags": ["runs"],
                "parameters": [
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}},
                },
                "responses": {
                    "200": {
                        "headers": {"ETag": {"required": True, "schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Run"}}},
                    },
                    "404": {},
                },
            }
        }
    },
    "components": {
        "schemas": {"Run": RUN, "Wish": WISH, "Place": PLACE, "Elsewhere": PLACE, "Unused": {}},
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    },
}


def edited(edit: Edit) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    edit(new)
    return new


def all_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": list(schemas)}


def put(new: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = new["paths"]["/runs"]["put"]
    return operation


def run(new: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = new["components"]["schemas"]["Run"]["properties"]
    return properties


def wish(new: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = new["components"]["schemas"]["Wish"]["properties"]
    return properties


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda new: new["paths"].pop("/runs"), "is gone"),
        (lambda new: put(new).update(operationId="saveRun"), "operationId was putRun, is saveRun"),
        (lambda new: put(new).update(security=[{"token": []}]), "needs an access token, and did not"),
        (lambda new: put(new)["parameters"].clear(), "query limit is not read any more"),
        (
            lambda new: put(new)["parameters"].append({"in": "query", "name": "a", "required": True, "schema": {}}),
            "query a is required, and was not",
        ),
        (lambda new: put(new)["parameters"][0].update(required=True), "query limit is required, and was not"),
        (lambda new: put(new)["parameters"][0]["schema"].update(maximum=50), "query limit: maximum is 50 now"),
        (lambda new: put(new)["parameters"][0]["schema"].update(default=10), "query limit: another default"),
        (lambda new: put(new)["requestBody"]["content"].clear(), "a body of application/json is not taken any more"),
        (lambda new: wish(new).pop("name"), "body.name: is not taken any more"),
        (lambda new: wish(new)["metric"]["enum"].remove("count"), "body.metric: count not taken any more"),
        (lambda new: wish(new)["target"].update(minimum=2), "body.target: minimum is 2 now"),
        (lambda new: wish(new)["target"].update(type="integer"), "body.target: number is not taken any more"),
        (lambda new: wish(new)["name"]["anyOf"].pop(), "body.name: null is not taken any more"),
        (lambda new: wish(new)["name"]["anyOf"][0].update(maxLength=8), "body.name: maxLength is 8 now"),
        (lambda new: wish(new)["name"]["anyOf"][0].update(pattern="^a"), "body.name: pattern was None, is ^a"),
        (lambda new: new["components"]["schemas"]["Wish"]["required"].append("target"), "body.target: is required"),
        (lambda new: put(new)["responses"].pop("404"), "does not answer 404 any more"),
        (lambda new: put(new)["responses"].update({"202": {}}), "answers 202, which apps do not expect"),
        (lambda new: put(new)["responses"]["200"]["headers"].clear(), "200: the header ETag was there"),
        (lambda new: put(new)["responses"]["200"]["content"].clear(), "200: no application/json any more"),
        (lambda new: run(new).pop("notes"), "200.notes: is gone"),
        (
            lambda new: (run(new).pop("title"), new["components"]["schemas"]["Run"]["required"].remove("title")),
            "200.title: was always there, and may be missing",
        ),
        (lambda new: new["components"]["schemas"]["Run"]["required"].remove("title"), "200.title: was always there"),
        (lambda new: run(new)["title"].update(type=["string", "null"]), "200.title: may be null, and was not"),
        (lambda new: run(new)["title"].update(type="integer"), "200.title: may be integer, and was not"),
        (lambda new: run(new)["laps"]["items"].update(type="number"), "200.laps[]: may be number, and was not"),
        (lambda new: run(new)["started_at"].pop("format"), "200.started_at: format was date-time, is None"),
        (lambda new: run(new)["sport"].pop("enum"), "200.sport: may be any value, and was not"),
        (lambda new: run(new)["sport"]["enum"].remove("walking"), "200.sport: walking is gone"),
        (lambda new: run(new)["sport"].update(enum=["running", "walk"]), "200.sport: walking is gone"),
        (lambda new: run(new)["notes"].update(writeOnly=True), "200.notes: is writeOnly, and was not"),
        (lambda new: run(new)["laps"].pop("uniqueItems"), "200.laps: may hold the same twice, and was not"),
        (lambda new: wish(new)["repeats"].update(default=2), "body.repeats: another default"),
        (lambda new: wish(new)["repeats"].update(multipleOf=2), "body.repeats: takes multiples of 2 only"),
        (lambda new: wish(new)["repeats"].update(const=1), "body.repeats: takes these values only"),
        (lambda new: wish(new)["repeats"].update(readOnly=True), "body.repeats: is readOnly, and was not"),
        (lambda new: wish(new)["days"].update(uniqueItems=True), "body.days: may not hold the same twice"),
        (lambda new: wish(new).update(target=all_of({"type": "integer"})), "target: number is not taken any more"),
        (lambda new: wish(new).update(target={"oneOf": [{"type": "string"}]}), "target: number is not taken any more"),
        (lambda new: wish(new)["place"].update({"$ref": "#/components/schemas/Elsewhere"}), "was of the type Place"),
        (lambda new: wish(new)["place"].update(maxLength=3), "body.place: maxLength is 3 now"),
        (lambda new: put(new).update(tags=["diary"]), "tags were ['runs'], are ['diary']"),
        (lambda new: put(new)["responses"]["200"]["headers"]["ETag"].update(schema=INTEGER), "ETag: may be integer"),
    ],
)
def test_what_breaks_an_app_is_told(edit: Edit, told: str) -> None:
    found = breaks(OLD, edited(edit))
    assert len(found) == 1, found
    assert told in found[0]
    assert found[0].startswith("PUT /runs: ")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda new: new["components"]["schemas"].pop("Unused"), "the schema Unused is gone"),
        (lambda new: new["components"]["securitySchemes"]["token"].update(scheme="basic"), "scheme token is another"),
        (lambda new: new["components"]["securitySchemes"].clear(), "scheme token is another"),
        (lambda new: wish(new).update(more={"not": {}}), "Wish.properties.more: not is not compared"),
        (lambda new: run(new)["heart"]["anyOf"][0].update({"not": {}}), "heart.anyOf: not is not compared"),
        (lambda new: run(new).update(more=all_of({}, {})), "Run.properties.more: allOf of several is not compared"),
        (lambda new: run(new)["laps"]["items"].update({"if": {}}), "Run.properties.laps.items: if is not compared"),
    ],
)
def test_what_breaks_apps_wherever_it_is_used_is_told(edit: Edit, told: str) -> None:
    found = breaks(OLD, edited(edit))
    assert len(found) == 1, found
    assert told in found[0]


def test_another_way_to_sign_in_breaks_apps_and_one_more_does_not() -> None:
    old = edited(lambda new: put(new).update(security=[{"token": []}]))
    assert breaks(old, edited(lambda new: put(new).update(security=[{"key": []}, {"token": []}]))) == []
    assert breaks(old, OLD) == []
    [told] = breaks(old, edited(lambda new: put(new).update(security=[{"key": []}])))
    assert "needs [{'key': []}], and needed [{'token': []}]" in told


def test_codes_of_problems_stay_with_their_statuses() -> None:
    old = {"gone": 404, "moved": 409, "kept": 422}
    assert lost_codes(old, {"moved": 422, "kept": 422, "new": 400}) == [
        "problem gone: was 404, is gone",
        "problem moved: was 409, is 422",
    ]


@pytest.mark.parametrize(
    "edit",
    [
        lambda new: new["paths"].update({"/more": {"get": {"operationId": "more", "responses": {}}}}),
        lambda new: put(new).update(deprecated=True, description="Call another."),
        lambda new: put(new)["parameters"].append({"in": "query", "name": "more", "schema": {"type": "string"}}),
        lambda new: put(new)["parameters"][0]["schema"].update(maximum=200),
        lambda new: put(new)["responses"].update({"429": {}}),
        lambda new: run(new).update(more={"type": "string"}),
        lambda new: new["components"]["schemas"]["Run"]["required"].append("notes"),
        lambda new: run(new)["sport"]["enum"].append("swimming"),
        lambda new: run(new)["heart"]["anyOf"].pop(),
        lambda new: wish(new).update(more={"type": "string"}),
        lambda new: wish(new)["metric"]["enum"].append("time"),
        lambda new: wish(new)["target"].pop("maximum"),
        lambda new: wish(new).update(target=all_of(wish(new)["target"])),
        lambda new: wish(new).update(target={"oneOf": [wish(new)["target"], {"type": "null"}]}),
        lambda new: wish(new)["repeats"].update(description="How often.", deprecated=True),
        lambda new: run(new)["notes"].update(default="none"),
        lambda new: new["components"]["schemas"]["Wish"].pop("required"),
    ],
)
def test_what_breaks_no_app_passes(edit: Edit) -> None:
    assert breaks(OLD, edited(edit)) == []


def test_what_is_new_is_listed() -> None:
    new = edited(lambda new: (run(new).update(more={}), new["paths"].update({"/more": {"get": {}}})))
    assert additions(OLD, new) == ["GET /more", "Run.more"]
