import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from nodestate.agents.fates import Behaviour, Span
from nodestate.agents.work import Phase, TaskMachine
from nodestate.model.allocation import DeploymentStatus
from tests.agents.assigned import SECOND, assigned

START = 1_700_000_000 * SECOND
STEADY = Behaviour(
    start=Span(SECOND, SECOND),
    run=Span(20 * SECOND, 20 * SECOND),
    life=Span(5 * SECOND, 5 * SECOND),
    kill=Span(2 * SECOND, 2 * SECOND),
)
FAILING = replace(STEADY, failure_rate=1.0, exit_codes=(3,))
CRASHING = replace(STEADY, crash_rate=1.0)


def machine(*args, behaviour=STEADY, now=0, **fields) -> TaskMachine:
    return TaskMachine(
        assigned(*args, **fields), behaviour, "seed", START + now * SECOND
    )


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def steps(work: TaskMachine, until: float) -> list[tuple[float, str]]:
    """Return the client status after each step, and when it was due."""
    seen = []
    while work.due_at_ns is not None and work.due_at_ns <= at(until):
        due_ns = work.due_at_ns
        work.advance(due_ns)
        seen.append(((due_ns - START) / SECOND, work.client_status))
    return seen


def as_stored(work: TaskMachine, **fields):
    """Return the allocation as the servers have it after the report."""
    report, revision = work.report()
    work.confirm(revision)
    stored = replace(
        work._assignment,
        client_status=report.client_status,
        task_states=report.task_states,
        deployment_status=report.deployment_status,
    )
    return replace(stored, **fields)


def test_a_new_allocation_is_reported_as_received():
    work = machine(tasks=("a", "b"))

    report, _ = work.report()

    assert work.is_unreported
    assert report.client_status == "pending"
    assert report.client_description == "No tasks have started"
    assert {task.state for task in report.task_states.values()} == {"pending"}


def test_a_service_starts_becomes_healthy_and_goes_on():
    work = machine()

    assert steps(work, 1000) == [(1, "running"), (11, "running")]
    report, _ = work.report()
    assert report.deployment_status is not None
    assert report.deployment_status.healthy is True
    assert report.deployment_status.timestamp.ns == at(11)
    assert work.due_at_ns is None


def test_a_batch_task_ends_and_has_no_health():
    work = machine("batch")

    assert steps(work, 1000) == [(1, "running"), (21, "complete")]
    report, _ = work.report()
    assert report.deployment_status is None
    assert report.task_states["web"].is_successful
    assert work.is_over


def test_what_fails_is_restarted_as_often_as_its_policy_says():
    work = machine("batch", behaviour=FAILING)

    assert steps(work, 1000) == [
        (1, "running"),
        (6, "pending"),
        (22, "running"),  # 15 s of delay, 1 s to start
        (27, "pending"),
        (43, "running"),
        (48, "failed"),
    ]
    report, _ = work.report()
    assert report.task_states["web"].failed
    assert report.task_states["web"].restarts == 2
    lines = report.task_states["web"].events
    assert lines is not None
    assert lines[-2].exit_code == 3


def test_restarts_begin_anew_with_each_interval():
    policy = {
        "Attempts": 1,
        "Interval": 10 * SECOND,
        "Delay": 15 * SECOND,
        "Mode": "fail",
    }
    work = machine("batch", group={"RestartPolicy": policy}, behaviour=FAILING)

    assert "failed" not in dict(steps(work, 200)).values()


def test_a_policy_may_wait_for_the_next_interval():
    policy = {"Attempts": 0, "Interval": 60 * SECOND, "Delay": SECOND, "Mode": "delay"}
    work = machine("batch", group={"RestartPolicy": policy}, behaviour=FAILING)

    assert steps(work, 80)[:3] == [(1, "running"), (6, "pending"), (67, "running")]


def test_a_failed_service_was_not_healthy():
    work = machine(behaviour=FAILING)

    assert steps(work, 1000)[-1] == (48, "failed")
    report, _ = work.report()
    assert report.deployment_status is not None
    assert report.deployment_status.healthy is False


def test_a_crash_starts_the_time_to_be_healthy_again():
    work = machine(behaviour=CRASHING)

    assert steps(work, 1000) == [
        (1, "running"),
        (6, "pending"),
        (22, "running"),
        (32, "running"),
    ]
    report, _ = work.report()
    assert report.deployment_status is not None
    assert report.deployment_status.healthy is True


def test_what_is_not_healthy_by_its_deadline_is_unhealthy():
    migrate = {"MinHealthyTime": 50 * SECOND, "HealthyDeadline": 20 * SECOND}
    work = machine(group={"Migrate": migrate})

    assert steps(work, 1000) == [(1, "running"), (20, "running")]
    report, _ = work.report()
    assert report.deployment_status is not None
    assert report.deployment_status.healthy is False


def test_one_task_fails_and_takes_the_others_with_it():
    policy = {"Attempts": 0, "Interval": SECOND, "Delay": SECOND, "Mode": "fail"}
    work = machine(
        tasks=("a", "b", "c"), group={"RestartPolicy": policy}, behaviour=FAILING
    )

    steps(work, 100)

    report, _ = work.report()
    assert {task.state for task in report.task_states.values()} == {"dead"}
    assert sum(task.failed for task in report.task_states.values()) == 1


def test_the_others_run_on_while_one_task_is_restarted():
    work = machine(tasks=("a", "b"), behaviour=FAILING)

    assert steps(work, 6)[-1] == (6, "running")
    report, _ = work.report()
    assert sorted(task.state for task in report.task_states.values()) == [
        "pending",
        "running",
    ]


@pytest.mark.parametrize("desired", ["stop", "evict"])
def test_what_is_told_to_stop_is_complete_once_it_has_stopped(desired):
    work = machine()
    steps(work, 30)

    work.see(as_stored(work, desired_status=desired), at(40))

    assert not work.is_unreported
    assert steps(work, 1000) == [(42, "complete")]
    assert work.is_unreported
    report, _ = work.report()
    lines = report.task_states["web"].events
    assert lines is not None
    assert [line.type for line in lines][-2:] == [
        "Killing",
        "Killed",
    ]


def test_a_stop_said_twice_is_not_put_off():
    work = machine()
    steps(work, 30)
    stopped = as_stored(work, desired_status="stop")

    work.see(stopped, at(40))
    work.see(stopped, at(41))

    assert steps(work, 1000) == [(42, "complete")]


def test_what_has_not_started_stops_at_once():
    work = machine()

    work.see(as_stored(work, desired_status="stop"), at(0.5))
    work.advance(at(0.5))

    assert work.client_status == "complete"


def test_a_lost_allocation_that_runs_is_stopped_and_reported():
    work = machine()
    steps(work, 30)

    work.see(as_stored(work, desired_status="stop", client_status="lost"), at(40))

    assert steps(work, 1000) == [(42, "complete")]


def test_one_that_ended_while_it_was_given_up_is_reported_again():
    work = machine("batch")
    steps(work, 1000)
    stored = as_stored(work)
    assert not work.is_unreported

    work.see(replace(stored, desired_status="stop", client_status="lost"), at(50))

    assert work.is_unreported
    assert work.report()[0].client_status == "complete"


def test_a_report_is_due_until_it_is_confirmed_and_again_after_the_next_step():
    work = machine()
    _, revision = work.report()
    work.advance(at(1))

    work.confirm(revision)

    assert work.is_unreported
    work.confirm(work.report()[1])
    assert not work.is_unreported


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_what_was_over_is_over_for_a_node_that_has_forgotten_it(status):
    work = machine(ClientStatus=status, TaskStates={"web": {"State": "dead"}})

    assert work.is_over
    assert not work.is_unreported
    assert work.due_at_ns is None


def test_a_lost_allocation_is_stopped_by_a_node_that_has_forgotten_it():
    work = machine(ClientStatus="lost", DesiredStatus="stop")

    work.advance(at(0))

    assert work.client_status == "complete"
    assert work.is_unreported


@pytest.mark.parametrize("kind", ["service", "batch"])
@pytest.mark.parametrize("behaviour", [STEADY, FAILING, CRASHING])
def test_a_node_that_was_started_again_goes_on_as_if_nothing_had_been(kind, behaviour):
    """Where work runs: what has not begun to run begins to start again."""
    work = machine(kind, behaviour=behaviour)
    steps(work, 5)
    again = TaskMachine(as_stored(work), behaviour, "seed", at(5))

    assert not again.is_unreported
    assert again.phase is Phase.RUNNING
    assert again.due_at_ns == work.due_at_ns
    assert steps(again, 1000) == steps(work, 1000)


def test_one_that_waits_to_be_restarted_starts_when_its_node_has_forgotten_it():
    work = machine(behaviour=CRASHING)
    steps(work, 7)
    again = TaskMachine(as_stored(work), CRASHING, "seed", at(8))

    assert (again.phase, again.client_status) == (Phase.STARTING, "pending")
    assert steps(again, 10) == [(9, "running")]
    assert again.report()[0].task_states["web"].restarts == 1


def test_health_that_is_known_is_not_judged_again():
    work = machine(
        ClientStatus="running",
        TaskStates={"web": {"State": "running", "StartedAt": "2023-11-14T22:13:20Z"}},
        DeploymentStatus={"Healthy": False},
    )

    assert work.due_at_ns is None
    assert work.report()[0].deployment_status == DeploymentStatus(healthy=False)


def test_everything_is_as_fast_as_it_is_told_to_be():
    work = machine(behaviour=replace(STEADY, speed=10.0))

    assert steps(work, 1000) == [(0.1, "running"), (1.1, "running")]


def test_the_time_to_be_healthy_may_be_given():
    work = machine(behaviour=replace(STEADY, healthy_after_ns=2 * SECOND))

    assert steps(work, 1000) == [(1, "running"), (3, "running")]


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(st.integers(0, 200_000), max_size=12),
    kind=st.sampled_from(["service", "batch", "system"]),
    seed=st.integers(0, 10**6).map(str),
)
def test_how_often_somebody_looks_changes_nothing(looks, kind, seed):
    behaviour = Behaviour(failure_rate=0.3, crash_rate=0.3)
    looked_at = TaskMachine(assigned(kind), behaviour, seed, START)
    left_alone = TaskMachine(assigned(kind), behaviour, seed, START)

    for milliseconds in sorted(looks):
        looked_at.advance(START + milliseconds * 1_000_000)
    looked_at.advance(at(200))
    left_alone.advance(at(200))

    assert msgspec.to_builtins(looked_at.report()[0], enc_hook=repr) == (
        msgspec.to_builtins(left_alone.report()[0], enc_hook=repr)
    )
