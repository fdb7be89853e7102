"""Sections 12.4 to 12.6 and 12.9: what runs on a node, and what becomes of it."""

import time
import uuid

import pytest

from tests.conformance.agents import read_during
from tests.conformance.rows import case, rows
from tests.conformance.works import Site
from tests.real_server import RealServer

COMPLETE = "Node drain complete"


@pytest.fixture
def site(server: RealServer) -> Site:
    site = Site(server)
    assert site.register().status == 200
    return site


# Allocations


@rows("A1")
def test_an_allocation_of_the_node_is_listed_at_its_index(site):
    (one,) = site.placed(site.submit())

    answer = site.server.get(site.list_path)

    assert [each["ID"] for each in answer.json] == [one["ID"]]
    assert answer.index == one["ModifyIndex"]


@rows("A5")
def test_a_line_of_a_history_is_given_its_text(site):
    job_id = site.submit()
    states = {"app": {"State": "running", "Events": [{"Type": "Started"}]}}
    site.report(*site.placed(job_id), TaskStates=states)

    (one,) = site.placed(job_id)

    (event,) = one["TaskStates"]["app"]["Events"]
    assert event["DisplayMessage"] == "Task started by client"


@rows("A7")
def test_keys_without_a_value_are_there(site):
    """V35."""
    (one,) = site.placed(site.submit())

    assert (
        one["ClientDescription"] == one["NextAllocation"] == one["DeploymentID"] == ""
    )
    assert one["TaskStates"] is one["DeploymentStatus"] is None
    assert one["RescheduleTracker"] is one["PreemptedAllocations"] is None


@rows("A8")
def test_allocations_of_a_purged_node_are_still_listed(site):
    (one,) = site.placed(site.submit())

    assert site.agent.purge().status == 200

    listed = site.server.get(site.list_path).json
    assert [each["ID"] for each in listed] == [one["ID"]]


@rows("A11")
def test_a_reader_waits_for_an_allocation_that_is_placed(site):
    path = f"{site.list_path}?index={site.server.get(site.list_path).index}&wait=10s"

    answer = read_during(site.server, path, site.submit)

    assert len(answer.json) == 1
    assert answer.index == answer.json[0]["ModifyIndex"]
    assert answer.elapsed_s < 5


@rows("A12")
def test_a_reader_waits_for_what_the_agent_says(site):
    (one,) = site.placed(site.submit())
    path = f"{site.list_path}?index={one['ModifyIndex']}&wait=10s"

    answer = read_during(site.server, path, lambda: site.report(one))

    assert answer.json[0]["ClientStatus"] == "running"
    assert answer.index == answer.json[0]["ModifyIndex"] > one["ModifyIndex"]
    assert answer.elapsed_s < 5


# Evaluations


@rows("E3")
def test_a_node_with_an_allocation_is_evaluated_for_its_job(site):
    job_id = site.run()
    node = site.agent.read()

    answer = site.server.put(f"{site.agent.path}/evaluate")

    (made,) = site.evaluated(answer)
    assert answer.json["EvalCreateIndex"] == answer.json["Index"] == answer.index
    assert (made["JobID"], made["Type"], made["Priority"]) == (job_id, "service", 50)
    assert (made["TriggeredBy"], made["NodeID"]) == ("node-update", site.agent.id)
    assert made["NodeModifyIndex"] == node["ModifyIndex"]
    assert made["CreateIndex"] == answer.index
    assert made["CreateTime"] > 0
    assert made["Status"] in {"pending", "complete"}


@rows("E4")
def test_a_system_job_is_looked_at_as_well(site):
    site.run()
    site.submit("system")

    answer = site.server.put(f"{site.agent.path}/evaluate")

    assert [made["Type"] for made in site.evaluated(answer)] == ["service", "system"]


@rows("E5", "E6")
@pytest.mark.parametrize(
    ("job_type", "count"), [case("E5", "service", 2), case("E6", "system", 1)]
)
def test_each_job_is_looked_at_once(site, job_type, count):
    site.run(job_type, count)

    answer = site.server.put(f"{site.agent.path}/evaluate")

    assert [made["Type"] for made in site.evaluated(answer)] == [job_type]


@rows("D8")
def test_a_node_that_is_opened_again_is_looked_at(site):
    site.submit("system")
    site.run()
    site.agent.drain({"Deadline": 0})

    answer = site.agent.drain(None, MarkEligible=True)

    node = site.agent.read()
    assert [made["Type"] for made in site.evaluated(answer)] == ["service", "system"]
    assert answer.json["EvalCreateIndex"] == answer.index > 0
    assert node["SchedulingEligibility"] == "eligible"
    assert node["Events"][-1]["Message"] == "Node drain disabled"


@rows("N10", "N11", "N12")
def test_a_system_job_is_looked_at_whenever_its_node_comes_or_goes(server):
    site = Site(server)
    site.submit("system")

    came = site.register(Status="ready")
    went = site.register(Status="down")
    came_back = site.register(Status="ready")
    fresh = Site(server)
    fresh.datacenter = site.datacenter
    fresh.register(Status="initializing")
    heard = fresh.agent.heartbeat("ready")

    for answer in (came, went, came_back, heard):
        assert [made["Type"] for made in site.evaluated(answer)] == ["system"]
        assert answer.json["EvalCreateIndex"] == answer.index


# Drains


@rows("D24")
def test_a_system_allocation_holds_no_drain_up(site):
    job_id = site.run("system")

    site.agent.drain({"Deadline": 0, "IgnoreSystemJobs": True})

    node = site.agent.settled()
    assert node["Events"][-1]["Message"] == COMPLETE
    (one,) = site.placed(job_id)
    assert (one["DesiredStatus"], one["ClientStatus"]) == ("run", "running")


@rows("D25", "D26")
@pytest.mark.parametrize("job_type", [case("D25", "service"), case("D26", "batch")])
def test_what_runs_holds_a_drain_up_until_it_is_over(site, job_type):
    job_id = site.run(job_type)

    site.agent.drain({"Deadline": 0})

    before = site.agent.read()
    waited = site.server.get(
        f"{site.agent.path}?index={before['ModifyIndex']}&wait=300ms"
    )
    assert waited.json["Drain"] is True
    site.report(*site.placed(job_id), status="complete")
    node = site.agent.settled()
    assert (node["Events"][-1]["Message"], node["Events"][-1]["Details"]) == (
        COMPLETE,
        None,
    )


@rows("D27", "D28")
@pytest.mark.parametrize("deadline", [case("D27", 1_000_000_000), case("D28", -1)])
def test_a_deadline_ends_a_drain_that_is_held_up(site, deadline):
    job_id = site.run("batch")
    started_s = time.monotonic()

    site.agent.drain({"Deadline": deadline})

    node = site.agent.settled()
    took_s = time.monotonic() - started_s
    assert max(deadline, 0) / 1e9 <= took_s < 5
    assert node["Events"][-1]["Details"] == {"deadline_reached": "true"}
    (one,) = site.listed_once(job_id, lambda found: found[0]["DesiredStatus"] == "stop")
    assert one["DesiredDescription"] == "alloc is being migrated"


@rows("D29")
def test_what_was_on_a_node_that_goes_down_while_it_drains_is_lost(site):
    job_id = site.run()
    site.agent.drain({"Deadline": 0})

    site.agent.heartbeat("down")

    (one,) = site.listed_once(job_id, lambda found: found[0]["ClientStatus"] == "lost")
    assert one["DesiredStatus"] == "stop"


# The view of a drain


def test_a_drain_can_be_looked_at_before_and_while_it_goes_on(site):
    job_id = site.run()
    path = f"{site.agent.path}/drain"

    before = site.server.get(f"{path}?deadline=1h").json
    site.agent.drain({"Deadline": 0})
    index = site.server.get(path).index
    after = read_during(
        site.server,
        f"{path}?index={index}&wait=10s",
        lambda: site.report(*site.placed(job_id), status="complete"),
    )

    (group,) = before["Groups"]
    assert (before["Draining"], before["Done"]) == (False, False)
    assert (group["JobID"], group["WaitsFor"]) == (job_id, "health")
    assert after.json["Done"] is True
    assert after.elapsed_s < 5


# One allocation, and what is not there


def test_one_that_is_stopped_takes_its_leave(site):
    job_id = site.run()
    (one,) = site.placed(job_id)

    answer = site.server.post(f"/v1/allocation/{one['ID']}/stop")

    listed = site.placed(job_id, 2)
    assert site.evaluation(answer.json["EvalID"])["TriggeredBy"] == "alloc-stop"
    assert [each["DesiredStatus"] for each in listed] == ["run", "stop"]
    assert listed[0]["PreviousAllocation"] == one["ID"]
    assert listed[1]["NextAllocation"] == listed[0]["ID"]


@pytest.mark.parametrize(
    ("path", "text"),
    [("allocation", "alloc not found"), ("evaluation", "eval not found")],
)
def test_what_is_unknown_is_not_found(server, path, text):
    answer = server.get(f"/v1/{path}/{uuid.uuid4()}")

    assert (answer.status, answer.text) == (404, text)
    assert answer.index >= 1
