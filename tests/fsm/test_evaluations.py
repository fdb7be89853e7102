"""Which evaluations a node's change makes, and their ids."""

import uuid

import pytest
from msgspec.structs import replace

from nodestate.fsm.evaluations import (
    Cause,
    decide_node_evaluations,
    derived_id,
    evolve_evaluation_written,
)
from nodestate.fsm.state import State
from nodestate.model.allocation import Allocation, AllocMetric
from nodestate.model.command import EvaluationChange, UpdateEvaluations
from nodestate.model.evaluation import Evaluation
from nodestate.model.event import EvaluationCreated
from nodestate.model.job import Job, JobKey, JobType
from nodestate.model.outcome import EVALUATION_IS_OLD, RefusalCode
from tests.fsm.entries import N1, N2, SEED, START_NS, id_of, node
from tests.fsm.work import WorkLog, evaluate_job, placement, register_job

CAUSE = Cause(entry_index=77, at_ns=START_NS, seed=SEED)
WEB = JobKey(("default", "web"))


def decide(state: State) -> list[Evaluation]:
    decided = decide_node_evaluations(state, N1, node(), CAUSE, node_modify_index=5)
    return [event.evaluation for event in decided]


def with_allocation(**fields: object) -> State:
    state = State()
    state.put_allocation(
        Allocation(**{"id": "a1", "job_id": "web", "node_key": N1, **fields})  # type: ignore[arg-type]
    )
    return state


def test_an_evaluation_says_what_is_asked_and_why():
    state = with_allocation(namespace="apps", job_type=JobType.BATCH, job_priority=33)

    assert decide(state) == [
        Evaluation(
            id=derived_id(SEED, N1, JobKey(("apps", "web"))),
            namespace="apps",
            priority=33,
            type=JobType.BATCH,
            triggered_by="node-update",
            job_id="web",
            node_id=id_of(N1),
            node_modify_index=5,
            status="pending",
            create_time=START_NS,
            modify_time=START_NS,
            create_index=77,
            modify_index=77,
        )
    ]


@pytest.mark.parametrize(
    ("kind", "desired", "client", "is_made"),
    [
        ("service", "run", "running", True),
        ("service", "run", "failed", True),
        ("service", "stop", "running", True),
        ("service", "stop", "complete", False),
        ("service", "evict", "lost", False),
        ("system", "stop", "failed", False),
        ("batch", "run", "running", True),
        ("batch", "run", "complete", False),
        ("batch", "stop", "running", True),
    ],
)
def test_a_finished_allocation_concerns_nobody(kind, desired, client, is_made):
    state = with_allocation(
        job_type=JobType(kind), desired_status=desired, client_status=client
    )

    assert bool(decide(state)) is is_made


@pytest.mark.row("D7")
@pytest.mark.parametrize(
    ("fields", "is_made"),
    [
        ({}, True),
        ({"stop": True}, False),
        ({"datacenters": ("dc2",)}, False),
        ({"datacenters": ("dc2", "dc1")}, True),
        ({"datacenters": ()}, False),
        ({"type": JobType.SERVICE}, False),
        ({"type": JobType.BATCH}, False),
    ],
)
def test_a_system_job_is_concerned_where_it_wants_to_run(fields, is_made):
    state = State()
    state.put_job(
        Job(**{"id": "logs", "type": JobType.SYSTEM, "datacenters": ("dc1",), **fields})
    )

    assert bool(decide(state)) is is_made


def test_each_job_is_asked_for_once_and_in_order():
    state = State()
    for job_id in ("z", "a"):
        state.put_job(Job(id=job_id, type=JobType.SYSTEM, datacenters=("dc1",)))
    state.put_job(
        Job(id="b", namespace="apps", type=JobType.SYSTEM, datacenters=("dc1",))
    )
    for number, job_id in enumerate(("z", "web", "web")):
        state.put_allocation(
            Allocation(
                id=f"a{number}",
                job_id=job_id,
                job_type=JobType.SYSTEM,
                job_priority=number,
                node_key=N1,
            )
        )

    made = decide(state)

    assert [(each.namespace, each.job_id) for each in made] == [
        ("apps", "b"), ("default", "a"), ("default", "web"), ("default", "z"),
    ]  # fmt: skip
    # Of several allocations the last by id speaks; a job's own record does not.
    assert [each.priority for each in made] == [50, 50, 2, 0]


def test_an_id_is_a_uuid_that_the_seed_alone_gives():
    made = derived_id(SEED, N1, WEB)

    assert made == "e2100d9c-b3ee-4cc8-b218-c16982f78a2b"
    assert str(uuid.UUID(made)) == made
    assert uuid.UUID(made).version == 4
    assert uuid.UUID(made).variant == uuid.RFC_4122


def test_another_seed_node_or_job_gives_another_id():
    made = {
        derived_id(SEED, N1, WEB),
        derived_id(bytes(16), N1, WEB),
        derived_id(SEED, N2, WEB),
        derived_id(SEED, N1, JobKey(("default", "db"))),
        derived_id(SEED, N1, JobKey(("apps", "web"))),
    }

    assert len(made) == 5


def test_what_was_decided_is_written():
    state = State()
    evaluation = Evaluation(id="e1", create_index=9)

    evolve_evaluation_written(state, EvaluationCreated(evaluation), 9)

    assert state.evaluations == {"e1": evaluation}
    assert state.table_index("evaluations") == 9
    assert state.table_index("nodes") == 0


# What becomes of evaluations


def test_an_evaluation_ends_with_what_its_scheduler_says():
    log = WorkLog(register_job())
    before = log.evaluation()

    log.end(status_description="done", queued_allocations={"g": 0})

    after = log.state.evaluations[before.id]
    assert (after.status, after.status_description) == ("complete", "done")
    assert (after.create_index, after.create_time) == (before.create_index, START_NS)
    assert (after.modify_index, after.modify_time) == (log.index, START_NS + 1)


def test_a_new_evaluation_is_stored_as_of_this_entry():
    log = WorkLog(register_job())
    blocked = Evaluation(id="b", job_id="web", status="blocked", create_index=5)
    command = UpdateEvaluations(at_ns=7, changes=(EvaluationChange(blocked),))

    told = log.accept(command)

    stored = log.state.evaluations["b"]
    assert (stored.create_index, stored.modify_index) == (log.index, log.index)
    assert (stored.create_time, stored.modify_time) == (7, 7)
    assert told.eval_ids == ("b",)
    assert log.state.blocked_evaluations() == [stored]


@pytest.mark.parametrize("case", ["moved", "over", "there", "gone"])
def test_a_change_of_what_has_changed_is_passed_over(case):
    log = WorkLog(register_job())
    command = log.ending(status_description="late")
    if case == "moved":
        log.carry_out(placement("a-1"))
    elif case == "over":
        log.end()
        (over,) = log.state.evaluations.values()
        again = EvaluationChange(over, over.modify_index)
        command = UpdateEvaluations(at_ns=7, changes=(again,))
    elif case == "there":
        new = EvaluationChange(log.evaluation())
        command = UpdateEvaluations(at_ns=7, changes=(new,))
    else:
        unknown = EvaluationChange(Evaluation(id="none"), 7)
        command = UpdateEvaluations(at_ns=7, changes=(unknown,))

    assert log.accept(command).index == 0
    refused = log.refuse(replace(command, is_atomic=True))

    assert (refused.code, refused.reason) == (RefusalCode.CONFLICT, EVALUATION_IS_OLD)


@pytest.mark.row("W8")
def test_success_ends_those_that_wait_for_room():
    log = WorkLog(register_job())
    log.end(status="blocked")
    blocked = log.state.blocked_evaluations()[0]
    told = log.accept(evaluate_job())
    (successful,) = told.eval_ids
    ended = replace(log.state.evaluations[successful], status="complete")

    log.accept(
        UpdateEvaluations(
            at_ns=START_NS, changes=(EvaluationChange(ended, ended.modify_index),)
        )
    )

    canceled = log.state.evaluations[blocked.id]
    assert canceled.status == "canceled"
    assert canceled.status_description == f'evaluation "{successful}" successful'
    assert log.state.blocked_evaluations() == []


@pytest.mark.row("EV18")
def test_an_end_with_failures_leaves_those_that_wait():
    log = WorkLog(register_job())
    log.end(status="blocked")
    log.accept(evaluate_job())
    newest = max(log.state.evaluations.values(), key=lambda item: item.create_index)
    failed = replace(newest, status="complete", failed_tg_allocs={"g": AllocMetric()})

    log.accept(
        UpdateEvaluations(
            at_ns=START_NS, changes=(EvaluationChange(failed, newest.modify_index),)
        )
    )

    assert len(log.state.blocked_evaluations()) == 1
