"""The tables and their secondary indexes."""

from copy import deepcopy

import pytest
from msgspec.structs import replace

from nodestate.fsm.state import TABLES, State, Usage, Work
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobType, JobVersionKey
from nodestate.model.node import NetworkResource, NodeKey
from tests.fsm.entries import N1, N2, id_of, key, node
from tests.fsm.states import full_state
from tests.fsm.work import WEB, resources

KEYS = [NodeKey(f"{start}{number:028x}") for start in ("11aa", "11ab", "22aa") for number in (1, 2)]  # fmt: skip


def state_with(*keys: NodeKey) -> State:
    state = State()
    for node_key in keys:
        state.put_node(node_key, node(node_key))
    return state


def test_a_new_state_is_empty():
    state = State()

    assert [state.table_index(table) for table in TABLES] == [0] * len(TABLES)
    assert state.node(N1) is None
    assert list(state.nodes_under("")) == []
    assert state.allocations_on(N1) == []


def test_nodes_are_in_the_order_of_their_keys():
    state = state_with(*reversed(KEYS))

    assert state.node_keys == KEYS
    assert [found.id for found in state.nodes_under("")] == [id_of(each) for each in KEYS]  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("1", KEYS[:4]),
        ("11", KEYS[:4]),
        ("11aa", KEYS[:2]),
        ("11ab", KEYS[2:4]),
        ("22", KEYS[4:]),
        (KEYS[3], [KEYS[3]]),
        ("00", []),
        ("11b0", []),
        ("ff", []),
    ],
)
def test_nodes_are_found_by_the_start_of_their_key(prefix, found):
    state = state_with(*KEYS)

    assert [each.id for each in state.nodes_under(prefix)] == [id_of(each) for each in found]  # fmt: skip


def test_a_node_written_again_takes_the_others_place():
    state = state_with(N1)
    renamed = node(N1, name="renamed")

    state.put_node(N1, renamed)

    assert state.node(N1) is renamed
    assert state.node_keys == [N1]


def test_a_removed_node_leaves_nothing_behind():
    state = state_with(N1, N2, key(3))
    state.node_secrets[N2] = b"s"

    state.remove_node(N2)

    assert state.node(N2) is None
    assert state.node_keys == [N1, key(3)]
    assert state.node_secrets == {}


def test_allocations_are_found_by_node_in_order():
    state = State()
    for allocation_id, node_key in (("b", N1), ("a", N1), ("c", N2)):
        state.put_allocation(Allocation(id=allocation_id, node_key=node_key))
    state.put_allocation(Allocation(id="a", node_key=N1, client_status="running"))

    assert [(each.id, each.client_status) for each in state.allocations_on(N1)] == [
        ("a", "running"),
        ("b", "pending"),
    ]


def test_jobs_are_told_apart_by_namespace():
    state = State()
    jobs = [Job(id="web"), Job(id="web", namespace="apps")]

    for job in jobs:
        state.put_job(job)

    assert list(state.jobs.values()) == jobs


def test_a_shallow_copy_stays_as_it_was_and_shares_the_records():
    log_state = full_state()
    before = {name: deepcopy(getattr(log_state, name)) for name in State.__slots__}

    copy = log_state.shallow_copy()
    for name in State.__slots__:
        assert getattr(copy, name) == before[name], name
    assert copy.nodes[N2] is log_state.nodes[N2]

    log_state.put_node(key(9), node(key(9)))
    log_state.remove_node(N1)
    log_state.put_job(Job(id="new"))
    log_state.put_allocation(Allocation(id="new", node_key=N2))
    log_state.put_allocation(Allocation(id="newer", node_key=N1))
    for session in log_state.sessions.values():
        session.outcomes.clear()
        session.floor = 99
    log_state.idempotency_keys.clear()
    log_state.indexes["nodes"] = 0
    log_state.evaluations.clear()

    for name in State.__slots__:
        assert getattr(copy, name) == before[name], name


def test_a_node_knows_what_is_taken_of_it():
    network = NetworkResource(device="eth0")
    state = State()
    first = Allocation(id="a", node_key=N1, allocated_resources=resources(100))
    state.put_allocation(first)
    with_network = resources(50, networks=[network])
    state.put_allocation(replace(first, id="b", allocated_resources=with_network))
    assert state.usage_of(N1) == Usage(150, 128, 20, networked=1)

    state.put_allocation(replace(first, client_status="running"))
    assert state.usage_of(N1) == Usage(150, 128, 20, networked=1)
    state.put_allocation(replace(first, allocated_resources=resources(200)))
    assert state.usage_of(N1) == Usage(250, 128, 20, networked=1)
    state.put_allocation(replace(first, client_status="complete"))
    assert state.usage_of(N1) == Usage(50, 64, 10, networked=1)
    state.remove_allocation("b")
    state.remove_allocation("a")

    assert state.usage_of(N1) == Usage()
    assert state.usage_by_node == {}


def test_work_is_counted_by_job():
    state = State()
    state.put_allocation(Allocation(id="a", job_id="web"))
    state.put_evaluation(Evaluation(id="e", job_id="web", status="blocked"))
    assert state.work_of(WEB) == Work(1, 1)
    assert [item.id for item in state.blocked_evaluations()] == ["e"]

    state.put_allocation(Allocation(id="a", job_id="web", desired_status="stop"))
    state.put_evaluation(Evaluation(id="e", job_id="web", status="canceled"))

    assert state.work_of(WEB) == Work()
    assert state.work_by_job == {}
    assert state.blocked_evaluations() == []


def test_an_allocation_moves_between_versions():
    state = State()
    known = Allocation(id="a", job_id="web", job_create_index=5, eval_id="e")
    state.put_allocation(known)

    state.put_allocation(replace(known, job_version=1, eval_id="f"))

    assert state.allocations_by_version.as_sets() == {
        JobVersionKey("default", "web", 5, 1): {"a"}
    }
    assert state.allocations_from("e") == []
    assert [item.id for item in state.allocations_from("f")] == ["a"]


def test_system_jobs_are_found_in_order():
    state = State()
    for id_ in ("b", "a"):
        state.put_job(Job(id=id_, type=JobType.SYSTEM))
    state.put_job(Job(id="c"))

    assert [job.id for job in state.system_jobs()] == ["a", "b"]
    state.remove_job(JobKey(("default", "a")))

    assert [job.id for job in state.system_jobs()] == ["b"]
