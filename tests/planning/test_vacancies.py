"""Since when there may be more room; ids of cases are the specification's."""

import pytest

from nodestate.model.node import NodeStatus
from nodestate.planning.vacancies import Vacancies, find_vacancies
from tests.planning.clusters import Cluster, roomy
from tests.planning.works import group, job, node, run


@pytest.fixture
def cluster() -> Cluster:
    """Two nodes, and a job that runs on one of them."""
    made = Cluster().add(roomy(1)).register(job(group(count=1))).settle().obey()
    return made.add(roomy(2, scheduling_eligibility="ineligible")).set_eligibility(
        2, "ineligible"
    )


def found(cluster: Cluster, after_index: int) -> Vacancies:
    return run(find_vacancies(cluster.state, after_index))


def test_where_nothing_happens_there_is_no_more_room(cluster):
    assert found(cluster, cluster.index) == Vacancies(0, {})


def test_a_node_that_registers_has_room(cluster):
    """BL20."""
    before = cluster.index
    cluster.add(roomy(3))

    assert found(cluster, before) == Vacancies(before + 1, {node(3).id: before + 1})
    assert found(cluster, before + 1) == Vacancies(0, {})


def test_a_node_that_opens_has_room(cluster):
    """BL21."""
    before = cluster.index
    cluster.set_eligibility(2, "eligible")

    assert found(cluster, before).by_node_id == {node(2).id: before + 1}


def test_a_node_that_closes_or_goes_has_none(cluster):
    before = cluster.index
    cluster.set_eligibility(2, "eligible").set_eligibility(2, "ineligible")
    cluster.set_status(1, NodeStatus.DOWN)

    assert found(cluster, before) == Vacancies(0, {})


@pytest.mark.parametrize("is_opened", [False, True])
def test_a_drain_that_ends_has_room_if_the_node_opens(cluster, is_opened):
    """BL22."""
    cluster.drain(1)
    before = cluster.index
    cluster.stop_drain(1, mark_eligible=is_opened)

    assert bool(found(cluster, before).newest_index) is is_opened


@pytest.mark.row("M12")
@pytest.mark.parametrize(
    ("status", "has_room"), [("complete", True), ("failed", True), ("running", False)]
)
def test_what_an_agent_reports_over_makes_room(cluster, status, has_room):
    """BL18, BL19: not what servers want to stop."""
    before = cluster.index
    cluster.deregister().settle()
    assert found(cluster, before) == Vacancies(0, {})
    (one,) = cluster.on(1)
    before = cluster.index
    cluster.report(one, client_status=status, client_description="so it is")

    vacancies = found(cluster, before)

    assert vacancies == (
        Vacancies(before + 1, {node(1).id: before + 1})
        if has_room
        else Vacancies(0, {})
    )


def test_what_is_over_on_a_closed_node_makes_none(cluster):
    (one,) = cluster.on(1)
    cluster.set_eligibility(1, "ineligible")
    before = cluster.index
    cluster.report(one, client_status="complete")

    assert found(cluster, before) == Vacancies(0, {})
