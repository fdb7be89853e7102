"""The table of who may do what: every route, asked by every kind of caller.

The expectations are written from what Nomad documents for each endpoint, by method and
path, and know nothing of the needs in the table of routes.
"""

from collections.abc import Mapping
from typing import Final

import pytest

from nodestate.api.routes import DELETES, PUTS, READS, ROUTES, WRITES, Route
from tests.api.conftest import NODE_ID, SECRET, Answer, ApiFactory, node_body
from tests.api.guarding import KINDS, Guarded, guard
from tests.fsm.acls import uuid

READING: Final = frozenset({"read", "write", "management"})
WRITING: Final = frozenset({"write", "management"})
AGENTS: Final = frozenset({"own agent", "other agent"})
NO_TOKENS: Final = frozenset({"malformed", "unknown", "accessor", "expired", "deleted"})
VALID: Final = frozenset(KINDS) - NO_TOKENS - AGENTS

LETS_THROUGH: Final[Mapping[str, frozenset[str]]] = {
    "open": frozenset(KINDS),
    "the node's secret in the body": frozenset(KINDS),
    "any token": VALID,
    "node read": READING,
    "node read, or any node's secret": READING | AGENTS,
    "node read, or the node's secret": READING | {"own agent"},
    "node write": WRITING,
    "node write, or the node's secret": WRITING | {"own agent"},
    "list-jobs": READING,
    "read-job": READING,
    "submit-job": WRITING,
    "read-job, else as if not there; or any node's secret": VALID | AGENTS,
    "alloc-lifecycle": WRITING,
    "agent read": READING,
    "agent write": WRITING,
    "operator read": READING,
    "operator write": WRITING,
    "snapshot-save": WRITING,
    "any of the contexts": READING,
    "anything in the namespace": READING,
    "node pool read": READING,
    "node read, and node pool read": READING,
    "its own token": frozenset({"read", "management"}),
    "its own policy": frozenset({"read", "management"}),
    "its own role": frozenset({"management"}),
    "management": frozenset({"management"}),
}
"""Which of `KINDS` may pass, by what an endpoint takes."""

READ, WRITE, DELETE = "read", "write", "delete"
EXPECTED: Final[Mapping[tuple[str, str], str]] = {
    (READ, "/v1/nodes"): "node read",
    (WRITE, "/v1/nodes"): "the node's secret in the body",
    (READ, "/v1/node/:id"): "node read, or any node's secret",
    (READ, "/v1/node/:id/allocations"): "node read, or the node's secret",
    (WRITE, "/v1/node/:id/allocations"): "the node's secret in the body",
    (WRITE, "/v1/node/:id/evaluate"): "node write",
    (READ, "/v1/node/:id/drain"): "node read",
    (WRITE, "/v1/node/:id/drain"): "node write, or the node's secret",
    (WRITE, "/v1/node/:id/purge"): "node write",
    (WRITE, "/v1/node/:id/eligibility"): "node write",
    (WRITE, "/v1/node/:id/heartbeat"): "the node's secret in the body",
    (WRITE, "/v1/node/:id/events"): "the node's secret in the body",
    (READ, "/v1/jobs"): "list-jobs",
    (WRITE, "/v1/jobs"): "submit-job",
    (WRITE, "/v1/jobs/parse"): "open",
    (WRITE, "/v1/validate/job"): "read-job",
    (READ, "/v1/job/*id"): "read-job",
    (WRITE, "/v1/job/*id"): "submit-job",
    (DELETE, "/v1/job/*id"): "submit-job",
    (READ, "/v1/job/*id/allocations"): "read-job",
    (READ, "/v1/job/*id/evaluations"): "read-job",
    (READ, "/v1/job/*id/summary"): "read-job",
    (READ, "/v1/job/*id/versions"): "read-job",
    (READ, "/v1/job/*id/deployments"): "read-job",
    (READ, "/v1/job/*id/deployment"): "read-job",
    (WRITE, "/v1/job/*id/evaluate"): "submit-job",
    (WRITE, "/v1/job/*id/plan"): "submit-job",
    (READ, "/v1/allocations"): "read-job",
    (READ, "/v1/allocation/:id"): (
        "read-job, else as if not there; or any node's secret"
    ),
    (WRITE, "/v1/allocation/:id/stop"): "alloc-lifecycle",
    (READ, "/v1/evaluations"): "read-job",
    (READ, "/v1/evaluation/:id"): "read-job",
    (READ, "/v1/evaluation/:id/allocations"): "read-job",
    (WRITE, "/v1/search"): "any of the contexts",
    (WRITE, "/v1/search/fuzzy"): "any of the contexts",
    (READ, "/v1/namespaces"): "any token",
    (WRITE, "/v1/namespace"): "management",
    (READ, "/v1/namespace/:id"): "anything in the namespace",
    (WRITE, "/v1/namespace/:id"): "management",
    (DELETE, "/v1/namespace/:id"): "management",
    (READ, "/v1/node/pools"): "any token",
    (WRITE, "/v1/node/pools"): "management",
    (READ, "/v1/node/pool/:id"): "node pool read",
    (WRITE, "/v1/node/pool/:id"): "management",
    (DELETE, "/v1/node/pool/:id"): "management",
    (READ, "/v1/node/pool/:id/nodes"): "node read, and node pool read",
    (READ, "/v1/node/pool/:id/jobs"): "read-job",
    (READ, "/v1/deployments"): "read-job",
    (READ, "/v1/deployment/*id"): "read-job",
    (WRITE, "/v1/deployment/*id"): "submit-job",
    (READ, "/v1/volumes"): "read-job",
    (READ, "/v1/plugins"): "any token",
    (READ, "/v1/client/stats"): "node read",
    (READ, "/v1/client/gc"): "node write",
    (READ, "/v1/client/metadata"): "node read",
    (READ, "/v1/client/allocation/*id"): (
        "read-job, else as if not there; or any node's secret"
    ),
    (WRITE, "/v1/client/allocation/*id"): (
        "read-job, else as if not there; or any node's secret"
    ),
    (READ, "/v1/client/fs/*id"): (
        "read-job, else as if not there; or any node's secret"
    ),
    (READ, "/v1/status/leader"): "open",
    (READ, "/v1/status/peers"): "open",
    (READ, "/v1/regions"): "open",
    (READ, "/v1/metrics"): "open",
    (READ, "/v1/openapi.json"): "open",
    (READ, "/v1/agent/health"): "open",
    (READ, "/v1/agent/members"): "node read",
    (READ, "/v1/agent/self"): "agent read",
    (READ, "/v1/agent/servers"): "agent read",
    (WRITE, "/v1/agent/servers"): "agent write",
    (WRITE, "/v1/agent/join"): "open",
    (WRITE, "/v1/agent/force-leave"): "agent write",
    (READ, "/v1/operator/raft/configuration"): "management",
    (DELETE, "/v1/operator/raft/peer"): "management",
    (WRITE, "/v1/operator/raft/peer"): "management",
    (WRITE, "/v1/operator/raft/transfer-leadership"): "management",
    (READ, "/v1/operator/autopilot/configuration"): "operator read",
    (WRITE, "/v1/operator/autopilot/configuration"): "operator write",
    (READ, "/v1/operator/autopilot/health"): "operator read",
    (READ, "/v1/operator/scheduler/configuration"): "operator read",
    (WRITE, "/v1/operator/scheduler/configuration"): "operator write",
    (READ, "/v1/operator/snapshot"): "snapshot-save",
    (WRITE, "/v1/operator/snapshot"): "management",
    (WRITE, "/v1/system/gc"): "management",
    (WRITE, "/v1/system/reconcile/summaries"): "management",
    (WRITE, "/v1/acl/bootstrap"): "open",
    (READ, "/v1/acl/policies"): "any token",
    (READ, "/v1/acl/policy/:id"): "its own policy",
    (WRITE, "/v1/acl/policy/:id"): "management",
    (DELETE, "/v1/acl/policy/:id"): "management",
    (READ, "/v1/acl/tokens"): "management",
    (WRITE, "/v1/acl/token"): "management",
    (READ, "/v1/acl/token/self"): "any token",
    (READ, "/v1/acl/token/:id"): "its own token",
    (WRITE, "/v1/acl/token/:id"): "management",
    (DELETE, "/v1/acl/token/:id"): "management",
    (READ, "/v1/acl/roles"): "any token",
    (WRITE, "/v1/acl/role"): "management",
    (READ, "/v1/acl/role/name/:id"): "its own role",
    (READ, "/v1/acl/role/:id"): "its own role",
    (WRITE, "/v1/acl/role/:id"): "management",
    (DELETE, "/v1/acl/role/:id"): "management",
}
"""What each endpoint takes. A path that is not served yet may be here already."""

_SORT: Final = {READS: READ, WRITES: WRITE, PUTS: WRITE, DELETES: DELETE}
_PROOF: Final = {
    "SecretID": SECRET,
    "Node": node_body(),
    "NodeEvents": [{"Message": "m"}],
    "Alloc": [{"ID": uuid(1), "ClientStatus": "running"}],
}


def what_it_takes(route: Route) -> str:
    key = _SORT[route.methods], route.path
    assert key in EXPECTED, f"say in EXPECTED what {key} takes"
    return EXPECTED[key]


@pytest.fixture
async def guarded(make_api: ApiFactory) -> Guarded:
    return await guard(await make_api(acl_enabled=True))


def path_of(guarded: Guarded, route: Route) -> str:
    """Return a path that leads to something, where there is something of the kind."""
    evaluations = guarded.api.replica.state().evaluations.values()
    ids = {
        "/v1/node/": NODE_ID,
        "/v1/job/": "web",
        "/v1/allocation/": guarded.allocation_of("web"),
        "/v1/evaluation/": next(
            one.id for one in evaluations if one.namespace == "default"
        ),
        "/v1/acl/policy/": "reading",
        "/v1/acl/token/": uuid(4),
        "/v1/acl/role/": uuid(1),
        "/v1/acl/role/name/": "nobody",
        "/v1/node/pool/": "default",
        "/v1/namespace/": "default",
        "/v1/deployment/": uuid(1),
        "/v1/client/allocation/": f"{guarded.allocation_of('web')}/stats",
        "/v1/client/fs/": f"ls/{guarded.allocation_of('web')}",
    }
    for mark in (":id", "*id"):
        prefix, found, tail = route.path.partition(mark)
        if found:
            return f"{prefix}{ids[prefix]}{tail}"
    return route.path


def refusal_of(kind: str) -> str:
    """Return what is said to who may not."""
    is_known = kind in VALID or kind == "expired"
    return "Permission denied" if is_known else "ACL token not found"


def verdict(answer: Answer) -> str:
    return answer.text if answer.status == 403 else "let through"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_lets_through_who_may_and_nobody_else(guarded, route):
    allowed = LETS_THROUGH[what_it_takes(route)]
    path = path_of(guarded, route)
    body = _PROOF if _SORT[route.methods] == WRITE else None
    expected, found = {}, {}
    # First who may not: who may is about to change what there is.
    for kind in sorted(KINDS, key=lambda kind: (kind in allowed, kind == "management")):
        expected[kind] = "let through" if kind in allowed else refusal_of(kind)
        method = route.methods[0]
        found[kind] = verdict(await guarded.ask(method, path, KINDS[kind], body))

    assert found == expected


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_method_of_a_route_asks_the_same(guarded, route):
    allowed = LETS_THROUGH[what_it_takes(route)]
    path = path_of(guarded, route)
    kind = next((kind for kind in ("deny", "unknown") if kind not in allowed), None)
    if kind is None:
        return
    before = guarded.api.replica.applied_index()

    for method in route.methods:
        answer = await guarded.ask(method, path, KINDS[kind], "no JSON")
        assert answer.status == 403
    assert guarded.api.replica.applied_index() == before


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_without_acls_nobody_is_asked(make_api, route):
    """But agents have to prove themselves, and there are no ACLs to ask about."""
    guarded = await guard(await make_api())
    path = path_of(guarded, route)
    body = _PROOF if _SORT[route.methods] == WRITE else None

    answer = await guarded.ask(route.methods[0], path, "nonsense", body)

    assert answer.status != 403


def test_every_word_is_used_and_every_expectation_has_one():
    assert set(EXPECTED.values()) == set(LETS_THROUGH)


def test_no_route_is_without_an_expectation():
    assert [route.name for route in ROUTES if not what_it_takes(route)] == []
