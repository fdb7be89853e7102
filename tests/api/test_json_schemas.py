"""Schemas of shapes: what is sent is whole, what is received may leave things out."""

from typing import Any, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from nodestate.api.json_schemas import JsonSchemas, nullable
from nodestate.api.shapes import Shape
from nodestate.model.job import JobType
from nodestate.model.timestamp import NO_TIME, Timestamp
from nodestate.secret import Secret

NULL = {"type": "null"}
TEXT = {"type": "string"}


class Inner(Shape, frozen=True, kw_only=True):
    """What is in it. Of which only the first sentence counts."""

    id: str = ""


class Whole(Shape, frozen=True, kw_only=True):
    id: str
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] | None = None
    at: Timestamp = NO_TIME
    extra: str | UnsetType = UNSET
    anything: Any = None


class Nested(Shape, frozen=True, kw_only=True):
    parts: tuple["Nested", ...] | None = None


class AskedSent(Shape, frozen=True, kw_only=True):
    inner: Inner | None = None


def sent(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    schemas = JsonSchemas(are_received=False)
    return schemas.of(kind), schemas.components


def received(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    schemas = JsonSchemas(are_received=True)
    return schemas.of(kind), schemas.components


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, TEXT),
        (bool, {"type": "boolean"}),
        (Secret, TEXT),
        (Timestamp, {"type": ["string", "null"], "format": "date-time"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (Any, {}),
        (msgspec.Raw, {}),
        (None, NULL),
        (list[str], {"type": "array", "items": TEXT}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (JobType, {"type": "string", "enum": ["service", "batch", "system"]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (str | None, {"type": ["string", "null"]}),
    ],
)  # fmt: skip
def test_types_have_their_schemas(kind, schema):
    assert sent(kind) == (schema, {})


def test_whole_numbers_are_of_64_bits():
    schema, _ = sent(int)

    assert (schema["minimum"], schema["maximum"]) == (-(2**63), 2**63 - 1)


def test_what_is_sent_is_whole_but_for_what_is_asked_for():
    schema, components = sent(Whole)

    assert schema == {"$ref": "#/components/schemas/Whole"}
    whole = components["Whole"]
    assert set(whole["properties"]) - set(whole["required"]) == {"Extra"}
    assert whole["additionalProperties"] is False
    assert whole["properties"]["Inner"] == {
        "anyOf": [{"$ref": "#/components/schemas/Inner"}, NULL]
    }
    assert whole["properties"]["ByName"]["type"] == ["object", "null"]


def test_what_is_received_may_leave_out_anything_or_have_null_for_it():
    schema, components = received(Whole)

    assert schema == {"$ref": "#/components/schemas/WholeInput"}
    whole = components["WholeInput"]
    assert "required" not in whole
    assert "additionalProperties" not in whole
    assert whole["properties"]["ID"] == {"type": ["string", "null"]}
    reference = {"$ref": "#/components/schemas/InnerInput"}
    assert whole["properties"]["Parts"]["items"] == {"anyOf": [reference, NULL]}


def test_shapes_that_only_clients_send_keep_their_name():
    schema, components = received(AskedSent)

    assert schema == {"$ref": "#/components/schemas/AskedSent"}
    assert set(components) == {"AskedSent", "InnerInput"}


def test_a_record_may_have_itself_in_it():
    _, components = sent(Nested)

    parts = components["Nested"]["properties"]["Parts"]
    assert parts["items"] == {"$ref": "#/components/schemas/Nested"}


def test_a_record_says_in_one_sentence_what_it_is():
    _, components = sent(Inner)

    assert components["Inner"]["description"] == "What is in it."


def test_two_records_of_one_name_are_a_mistake():
    schemas = JsonSchemas(are_received=False)
    schemas.of(Inner)

    with pytest.raises(AssertionError, match="two records called Inner"):
        schemas.of(msgspec.defstruct("Inner", [("id", str)]))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {}),
        (NULL, NULL),
        (TEXT, {"type": ["string", "null"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"$ref": "x"}, {"anyOf": [{"$ref": "x"}, NULL]}),
        ({"anyOf": [TEXT, NULL]}, {"anyOf": [TEXT, NULL]}),
        (
            {"type": "string", "enum": ["a"]},
            {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]},
        ),
    ],
)
def test_nullable_adds_null_once(schema, expected):
    assert nullable(schema) == expected
