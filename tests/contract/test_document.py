"""The document is right by itself, and breaks nothing that was released."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from api.problems import STATUSES
from tests.contract.differences import breaks, lost_codes
from tests.contract.document import released, released_codes, resolved, todays

DOCUMENT = todays()
WHAT_TO_DO = """This breaks apps that are out there. Keep what they were told, or give the endpoint another version
beside this one: docs/contributors/versions.md. What no app can know yet is given up by
.venv/bin/python -m tests.contract.accept --breaking"""


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations())
CONTRACT = {name: operation for name, operation in OPERATIONS.items() if re.search(r" /v\d+/", name)}


def test_todays_document_breaks_nothing_that_was_released() -> None:
    broken = breaks(released(), DOCUMENT)
    assert not broken, "\n".join([WHAT_TO_DO, *broken])


def test_todays_problems_have_the_codes_and_statuses_that_were_released() -> None:
    assert lost_codes(released_codes(), STATUSES) == [], WHAT_TO_DO


def test_the_schemas_are_schemas() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert jsonschema_rs.is_valid({"$ref": "https://json-schema.org/draft/2020-12/schema"}, schema), name


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r"'\$ref': '([^']+)'", str(DOCUMENT))):
        assert resolved(DOCUMENT, {"$ref": reference})


def test_every_operation_has_a_name_of_its_own_for_generated_clients() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names)), "two endpoints are called the same: rename one function, or set operation_id"
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z0-9]*)*", name) for name in names), names


@pytest.mark.parametrize("name", CONTRACT)
def test_an_operation_says_all_that_an_app_must_know(name: str) -> None:
    operation, method = CONTRACT[name], name.split(maxsplit=1)[0]
    statuses = set(operation["responses"])
    told = {status: resolved(DOCUMENT, response) for status, response in operation["responses"].items()}
    assert operation["description"], "its docstring says what it does"
    assert {"400", "403", "429", "503"} <= statuses
    assert ("401" in statuses) == ("security" in operation) or "/sessions" in name
    assert any(status.startswith("2") for status in statuses)
    for status, response in told.items():
        if status not in ("204", "304"):
            content = response["content"]
            assert content, f"{status}: name the type in answers(...)"
            assert all("$ref" in one["schema"] or "type" in one["schema"] for one in content.values()), status
    if method == "GET":
        assert "ETag" in told["200"]["headers"]
        assert "ETag" in told["304"]["headers"]
    elif operation.get("requestBody") is None:
        assert method in ("DELETE", "PUT", "POST")
    assert "HTTPValidationError" not in str(operation)


def test_what_is_read_from_a_field_is_known() -> None:
    """No `Any`, no list of anything, no time without a zone: a generated client would have to guess."""
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, told in schema.get("properties", {}).items():
            kinds = told.get("anyOf", [told])
            assert all({"$ref", "type", "anyOf"} & set(kind) for kind in kinds), f"{name}.{field}"
            assert all(kind.get("type") != "array" or "items" in kind for kind in kinds), f"{name}.{field}"
            if field.endswith("_at"):
                assert any(kind.get("format") == "date-time" for kind in kinds), f"{name}.{field}"
