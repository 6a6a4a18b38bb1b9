"""What in a new OpenAPI document breaks apps that were made for an older one.

What an app sends must stay welcome: the new document takes at least what the old one took. What it gets must stay
what it was told: the new document answers with nothing that the old one ruled out, other than more fields and more
values of enums. What generated clients call things stays: methods, types, their groups, the values of enums. That is
what https://google.aip.dev/180 and https://docs.stripe.com/upgrades come to. A schema in words that are not compared
here is told, too. Pure: two documents in, sentences out.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.contract.document import resolved

Document = Mapping[str, Any]
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_WORDS: Final = frozenset(  # of schemas: those that are compared, and those that are for people
    {
        *("$ref", "type", "enum", "const", "pattern", "format", "multipleOf", "uniqueItems", "default"),
        *("properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf"),
        *("readOnly", "writeOnly", "title", "description", "deprecated", "example", "examples", *_LOWER, *_UPPER),
    }
)


class Side(NamedTuple):
    """A schema and the document that its references are of."""

    document: Any
    schema: Any

    def part(self, schema: Any) -> "Side":
        return Side(self.document, schema)

    def told(self) -> dict[str, Any]:
        """With what stands beside a reference, and what all of one holds."""
        schema = self.schema if isinstance(self.schema, dict) else {}
        found = resolved(self.document, schema)
        if found is not schema:
            found = {**found, **{word: value for word, value in schema.items() if word != "$ref"}}
        if len(found.get("allOf", ())) == 1:
            [one] = found["allOf"]
            found = {**self.part(one).told(), **{word: value for word, value in found.items() if word != "allOf"}}
        return found

    def identity(self) -> int:
        """The same for whatever refers to the same schema."""
        return id(resolved(self.document, self.schema) if isinstance(self.schema, dict) else self.schema)

    def name(self) -> str | None:
        """Of the type in generated clients; None: it has none."""
        reference = self.schema.get("$ref") if isinstance(self.schema, dict) else None
        return None if reference is None else reference.rpartition("/")[2]

    def kinds(self) -> list["Side"]:
        """The alternatives: one for each type."""
        told = self.told()
        for either in ("anyOf", "oneOf"):
            if either in told:
                return [kind for one in told[either] for kind in self.part(one).kinds()]
        if isinstance(told.get("type"), list):
            return [self.part({**told, "type": one}) for one in told["type"]]
        return [self.part(told)]

    def type(self) -> str:
        return str(self.told().get("type", "anything"))


def breaks(old: Document, new: Document) -> list[str]:
    """Every way in which the new document breaks an app of the old one."""
    found: list[str] = []
    for path, operations in old["paths"].items():
        for method in _METHODS:
            if method in operations:
                place = f"{method.upper()} {path}"
                today = new["paths"].get(path, {}).get(method)
                if today is None:
                    found.append(f"{place}: is gone")
                else:
                    found += [f"{place}: {what}" for what in _operation(old, new, operations[method], today)]
    return [*found, *_components(old["components"], new["components"]), *_not_compared(new, "")]


def lost_codes(old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    """Codes of problems that apps match on, and do not get any more, or with another status."""
    return [
        f"problem {code}: was {status}, is {new.get(code, 'gone')}"
        for code, status in sorted(old.items())
        if new.get(code) != status
    ]


def additions(old: Document, new: Document) -> list[str]:
    """Operations, types and fields that the old document does not have."""
    return sorted(_parts_of(new) - _parts_of(old))


def _parts_of(document: Document) -> set[str]:
    operations = {f"{method.upper()} {path}" for path, told in document["paths"].items() for method in told}
    schemas = document["components"]["schemas"].items()
    return operations | {f"{name}.{field}" for name, schema in schemas for field in schema.get("properties", [""])}


def _components(before: Any, after: Any) -> Iterator[str]:
    for name in before.get("schemas", {}):
        if name not in after.get("schemas", {}):
            yield f"components: the schema {name} is gone, by whose name apps know the type"
    for name, scheme in before.get("securitySchemes", {}).items():
        today = after.get("securitySchemes", {}).get(name, {})
        if _without_words(scheme) != _without_words(today):
            yield f"components: the security scheme {name} is another"


def _without_words(scheme: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scheme.items() if key != "description"}


def _not_compared(node: Any, place: str, *, names: bool = False) -> Iterator[str]:
    """Schemas, anywhere in the document, in words that mean nothing here. `names`: the keys of this are not words."""
    if isinstance(node, list):
        for one in node:
            yield from _not_compared(one, place)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        inner = f"{place}.{key}".removeprefix(".")
        if names or key in ("schema", "items", "additionalProperties", "anyOf", "oneOf", "allOf"):
            for schema in value if isinstance(value, list) else [value]:
                yield from _unknown(schema, inner)
        if key not in ("enum", "const", "default", "example", "examples"):
            yield from _not_compared(value, inner, names=not names and key in ("schemas", "properties"))


def _unknown(schema: Any, place: str) -> Iterator[str]:
    words = set(schema) - _WORDS if isinstance(schema, dict) else set()
    if isinstance(schema, dict) and len(schema.get("allOf", ())) > 1:
        words.add("allOf of several")
    yield from (f"{place}: {word} is not compared: tests/contract/differences.py has to learn it" for word in words)


def _operation(old: Document, new: Document, before: Any, after: Any) -> Iterator[str]:
    if before["operationId"] != after["operationId"]:  # methods of generated clients are called so
        yield f"operationId was {before['operationId']}, is {after['operationId']}"
    if before.get("tags") != after.get("tags"):  # so are their groups
        yield f"tags were {before.get('tags')}, are {after.get('tags')}"
    was, now = (_security(document, one) for document, one in ((old, before), (new, after)))
    if now and not was:
        yield "needs an access token, and did not"
    elif now and not all(one in now for one in was):
        yield f"needs {now}, and needed {was}"
    yield from _parameters(old, new, before, after)
    yield from _body(Side(old, before.get("requestBody")), Side(new, after.get("requestBody")))
    yield from _answers(old, new, before["responses"], after["responses"])


def _security(document: Document, operation: Any) -> Any:
    return operation.get("security", document.get("security", []))


def _parameters(old: Document, new: Document, before: Any, after: Any) -> Iterator[str]:
    was, now = _named(old, before), _named(new, after)
    for key, parameter in now.items():
        if parameter.get("required") and not was.get(key, {}).get("required"):
            yield f"{' '.join(key)} is required, and was not"
    for key, parameter in was.items():
        place = " ".join(key)
        if key not in now:
            yield f"{place} is not read any more"
            continue
        yield from _narrower(place, Side(old, parameter["schema"]), Side(new, now[key]["schema"]))


def _named(document: Document, operation: Any) -> dict[tuple[str, str], Any]:
    told = [resolved(dict(document), one) for one in operation.get("parameters", [])]
    return {(one["in"], one["name"]): one for one in told}


def _body(was: Side, now: Side) -> Iterator[str]:
    before, after = was.told(), now.told()
    if after.get("required") and not before.get("required"):
        yield "a body is required, and was not"
    for kind, content in before.get("content", {}).items():
        if kind not in after.get("content", {}):
            yield f"a body of {kind} is not taken any more"
        else:
            schema = after["content"][kind]["schema"]
            yield from _narrower("body", was.part(content["schema"]), now.part(schema))


def _answers(old: Document, new: Document, before: Any, after: Any) -> Iterator[str]:
    for status in after:
        # of a status that it does not know, an app knows the class (RFC 9110, section 15): that is enough for errors
        if status not in before and not status.startswith(("4", "5")):
            yield f"answers {status}, which apps do not expect"
    for status, response in before.items():
        if status not in after:
            yield f"does not answer {status} any more"
            continue
        was, now = resolved(dict(old), response), resolved(dict(new), after[status])
        for name, told in was.get("headers", {}).items():
            today = resolved(dict(new), now.get("headers", {}).get(name, {}))
            if not today or (resolved(dict(old), told).get("required") and not today.get("required")):
                yield f"{status}: the header {name} was there, and may be missing"
            elif "schema" in told:
                yield from _wider(f"{status} {name}", Side(old, told["schema"]), Side(new, today.get("schema")))
        for kind, content in was.get("content", {}).items():
            if kind not in now.get("content", {}):
                yield f"{status}: no {kind} any more"
                continue
            schema = now["content"][kind]["schema"]
            # read the other way round: what is answered now has to fit into what was told before
            yield from _wider(f"{status}", Side(old, content["schema"]), Side(new, schema))


def _narrower(place: str, was: Side, now: Side) -> Iterator[str]:
    """How what is taken now is less than what was taken before."""
    yield from _excess(place, was, now, answers=False, seen=frozenset())


def _wider(place: str, was: Side, now: Side) -> Iterator[str]:
    """How what is answered now is more than what was told before."""
    yield from _excess(place, now, was, answers=True, seen=frozenset())


def _excess(place: str, more: Side, less: Side, *, answers: bool, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    """How `more` allows what `less` does not. For what is taken, `more` is the old schema; for answers, the new one."""
    was, now = (less, more) if answers else (more, less)
    if was.name() is not None and was.name() != now.name():
        yield f"{place}: was of the type {was.name()}, is of {now.name()}"
    if not answers and was.told().get("default") != now.told().get("default"):
        yield f"{place}: another default, which apps that leave it out get"
    hidden = "writeOnly" if answers else "readOnly"
    if now.told().get(hidden) and not was.told().get(hidden):
        yield f"{place}: is {hidden}, and was not"
    key = (more.identity(), less.identity())
    if key in seen:  # a type that holds itself
        return
    seen |= {key}
    for kind in more.kinds():
        fitting = [one for one in less.kinds() if _types_fit(kind.type(), one.type())]
        if not fitting:
            yield f"{place}: {_said(answers, f'may be {kind.type()}', f'{kind.type()} is not taken any more')}"
        else:
            yield from _excess_of(place, kind, fitting[0], answers=answers, seen=seen)


def _types_fit(more: str, less: str) -> bool:
    return less in ("anything", more) or (more == "integer" and less == "number")


def _said(answers: bool, of_answers: str, of_requests: str) -> str:  # noqa: FBT001 - which of two sentences
    return f"{of_answers}, and was not" if answers else of_requests


def _excess_of(place: str, more: Side, less: Side, *, answers: bool, seen: frozenset[tuple[int, int]]) -> Iterator[str]:
    a, b = more.told(), less.told()
    yield from (f"{place}: {what}" for what in _values(a, b, answers=answers))
    properties = b.get("properties", {})
    if answers:
        missing = [name for name in b.get("required", ()) if name not in a.get("required", ())]
        yield from (f"{place}.{name}: was always there, and may be missing" for name in missing)
    else:
        forced = [name for name in b.get("required", ()) if name not in a.get("required", ())]
        yield from (f"{place}.{name}: is required, and was not" for name in forced)
    for name, schema in a.get("properties", {}).items():
        if name in properties:
            inner = f"{place}.{name}"
            yield from _excess(inner, more.part(schema), less.part(properties[name]), answers=answers, seen=seen)
        elif not answers and b.get("additionalProperties") is False:
            yield f"{place}.{name}: is not taken any more"
    if answers:
        gone = [
            name for name in properties if name not in a.get("properties", {}) and name not in b.get("required", ())
        ]
        yield from (f"{place}.{name}: is gone" for name in gone)
    for inner, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(b.get(inner), dict):
            other = a.get(inner)
            there = more.part(other if isinstance(other, dict) else {})
            yield from _excess(f"{place}{mark}", there, less.part(b[inner]), answers=answers, seen=seen)


def _values(more: dict[str, Any], less: dict[str, Any], *, answers: bool) -> Iterator[str]:
    """Bounds, patterns, formats and enums. Enums of answers may grow, of which apps are told, and never shrink: types
    in generated clients would lack a name.
    """
    for names, beyond in ((_LOWER, operator.lt), (_UPPER, operator.gt)):
        for name in names:
            if name in less and (name not in more or beyond(more[name], less[name])):
                yield _said(answers, f"may be beyond {name} {less[name]}", f"{name} is {less[name]} now")
    for name in ("pattern", "format"):
        if name in less and more.get(name) != less[name]:
            was, now = (less, more) if answers else (more, less)
            yield f"{name} was {was.get(name)}, is {now.get(name)}"
    step = less.get("multipleOf")
    if step is not None and ("multipleOf" not in more or more["multipleOf"] % step):
        yield _said(answers, f"may be no multiple of {step}", f"takes multiples of {step} only")
    if less.get("uniqueItems") and not more.get("uniqueItems"):
        yield _said(answers, "may hold the same twice", "may not hold the same twice")
    if not _enum(less):
        return
    was, now = (less, more) if answers else (more, less)
    gone = [str(value) for value in _enum(was) if value not in _enum(now)]
    if not _enum(more):
        yield _said(answers, "may be any value", "takes these values only")
    elif gone:
        yield f"{', '.join(gone)} {'is gone' if answers else 'not taken any more'}"


def _enum(schema: dict[str, Any]) -> Sequence[Any]:
    values: Sequence[Any] = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return values
