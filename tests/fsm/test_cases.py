"""What went wrong in systems like ours, as far as the state machine can do it.

The numbers are those of the collection of public reports that the cases are drawn from.
"""

from typing import Any

import pytest

from nodestate.fsm.snapshot import encode_state
from nodestate.model.command import CompletedDrain
from nodestate.model.encoding import MSGPACK
from nodestate.model.job import JobType
from nodestate.model.node import (
    CpuResources,
    DrainStrategy,
    Driver,
    HostVolume,
    LastDrain,
    NodeResources,
    NodeStatus,
)
from nodestate.model.outcome import REGISTER_SECRET_MISMATCH, RefusalCode, Refused
from nodestate.planning.drains import drain_commands, plan_drains
from tests.fsm.entries import (
    N1,
    N2,
    OTHER_SECRET,
    SECOND_NS,
    SEED,
    START_NS,
    Log,
    complete,
    drain,
    eligibility,
    evaluate,
    miss,
    purge,
    register,
    registration,
    status,
    stop_drain,
)
from tests.planning.works import run

STUCK = "stuck"
WHY = {"why": "disk"}


def drained_log() -> Log:
    """A log with a node that drains and has one allocation that does not go away."""
    log = Log(register())
    log.put_allocation(STUCK, client_status="running")
    log.accept(drain(meta=WHY))
    return log


def strategy_of(log: Log) -> DrainStrategy:
    strategy = log.node().drain_strategy
    assert strategy is not None
    return strategy


def last_drain_of(log: Log) -> LastDrain:
    last_drain = log.node().last_drain
    assert last_drain is not None
    return last_drain


def run_drainer(log: Log) -> None:
    """Do as the leader does."""
    plan = run(plan_drains(log.state, START_NS))
    for command in drain_commands(plan, START_NS, lambda: SEED):
        log.accept(command)


def test_c06_an_agent_that_restarts_undoes_nothing():
    log = drained_log()
    log.accept(register(registration(N2)))
    log.accept(eligibility("ineligible", N2))
    before = log.node()

    log.accept(
        register(
            registration(N1, attributes={"kernel.name": "linux", "new": "1"}),
            registration(N2, scheduling_eligibility="eligible"),
        )
    )

    after = log.node()
    assert after.drain_strategy == before.drain_strategy
    assert after.last_drain == before.last_drain
    assert last_drain_of(log).meta == WHY
    assert after.events == before.events
    assert after.create_index == before.create_index
    assert after.modify_index > before.modify_index
    assert after.attributes == {"kernel.name": "linux", "new": "1"}
    assert after.scheduling_eligibility == "ineligible"
    assert log.node(N2).scheduling_eligibility == "ineligible"


def test_c06_a_node_that_starts_closed_stays_open_once_opened():
    closed = registration(N1, scheduling_eligibility="ineligible")
    log = Log(register(closed))
    assert log.node().scheduling_eligibility == "ineligible"
    log.accept(eligibility("eligible"))

    log.accept(register(closed))

    assert log.node().scheduling_eligibility == "eligible"


def test_c23_d_opening_without_a_drain_leaves_the_last_drain_alone():
    log = Log(register(), drain(meta=WHY), stop_drain())
    log.put_system_job()
    last, lines = last_drain_of(log), log.messages()

    outcome = log.accept(stop_drain(mark_eligible=True, meta={"other": "x"}))

    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]
    assert log.node().scheduling_eligibility == "eligible"
    assert log.node().last_drain == last
    assert last.status == "canceled"
    assert log.messages() == lines


def test_c26_heartbeats_leave_every_byte_alone():
    log = Log(register())
    before = encode_state(log.state)

    for _ in range(1000):
        applied = log.apply(status(NodeStatus.READY))
        assert (applied.events, applied.keys) == ((), ())

    assert encode_state(log.state) == before


def test_c33_closing_a_node_that_drains_is_fine_and_changes_nothing():
    log = drained_log()
    before = encode_state(log.state)

    assert log.refuse(eligibility("eligible")).code is RefusalCode.CONFLICT
    assert log.accept(eligibility("ineligible")).index == 0

    assert encode_state(log.state) == before


@pytest.mark.row("HB10")
def test_c35_a_purged_node_comes_back_clean():
    log = drained_log()
    log.accept(purge())

    assert log.refuse(status(NodeStatus.READY)).reason == "node not found"
    log.accept(register())

    node = log.node()
    assert node.create_index == node.modify_index == log.index
    assert node.scheduling_eligibility == "eligible"
    assert (node.drain_strategy, node.last_drain) == (None, None)
    assert log.messages() == ["Node registered"]


@pytest.mark.parametrize("seconds", [30, 7200])
def test_c38_a_changed_drain_keeps_its_start_and_moves_its_deadline(seconds):
    log = drained_log()
    strategy_before, last_before = strategy_of(log), last_drain_of(log)
    later_ns = START_NS + 600 * SECOND_NS

    log.accept(drain(seconds * SECOND_NS, at_ns=later_ns))

    strategy, last = strategy_of(log), last_drain_of(log)
    assert strategy.started_at == strategy_before.started_at
    assert strategy.force_deadline.ns == later_ns + seconds * SECOND_NS
    assert last.started_at == last_before.started_at
    assert last.updated_at.ns == later_ns // SECOND_NS * SECOND_NS
    assert last.meta == WHY


def test_c39_an_empty_node_is_done_at_once_and_shows_it():
    log = Log(register(), drain(meta=WHY, accessor_id="token:acls-disabled"))

    run_drainer(log)

    node = log.node()
    assert not node.is_draining
    assert node.scheduling_eligibility == "ineligible"
    assert last_drain_of(log).status == "complete"
    assert last_drain_of(log).meta == WHY
    assert last_drain_of(log).accessor_id == "token:acls-disabled"
    assert log.messages()[1:] == ["Node drain strategy set", "Node drain complete"]
    assert node.events[-1].details is None


@pytest.mark.row("DR46")
def test_c43_a_node_that_goes_down_finishes_its_drain():
    log = drained_log()
    log.accept(miss())
    run_drainer(log)
    assert log.node().is_draining

    log.put_allocation(STUCK, client_status="lost")
    run_drainer(log)
    log.accept(status(NodeStatus.READY))

    assert not log.node().is_draining
    assert log.node().status is NodeStatus.READY
    assert log.node().scheduling_eligibility == "ineligible"
    assert last_drain_of(log).status == "complete"


def test_c46_one_evaluation_for_each_job_concerned_and_none_for_others():
    log = Log(register())
    work: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("w1", "web", "running", {}),
        ("w2", "web", "running", {}),
        ("w3", "web", "complete", {"desired_status": "stop"}),
        ("o1", "old", "complete", {"desired_status": "stop"}),
        ("d1", "done", "complete", {"job_type": JobType.BATCH}),
        ("l1", "live", "running", {"job_type": JobType.BATCH, "job_priority": 70}),
        ("h1", "half", "running", {"desired_status": "stop"}),
    )
    for id_, job, client, fields in work:
        log.put_allocation(id_, job_id=job, client_status=client, **fields)
    log.put_system_job("s-run")
    log.put_system_job("s-stopped", stop=True)
    log.put_system_job("s-dc2", datacenters=("dc2",))

    outcome = log.accept(evaluate())

    assert log.evaluated_jobs(outcome.eval_ids) == ["half", "live", "s-run", "web"]
    assert outcome.eval_create_index == outcome.index == log.index
    assert log.state.evaluations[outcome.eval_ids[1]].priority == 70


@pytest.mark.row("HB7")
def test_c66_a_node_that_is_back_gets_its_system_jobs():
    log = Log(register())
    log.put_system_job()
    log.accept(miss())

    outcome = log.accept(status(NodeStatus.READY))

    assert log.messages()[-1] == "Node reregistered by heartbeat"
    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]


def test_c70_a_clone_is_refused_until_the_first_is_purged():
    log = Log(register())
    clone = registration(secret=OTHER_SECRET, attributes={"cloned": "1"})
    before = encode_state(log.state)

    outcome = log.accept(register(clone))

    (result,) = outcome.registrations
    assert result.refused == Refused(RefusalCode.FORBIDDEN, REGISTER_SECRET_MISMATCH)
    assert encode_state(log.state) == before
    refusal = log.refuse(status(NodeStatus.READY, secret=OTHER_SECRET))
    assert refusal.code is RefusalCode.FORBIDDEN
    log.accept(purge())
    assert log.accept(register(clone)).registrations[0].refused is None


def test_c90_two_nodes_may_have_one_name_and_change_it():
    log = Log(
        register(registration(N1, name="db1", status=NodeStatus.DOWN)),
        register(registration(N2, name="db1")),
    )
    log.put_system_job()
    created = log.node(N2).create_index

    outcome = log.accept(register(registration(N2, name="db2")))

    assert (log.node(N1).name, log.node(N2).name) == ("db1", "db2")
    assert log.node(N2).create_index == created
    assert log.evaluated_jobs(outcome.eval_ids) == ["logs"]


def test_c92_ten_lines_are_kept_and_the_time_moves():
    log = Log(register())

    for second in range(1, 13):
        word = "ineligible" if second % 2 else "eligible"
        log.accept(eligibility(word, at_ns=START_NS + second * SECOND_NS))
    log.accept(drain(at_ns=START_NS + 20 * SECOND_NS))
    log.accept(stop_drain(at_ns=START_NS + 21 * SECOND_NS))

    node = log.node()
    assert len(node.events) == 10
    assert node.events[-1].create_index == log.index
    assert [event.create_index for event in node.events] == list(
        range(log.index - 9, log.index + 1)
    )
    assert node.status_updated_at == START_NS // SECOND_NS + 21


def test_c93_a_drain_changes_nothing_else():
    fields: dict[str, Any] = {
        "meta": {"rack": "1"},
        "links": {"consul": "x"},
        "drivers": {"exec": Driver(detected=True)},
        "host_volumes": {"v": HostVolume(name="v")},
        "node_pool": "gpu",
    }
    log = Log(register(registration(**fields)))
    before = log.node()

    log.accept(drain())
    log.accept(register(registration(**fields | {"meta": {"rack": "1", "new": "2"}})))
    log.accept(stop_drain())

    changed = {
        name
        for name in before.__struct_fields__
        if MSGPACK.encode(getattr(before, name))
        != MSGPACK.encode(getattr(log.node(), name))
    }
    assert changed <= {
        "meta",
        "last_drain",
        "scheduling_eligibility",
        "events",
        "status_updated_at",
        "modify_index",
    }
    assert log.node().meta == {"rack": "1", "new": "2"}


def test_c94_a_finished_drain_opens_nobodys_closed_node():
    log = Log(register(), eligibility("ineligible"), drain())

    log.accept(complete(CompletedDrain(N1, log.node().modify_index)))

    assert log.node().scheduling_eligibility == "ineligible"


def test_c96_what_a_node_has_is_no_reason_to_look_at_system_jobs():
    log = Log(register())
    log.put_system_job()
    more = NodeResources(cpu=CpuResources(cpu_shares=9000))

    assert log.accept(register()).eval_ids == ()
    changed = log.accept(register(registration(meta={"role": "db"})))
    assert log.evaluated_jobs(changed.eval_ids) == ["logs"]
    same = registration(meta={"role": "db"}, node_resources=more)
    assert log.accept(register(same)).eval_ids == ()


def test_a_node_twice_in_a_batch_has_its_jobs_looked_at_once():
    log = Log()
    log.put_system_job()

    outcome = log.accept(
        register(registration(name="a"), registration(name="b", meta={"c": "d"}))
    )

    assert [len(result.eval_ids) for result in outcome.registrations] == [1, 0]
    assert len(log.state.evaluations) == 1
