"""What holds whatever happens to jobs, nodes and drains; numbers as in section 8.4."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace
from typing_extensions import override

from nodestate.model.command import Command, MarkAllocations
from nodestate.model.job import JobKey, JobType, MigrateStrategy, TaskGroup
from nodestate.model.node import NetworkResource, Node, NodeStatus, Port
from nodestate.model.outcome import Outcome
from tests.planning.clusters import Cluster, roomy
from tests.planning.invariants import Before, check_rest
from tests.planning.works import SECOND_NS, group, job, with_command

NODES = range(1, 5)
KINDS = {"web": JobType.SERVICE, "bat": JobType.BATCH, "sys": JobType.SYSTEM}
MAX_PARALLEL = 2

pytestmark = pytest.mark.slow


def key(id_: str) -> JobKey:
    return JobKey(("default", id_))


def group_of(kind: JobType, count: int, **fields: Any):
    is_service = kind is JobType.SERVICE
    migrate = MigrateStrategy(max_parallel=MAX_PARALLEL) if is_service else None
    wanted = group(
        count=min(count, 1) if kind is JobType.SYSTEM else count,
        migrate=migrate,
        **fields,
    )
    return with_port(wanted) if kind is JobType.BATCH else wanted


def with_port(wanted: TaskGroup) -> TaskGroup:
    """The group with a port that there is once on each node."""
    network = NetworkResource(mbits=1, reserved_ports=[Port(label="p", value=8080)])
    (task,) = wanted.tasks
    assert task.resources is not None
    resources = replace(task.resources, networks=[network])
    return replace(wanted, tasks=(replace(task, resources=resources),))


def home(number: int, cpu: int = 400) -> Node:
    """A node with a network."""
    bare = roomy(number, cpu=cpu)
    assert bare.node_resources is not None
    network = NetworkResource(device="eth0", cidr=f"10.0.0.{number}/32", mbits=1000)
    return replace(
        bare, node_resources=replace(bare.node_resources, networks=[network])
    )


class Watched(Cluster):
    """A cluster whose every entry is looked at."""

    @override
    def apply(self, command: Command) -> Outcome:
        before = Before(self.state)
        outcome = super().apply(command)
        before.check(self.state, command)
        return outcome


Step = Callable[[Watched], object]

counts = st.integers(0, 6)
numbers = st.sampled_from(NODES)
job_ids = st.sampled_from(sorted(KINDS))


def registering(id_: str, count: int, *, is_changed: bool) -> Step:
    kind = KINDS[id_]
    wanted = job(group_of(kind, count), id=id_, name=id_, kind=kind)
    if is_changed:
        wanted = with_command(wanted)
    return lambda cluster: cluster.register(wanted)


def deregistering(id_: str, *, is_purge: bool) -> Step:
    return lambda cluster: (
        cluster.deregister(key(id_), is_purge=is_purge)
        if key(id_) in cluster.state.jobs
        else None
    )


def where_there_is(number: int, act: Callable[[Watched, int], object]) -> Step:
    return lambda cluster: (
        act(cluster, number) if cluster.state.node(cluster.key(number)) else None
    )


def opened(cluster: Watched, number: int) -> None:
    node = cluster.state.nodes[cluster.key(number)]
    if not node.is_draining:
        cluster.set_eligibility(number, "eligible")


def failing(position: int) -> Step:
    def act(cluster: Watched) -> None:
        live = [
            one
            for id_ in KINDS
            for one in cluster.live(key(id_))
            if cluster.state.node(one.node_key) is not None
        ]
        if live:
            cluster.fail(live[position % len(live)])

    return act


def passing(seconds: int) -> Step:
    def act(cluster: Watched) -> None:
        cluster.now_ns += seconds * SECOND_NS

    return act


happenings: st.SearchStrategy[Step] = st.one_of(
    st.builds(registering, job_ids, counts, is_changed=st.booleans()),
    st.builds(deregistering, job_ids, is_purge=st.booleans()),
    numbers.map(lambda n: lambda cluster: cluster.add(home(n))),
    numbers.map(
        lambda n: where_there_is(n, lambda c, n: c.set_status(n, NodeStatus.DOWN))
    ),
    numbers.map(
        lambda n: where_there_is(n, lambda c, n: c.set_status(n, NodeStatus.READY))
    ),
    numbers.map(lambda n: where_there_is(n, lambda c, n: c.purge(n))),
    st.tuples(numbers, st.sampled_from([-1, 0, 30, 3600])).map(
        lambda both: where_there_is(both[0], lambda c, n: c.drain(n, both[1]))
    ),
    st.tuples(numbers, st.booleans()).map(
        lambda both: where_there_is(
            both[0], lambda c, n: c.stop_drain(n, mark_eligible=both[1])
        )
    ),
    numbers.map(
        lambda n: where_there_is(n, lambda c, n: c.set_eligibility(n, "ineligible"))
    ),
    numbers.map(lambda n: where_there_is(n, opened)),
    st.integers(0, 20).map(failing),
    st.sampled_from([1, 10, 60]).map(passing),
    st.just(lambda cluster: cluster.obey()),
)
"""What clients and agents do."""

steps = st.one_of(
    happenings,
    st.just(lambda cluster: cluster.settle()),
    st.just(lambda cluster: cluster.move()),
    st.just(lambda cluster: cluster.lead()),
)


def fresh() -> Watched:
    cluster = Watched()
    cluster.add(*[home(number) for number in NODES])
    for id_, kind in KINDS.items():
        registering(id_, 2, is_changed=False)(cluster)
        assert kind
    return cluster


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=25), st.sampled_from([1, 256]))
def test_whatever_happens(history, placements_max):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nodestate.planning.drafts.PLACEMENTS_MAX", placements_max)
        patch.setattr("nodestate.planning.drafts.STOPS_MAX", placements_max)
        cluster = fresh()
        for step in history:
            step(cluster)

        cluster.rest()

    check_rest(cluster.state)


@pytest.mark.row("M18")
@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=20))
def test_at_rest_nothing_is_written(history):
    """10: whoever leads, a new leader among them."""
    cluster = fresh()
    for step in history:
        step(cluster)
    cluster.rest()
    # The first one may find that what waits has no need any more: batch work that was
    # told to move counts as done once its agent reports it over.
    look_at_what_waits(cluster)
    written = cluster.index

    look_at_what_waits(cluster)

    assert cluster.index == written


def look_at_what_waits(cluster: Watched) -> None:
    """Do as a new leader does."""
    for evaluation in cluster.evaluations("blocked"):
        cluster.evaluate(evaluation)
    cluster.rest()


@settings(max_examples=200, deadline=None)
@given(
    history=st.lists(steps, max_size=15),
    drained=st.sets(numbers, min_size=1, max_size=2),
    deadline_s=st.sampled_from([-1, 600, 0]),
)
def test_with_room_and_agents_every_drain_ends_and_leaves_nothing(
    history, drained, deadline_s
):
    """9."""
    cluster = fresh()
    for step in history:
        step(cluster)
    cluster.add(*[home(number, cpu=10_000) for number in range(10, 14)])
    for number in set(drained) | set(NODES):
        cluster.add(home(number))
        cluster.set_status(number, NodeStatus.READY)
    # Batch work ends by itself only if somebody ends it, and failures fill names up.
    if key("bat") in cluster.state.jobs:
        cluster.deregister(key("bat"))
    cluster.rest()
    cluster.now_ns += 7200 * SECOND_NS
    cluster.rest()

    for number in drained:
        cluster.drain(number, deadline_s)
    cluster.rest()

    for number in drained:
        node = cluster.state.nodes[cluster.key(number)]
        assert not node.is_draining
        assert node.scheduling_eligibility == "ineligible"
        left = [one for one in cluster.on(number) if not one.is_client_terminal]
        assert left == []
    wanted = cluster.state.jobs.get(key("web"))
    if wanted is not None and not wanted.stop:
        assert len(cluster.live(key("web"))) == wanted.task_groups[0].count


@pytest.mark.row("DR68")
def test_a_drain_is_the_same_for_a_leader_that_changes_at_every_step():
    """DR68: marks are not repeated, and the times stay as they were."""
    cluster = Watched()
    cluster.add(*[roomy(number, cpu=2000) for number in (1, 2)])
    cluster.set_eligibility(2, "ineligible")
    registering("web", 4, is_changed=False)(cluster)
    cluster.rest()
    cluster.set_eligibility(2, "eligible").drain(1)
    started = cluster.state.nodes[cluster.key(1)].drain_strategy

    marks = 0
    while cluster.state.nodes[cluster.key(1)].is_draining:
        assert cluster.state.nodes[cluster.key(1)].drain_strategy == started
        before = len(cluster.entries)
        cluster.move()
        marks += sum(
            len(entry.ids)
            for entry in cluster.entries[before:]
            if isinstance(entry, MarkAllocations)
        )
        cluster.settle().obey()
    assert marks == 4
    assert len(cluster.live(key("web"))) == 4
