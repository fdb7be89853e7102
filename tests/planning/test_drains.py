"""Which drains are over."""

from typing import Any

import pytest

from nodestate.model.allocation import Allocation
from nodestate.model.command import SERVER, CompletedDrain, CompleteDrains
from nodestate.model.job import JobType
from nodestate.planning.drains import DRAINS_PER_COMMAND_MAX, plan_drain_completions
from tests.fsm.entries import (
    N1,
    N2,
    N3,
    START_NS,
    Log,
    drain,
    key,
    register,
    registration,
)


def draining_with(**fields: Any) -> Log:
    log = Log(register(), drain())
    log.put_allocation(**fields)
    return log


def is_over(log: Log) -> bool:
    return plan_drain_completions(log.state, START_NS) != ()


@pytest.mark.parametrize("deadline", [600 * 10**9, 0, -1, 1])
def test_a_node_with_nothing_on_it_is_done_whatever_its_deadline(deadline):
    log = Log(register(), drain(deadline))

    assert plan_drain_completions(log.state, START_NS + 5) == (
        CompleteDrains(
            at_ns=START_NS + 5,
            asked_by=SERVER,
            drains=(CompletedDrain(N1, log.node().modify_index),),
        ),
    )


def test_nodes_without_a_drain_are_left_alone():
    log = Log(
        register(registration(N1), registration(N2), registration(N3)),
        drain(node_key=N2),
    )

    (command,) = plan_drain_completions(log.state, START_NS)

    assert [each.key for each in command.drains] == [N2]
    assert not is_over(Log(register()))


@pytest.mark.parametrize(
    ("kind", "client", "desired", "is_done"),
    [
        pytest.param("service", "running", "run", False, id="D25:service"),
        pytest.param("batch", "running", "run", False, id="D25:batch"),
        pytest.param("batch", "pending", "run", False, id="D25:pending"),
        pytest.param("service", "running", "stop", False, id="V26:stopping"),
        pytest.param("system", "running", "run", True, id="D24:system"),
        pytest.param("service", "complete", "stop", True, id="D26:complete"),
        pytest.param("service", "failed", "run", True, id="D26:failed"),
        pytest.param("batch", "lost", "stop", True, id="D26:lost"),
    ],
)
def test_what_holds_a_drain_up(kind, client, desired, is_done):
    log = draining_with(
        job_type=JobType(kind), client_status=client, desired_status=desired
    )

    assert is_over(log) is is_done


def test_one_allocation_left_is_enough():
    log = draining_with(client_status="complete")
    log.state.put_allocation(Allocation(id="a2", node_key=N1, client_status="running"))

    assert not is_over(log)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (DRAINS_PER_COMMAND_MAX, [DRAINS_PER_COMMAND_MAX]),
        (DRAINS_PER_COMMAND_MAX + 1, [DRAINS_PER_COMMAND_MAX, 1]),
    ],
)
def test_one_entry_ends_so_many_drains_and_no_more(count, sizes):
    log = Log()
    for number in reversed(range(count)):
        log.state.put_node(key(number), Log(register(), drain()).node())

    commands = plan_drain_completions(log.state, START_NS)

    assert [len(command.drains) for command in commands] == sizes
    keys = [each.key for command in commands for each in command.drains]
    assert keys == [key(number) for number in range(count)]
