"""The document: all routes are in it, and what handlers answer is as it says."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from nodestate.api.described import NEVER
from nodestate.api.openapi import describe
from nodestate.api.operations import OPERATIONS
from nodestate.api.routes import ID, LONG_ID, READS, ROUTES, Route
from tests.api.conftest import UNKNOWN_ID, Answer, Api, ApiFactory
from tests.api.everything import Asked, Told, ask_everything

DOCUMENT = describe(ROUTES)
COMPONENTS = DOCUMENT["components"]
PATH = "/v1/openapi.json"


def operation_of(name: str, method: str) -> dict[str, Any]:
    """Return what the document has for a method of a route."""
    route = next(route for route in ROUTES if route.name == name)
    path = route.path.replace(":id", "{id}").replace("*id", "{id}")
    operation: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return operation


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a part of the document says or refers to."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    found: dict[str, Any] = COMPONENTS[kind][name]
    return found


@cache
def validator_of(schema: str) -> jsonschema_rs.Validator:
    whole = {**json.loads(schema), "components": COMPONENTS}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def faults_of(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Return what is wrong with a value, in words."""
    validator = validator_of(json.dumps(schema, sort_keys=True))
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in validator.iter_errors(value)
    ]


def judge(told: Told) -> list[str]:
    """Return in what an answer is not as the document says."""
    name, method, answer = told.asked.name, told.method, told.answer
    responses = operation_of(name, method)["responses"]
    if str(answer.status) not in responses:
        return [f"status {answer.status}: {answer.text}"]
    response = resolved(responses[str(answer.status)])
    return [*_header_faults(response, answer), *_body_faults(response, answer)]


def _header_faults(response: Mapping[str, Any], answer: Answer) -> list[str]:
    faults: list[str] = []
    headers = {
        name.lower(): resolved(header)
        for name, header in response.get("headers", {}).items()
    }
    for name, header in headers.items():
        if name in answer.headers:
            text = answer.headers[name]
            value = int(text) if header["schema"]["type"] == "integer" else text
            faults += [
                f"{name} {fault}" for fault in faults_of(header["schema"], value)
            ]
        elif header["required"]:
            faults.append(f"no {name}")
    unknown = {
        name for name in answer.headers if name.startswith("x-")
    } - headers.keys()
    return [*faults, *(f"unknown {name}" for name in sorted(unknown))]


def _body_faults(response: Mapping[str, Any], answer: Answer) -> list[str]:
    content = response.get("content", {})
    if not answer.body:
        return [] if not content else [f"nothing in place of {list(content)}"]
    kind = answer.headers["content-type"].partition(";")[0]
    if kind not in content:
        return [f"{kind} in place of {list(content)}"]
    if kind != "application/json":
        return []
    return faults_of(content[kind]["schema"], answer.json)


def test_every_method_of_every_route_is_in_the_document():
    found = {
        (path, method.upper())
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    }

    assert found == {
        (route.path.replace(":id", "{id}").replace("*id", "{id}"), method)
        for route in ROUTES
        for method in route.methods
    }


def test_it_is_an_openapi_document():
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_operations_have_ids_of_their_own_after_their_routes():
    ids = [
        operation["operationId"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    ]

    assert len(set(ids)) == len(ids)
    assert {route.name for route in ROUTES} <= set(ids)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_operation_says_what_it_needs(route: Route):
    for method in route.methods:
        operation = operation_of(route.name, method)
        assert operation["x-nodestate-need"] == route.need.name
        assert (operation["security"] == []) == (route.need.name == "open")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_path_with_an_id_says_so_and_no_other(route: Route):
    for method in route.methods:
        in_path = [
            parameter
            for parameter in map(
                resolved, operation_of(route.name, method)["parameters"]
            )
            if parameter["in"] == "path"
        ]
        has_id = ID in route.path or LONG_ID in route.path
        assert [one["name"] for one in in_path] == ["id"] * has_id
        for one in in_path:
            assert ("slashes" in one["description"]) == (LONG_ID in route.path)


def test_all_that_is_referred_to_is_there_and_nothing_else():
    text = json.dumps(DOCUMENT)

    for kind, parts in COMPONENTS.items():
        if kind == "securitySchemes":
            continue
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, name


async def test_it_is_served_as_it_is_described(api: Api):
    answer = await api.get(PATH)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == DOCUMENT
    assert (await api.get(f"{PATH}?pretty")).json == DOCUMENT


async def test_what_handlers_answer_is_as_the_document_says(make_api: ApiFactory):
    faults: dict[str, list[str]] = defaultdict(list)
    succeeded: set[str] = set()

    async for told in ask_everything(make_api):
        faults[told.asked.name] += judge(told)
        if told.answer.status == 200:
            succeeded.add(told.asked.name)

    assert {name: found for name, found in faults.items() if found} == {}
    assert succeeded == {
        route.name for route in ROUTES if OPERATIONS[route.name].answer is not NEVER
    }


async def test_with_all_parameters_too(make_api: ApiFactory):
    faults: dict[str, list[str]] = defaultdict(list)

    async for told in ask_everything(make_api, lambda asked: asked.all_parameters()):
        faults[told.asked.name] += judge(told)

    assert {name: found for name, found in faults.items() if found} == {}


async def test_errors_are_as_the_document_says(make_api: ApiFactory):
    faults: dict[str, list[str]] = defaultdict(list)

    async for told in ask_everything(make_api, lambda _: {"index": "x", "region": "y"}):
        faults[told.asked.name] += judge(told)

    assert {name: found for name, found in faults.items() if found} == {}


async def test_the_index_of_what_is_not_there_is_as_the_document_says(api: Api):
    for route in ROUTES:
        if not ("id" in route.path and route.methods is READS):
            continue
        for method in route.methods:
            asked = Asked(route.name, UNKNOWN_ID)
            told = Told(asked, method, await api.ask(method, asked.path({})))
            assert judge(told) == []


async def test_prometheus_text_and_poor_health_are_in_the_document_too(api: Api):
    text = await api.get("/v1/metrics?format=prometheus")
    assert judge(Told(Asked("metrics"), "GET", text)) == []

    poor = await api.get("/v1/agent/health?type=client")
    assert poor.status == 500
    assert judge(Told(Asked("agent.health"), "GET", poor)) == []


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("PUT", Asked("node.purge", UNKNOWN_ID)),
        ("POST", Asked("operator.transfer_leadership")),
        ("GET", Asked("node.read", UNKNOWN_ID)),
        ("HEAD", Asked("jobs.list")),
    ],
    ids=str,
)
async def test_without_a_leader_errors_are_as_the_document_says(
    api: Api, method: str, asked: Asked
):
    api.leadership.leader_id, api.leadership.last_contact_s = None, None
    timers_before = api.clock.timer_count()
    asking = asyncio.create_task(api.ask(method, asked.path({})))
    await api.until(lambda: api.clock.timer_count() > timers_before)
    await api.pass_time(asking, 60)
    told = Told(asked, method, await asking)

    assert told.answer.status == 503
    assert judge(told) == []
