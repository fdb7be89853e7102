"""Requests drawn from the document, to a real server: each is answered as the document says.

Half of what is drawn is valid by the document and half is not. Both are put into a world
with a node, a job and ACLs, so that they get further than to an id that nobody has: the
ids in paths are known ones most of the time, and a body is a good one in which some of the
fields are what was drawn. The seed is fixed; more examples are a matter of `EXAMPLES`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from schemathesis import APIOperation, Case, GenerationMode, Response
from schemathesis.checks import CHECKS

from nodestate.api.openapi import describe
from nodestate.api.problems import NO_LEADER, OUTCOME_UNKNOWN
from nodestate.api.routes import ROUTES
from tests.api.conftest import NODE_ID, SECRET, node_body
from tests.api.everything import (
    BOOTSTRAP,
    EVENTS,
    MANAGER,
    POLICY,
    ROLE,
    TOKEN,
)
from tests.api.working import DRIVERS, ROOM, job_body
from tests.real_server import RealServer, running_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SEED: Final = 4646
EXAMPLES: Final = {GenerationMode.POSITIVE: 5, GenerationMode.NEGATIVE: 2}
EXAMPLES_OF_OTHER_SPELLING: Final = 1
ANSWER_S: Final = 15.0
FIELDS_DRAWN_MAX: Final = 3

DOCUMENT: Final = describe(ROUTES)
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
CHECKED: Final[list[Any]] = [
    CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
HEALTH: Final = "/v1/agent/health"
OVERLOADED: Final = {503: NO_LEADER, 504: OUTCOME_UNKNOWN}
"""What a server may say that gets no time, as in a full run of the tests."""

GOOD_VALUES: Final = {
    "address": st.just("127.0.0.1:1"),
    "deadline": st.just("1h"),
    "filter": st.sampled_from(("CreateIndex != 0", "ModifyIndex == 1")),
    "http": st.just("127.0.0.1:2"),
    "id": st.sampled_from(("server1", "server9")),
    "namespace": st.just("default"),
    "node": st.just("server1"),
    "node_id": st.just(NODE_ID),
    "prefix": st.sampled_from(("", "f7")),
    "region": st.just("global"),
}
"""Parameters of which hardly anything that is drawn means something."""

NODE: Final = {"Node": node_body(NodeResources=ROOM, Drivers=DRIVERS)}
JOB: Final = {"Job": job_body()}
"""Where each is put when it is gone."""


class World:
    """A server, and what there is on it."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.url = f"http://{server.address}"
        self.put("/v1/acl/bootstrap", BOOTSTRAP)
        self.session.headers["X-Nomad-Token"] = MANAGER
        self.ids: dict[str, str] = {}
        self.asked: set[str] = set()
        self.succeeded: set[str] = set()
        self.refill()
        self.snapshot = self.session.get(f"{self.url}/v1/operator/snapshot").content

    def put(self, path: str, body: Any) -> Any:
        answer = self.session.put(f"{self.url}{path}", json=body, timeout=ANSWER_S)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    def refill(self) -> None:
        """Put back what has been taken away, and look up what things are called."""
        self.put("/v1/nodes", NODE)
        self.put(
            f"/v1/node/{NODE_ID}/heartbeat", {"SecretID": SECRET, "Status": "ready"}
        )
        self.put("/v1/jobs", JOB)
        self.put(f"/v1/acl/policy/{POLICY['Name']}", POLICY)
        roles = {one["Name"]: one["ID"] for one in self.list("/v1/acl/roles")}
        if "r" not in roles:
            roles["r"] = self.put("/v1/acl/role", ROLE)["ID"]
        tokens = [one for one in self.list("/v1/acl/tokens") if one["Type"] == "client"]
        token = tokens[0] if tokens else self.put("/v1/acl/token", TOKEN)
        self.ids = {
            "node": NODE_ID,
            "job": "web",
            "policy": "p",
            "token": token["AccessorID"],
            "role": roles["r"],
            "name": "r",
            "pool": "default",
            "namespace": "default",
            **{
                kind: listed[0]["ID"]
                for kind in ("allocation", "evaluation")
                if (listed := self.list(f"/v1/{kind}s"))
            },
        }

    def list(self, path: str) -> list[dict[str, Any]]:
        answer = self.session.get(f"{self.url}{path}", timeout=ANSWER_S)
        assert answer.status_code == 200, answer.text
        return cast("list[dict[str, Any]]", answer.json())

    def count(self, label: str, response: Response) -> None:
        """Remember which operations have been tried, and which have done something."""
        method, path = label.split()
        if "200" in DOCUMENT["paths"][path][method.lower()]["responses"]:
            self.asked.add(label)
        if response.status_code == 200:
            self.succeeded.add(label)

    def known_id(self, path: str) -> str:
        """Return an id that is good where a path has one."""
        kind = path.partition("/{id}")[0].rpartition("/")[2]
        return self.ids.get(kind, NODE_ID)

    def good_body(self, name: str) -> Any:
        """Return a body that is good, `None` where anything is."""
        role, token = self.ids["role"], self.ids["token"]
        agents = {"SecretID": SECRET}
        bodies: dict[str, Any] = {
            "nodes.register": NODE,
            "node.drain": {"DrainSpec": {"Deadline": 10**9}},
            "node.eligibility": {"Eligibility": "eligible"},
            "node.heartbeat": agents,
            "node.events": {**agents, "NodeEvents": EVENTS},
            "node.report_allocations": {
                **agents,
                "Alloc": [
                    {"ID": self.ids.get("allocation"), "ClientStatus": "running"}
                ],
            },
            "jobs.register": JOB,
            "job.register": JOB,
            "job.plan": JOB,
            "job.validate": JOB,
            "job.evaluate": {"JobID": "web"},
            "acl.policy_write": POLICY,
            "acl.role_create": {**ROLE, "Name": "another"},
            "acl.role_update": {**ROLE, "ID": role},
            "acl.token_create": TOKEN,
            "acl.token_update": {**TOKEN, "AccessorID": token},
        }
        return bodies.get(name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("described")
    waits = {"blocking_wait_s_default": 0.02, "blocking_wait_s_max": 0.02}
    with running_server(directory, acl_enabled=True, **waits) as server:
        yield World(server)


class Grounding:
    """How far a drawn request is changed into one that gets somewhere."""

    def __init__(self, world: World, draw: st.DataObject) -> None:
        self._world = world
        self._draw = draw

    def apply(self, case: Case[Any]) -> None:
        if self._draw.draw(_MOSTLY):
            if case.path_parameters:
                case.path_parameters["id"] = self._world.known_id(case.path)
            for name in case.query:
                if name in GOOD_VALUES:
                    case.query[name] = self._draw.draw(GOOD_VALUES[name])
            if "http" in case.query:
                case.query["id"] = "server9"
            elif "id" in case.query:
                case.query.pop("address", None)
            # What was drawn for one request would be taken for another one's.
            case.headers.pop("Idempotency-Key", None)
        self._ground_body(case)

    def _ground_body(self, case: Case[Any]) -> None:
        name = _route_name(case.operation)
        if name == "operator.restore_snapshot":
            if self._draw.draw(st.booleans()):
                case.body = self._world.snapshot
            return
        good = self._world.good_body(name)
        if isinstance(case.body, dict) and good is not None:
            case.body = self._mix(good, case.body)

    def _mix(self, good: Any, drawn: Any) -> Any:
        """Return what is good with some fields as they were drawn, at every level."""
        match good, drawn:
            case dict(), dict():
                chosen = self._some_of(drawn)
                mixed = dict(good)
                for name, value in drawn.items():
                    known = good.get(name)
                    if name in chosen or isinstance(known, dict | list):
                        mixed[name] = self._mix(known, value)
                return mixed
            case [first, *rest], [drawn_first, *_]:
                return [self._mix(first, drawn_first), *rest]
            case _:
                return drawn

    def _some_of(self, drawn: Mapping[str, Any]) -> set[str]:
        if not drawn:
            return set()
        names = st.sets(st.sampled_from(sorted(drawn)), max_size=FIELDS_DRAWN_MAX)
        return self._draw.draw(names)


_MOSTLY: Final = st.sampled_from((True, True, True, False))


def _route_name(operation: APIOperation[Any, Any, Any, Any]) -> str:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return str(described["operationId"]).removesuffix(".post").removesuffix(".head")


def operations() -> list[Any]:
    """Return the operations; those last that take away what others need."""
    found = [cast("Any", result).ok() for result in SCHEMA.get_all_operations()]
    found.sort(key=lambda one: (one.method.upper() == "DELETE", "peer" in one.path))
    return [pytest.param(one, id=one.label) for one in found]


def example_counts(operation: Any) -> Mapping[GenerationMode, int]:
    """Return how many of which kind; what is spelt in two ways is tried in one of them."""
    if operation.method.upper() in {"HEAD", "POST"}:
        return {GenerationMode.POSITIVE: EXAMPLES_OF_OTHER_SPELLING}
    return EXAMPLES


def check_no_defect(case: Case[Any], response: Response) -> None:
    """Fail for a defect of the server's: health says 500 of itself, and nothing else does.

    That something is not there (501) is no defect where the document has it.
    """
    status = response.status_code
    if status in OVERLOADED:
        assert response.text == OVERLOADED[status]
    elif status == 500:
        assert case.path == HEALTH, response.text


@pytest.mark.parametrize("operation", operations())
def test_every_request_is_answered_as_the_document_says(world: World, operation: Any):
    if operation.method.upper() not in {"GET", "HEAD"}:
        world.refill()
    for mode, count in example_counts(operation).items():

        @seed(SEED)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def ask(case: Case[Any], data: st.DataObject) -> None:
            Grounding(world, data).apply(case)
            response = case.call(
                base_url=world.url, session=world.session, timeout=ANSWER_S
            )
            check_no_defect(case, response)
            case.validate_response(response, checks=CHECKED)
            world.count(operation.label, response)

        ask()


def test_most_operations_have_done_something(world: World):
    assert len(world.succeeded) > 0.8 * len(world.asked)


def test_the_server_is_well_after_all_this(world: World):
    assert world.server.is_running()
    assert world.list("/v1/nodes") is not None
    assert world.session.get(f"{world.url}/v1/agent/health").status_code == 200
    for defect in ("request failed", "Traceback"):
        assert defect not in world.server.log()
