"""Public stories of clusters that lost or muddled something, on three real servers.

The number in a docstring is the case's, as in tests/conformance/test_cases.py.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.servers import ServerProcess, lay_out, stop_all
from tests.conformance.agents import HOUR_NS, Agent, registered
from tests.real_server import HttpClient, attempts

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SETTINGS: Final[dict[str, str | float]] = {
    "election_timeout_s_min": 0.8,
    "election_timeout_s_max": 1.6,
    "raft_heartbeat_s": 0.1,
    "propose_timeout_s": 1.0,
    "read_staleness_max_s": 1.0,
    "heartbeat_grace_s": 3600.0,
    "log_format": "json",
    "segment_bytes": 1 << 20,
}
SERVING_S: Final = 30.0
SAME_S: Final = 10.0


class Member(HttpClient):
    """One server of the three: its process, and the way to ask it."""

    def __init__(self, process: ServerProcess) -> None:
        super().__init__(process.files.http)
        self.process = process

    def leader(self) -> str:
        """Return the address of whom it takes for the leader; empty if it does not say."""
        try:
            answer = self.get("/v1/status/leader")
            return str(answer.json) if answer.status == 200 else ""
        except OSError:
            return ""

    def is_serving(self) -> bool:
        return self.leader() != "" and self.get("/v1/nodes").status == 200


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Member]]:
    """Run three servers that agree on a leader."""
    members = [
        Member(ServerProcess(files)) for files in lay_out(tmp_path, settings=SETTINGS)
    ]
    try:
        for member in members:
            member.process.start()
        wait_until_serving(members)
        yield members
    finally:
        stop_all([member.process for member in members])


def wait_until_serving(members: list[Member]) -> None:
    for _ in attempts(SERVING_S):
        leaders = {member.leader() for member in members}
        if len(leaders) == 1 and all(member.is_serving() for member in members):
            return
    logs = "\n\n".join(member.process.log_tail() for member in members)
    raise AssertionError(f"the servers do not agree:\n{logs}")


def leader_and_followers(members: list[Member]) -> tuple[Member, list[Member]]:
    address = members[0].leader()
    leader = next(m for m in members if m.process.files.peer == address)
    return leader, [member for member in members if member is not leader]


def states_of(members: list[Member]) -> set[tuple[int, bytes]]:
    answers = [member.get("/v1/nodes?stale") for member in members]
    return {(answer.index, answer.body) for answer in answers}


def wait_until_same(members: list[Member]) -> None:
    for _ in attempts(SAME_S):
        if len(states_of(members)) == 1:
            return
    raise AssertionError(f"different after {SAME_S} s: {states_of(members)}")


def test_a_server_that_lost_the_others_says_so_and_answers_stale_reads(three):
    """C55."""
    registered(three[0])
    wait_until_same(three)
    body = three[0].get("/v1/nodes").body
    survivor, *others = three
    for other in others:
        other.process.kill()

    for _ in attempts(SAME_S):
        if survivor.get("/v1/nodes").status == 503:
            break
    contacts = []
    for query in ("stale", "stale=", "stale=true"):
        answer = survivor.get(f"/v1/nodes?{query}")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["x-nomad-knownleader"] == "false"
        contacts.append(int(answer.headers["x-nomad-lastcontact"]))
    assert 1000 <= contacts[0] <= contacts[1] <= contacts[2] < 60_000
    for query in ("", "?stale=false", "?consistent"):
        answer = survivor.get(f"/v1/nodes{query}")
        assert (answer.status, answer.text) == (503, "No cluster leader")
        assert answer.elapsed_s < 5
    assert survivor.get("/v1/nodes?stale=maybe").status == 400


def test_a_write_without_a_majority_ends_and_says_whether_it_may_still_happen(three):
    """C85: and what it says is true when the others are back."""
    agent = registered(three[0])
    wait_until_same(three)
    survivor, *others = three
    agent.server = survivor
    for other in others:
        other.process.kill()

    attempts_made = [agent.drain({"Deadline": HOUR_NS}) for _ in range(4)]
    for other in others:
        other.process.start()
    wait_until_serving(three)

    outcomes = [answer.headers["x-nodestate-outcome"] for answer in attempts_made]
    assert {answer.status for answer in attempts_made} <= {503, 504}
    assert {*outcomes} <= {"none", "unknown"}
    assert max(answer.elapsed_s for answer in attempts_made) < 10
    agent.heartbeat("initializing")
    drains = agent.messages().count("Node drain strategy set")
    assert drains <= outcomes.count("unknown")


def test_losing_a_follower_changes_nothing(three):
    """C82: and when it is back it has what the others have."""
    leader, (follower, other) = leader_and_followers(three)
    term_leader = leader.leader()
    agents = [registered(other) for _ in range(5)]
    follower.process.kill()

    written = [
        agent.set_eligibility(word)
        for agent in agents
        for word in ("ineligible", "eligible", "ineligible")
    ]
    follower.process.start()
    wait_until_serving(three)

    assert [answer.status for answer in written] == [200] * len(written)
    assert {member.leader() for member in three} == {term_leader}
    wait_until_same(three)
    assert follower.get("/v1/nodes").index == written[-1].index


def test_a_stranger_at_the_peer_port_changes_nothing(three):
    """C82: whatever it says."""
    leader, (follower, _) = leader_and_followers(three)
    agent = registered(leader)
    for _ in range(20):
        for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\xff" * 4096):
            HttpClient(follower.process.files.peer).exchange_bytes(noise, quiet_s=0.02)

    assert agent.set_eligibility("ineligible").status == 200
    assert {member.leader() for member in three} == {leader.process.files.peer}
    wait_until_same(three)


def test_an_index_means_the_same_bytes_on_every_server(three):
    """C59: a reader may hop between servers and never sees an index twice otherwise."""
    agent = registered(three[0])
    seen: dict[int, bytes] = {}

    for number in range(30):
        word = "eligible" if number % 2 else "ineligible"
        agent_at(three[number % 3], agent).set_eligibility(word)
        for member in three:
            answer = member.get(f"{agent.path}?stale")
            assert seen.setdefault(answer.index, answer.body) == answer.body
    wait_until_same(three)


def test_a_follower_waits_until_it_has_caught_up(three):
    """C59: an index from one server is never answered with less by another."""
    agent = registered(three[0])

    for number in range(20):
        word = "eligible" if number % 2 else "ineligible"
        index = agent_at(three[number % 3], agent).set_eligibility(word).index
        for member in three:
            path = f"{agent.path}?stale&index={index - 1}&wait=5s"
            answer = member.get(path)
            assert answer.index >= index
            assert answer.elapsed_s < 4


def agent_at(member: Member, agent: Agent) -> Agent:
    """Return the same agent, speaking to another server."""
    moved = Agent(member, agent.id)
    moved.secret = agent.secret
    return moved


def test_a_consistent_read_sees_every_write_acknowledged_before_it(three):
    """Asked of any server, right after a write through another."""
    agent = registered(three[0])

    for number in range(15):
        word = "eligible" if number % 2 else "ineligible"
        index = agent_at(three[number % 3], agent).set_eligibility(word).index
        for member in three:
            node: dict[str, Any] = member.get(f"{agent.path}?consistent").json
            assert node["ModifyIndex"] >= index
            assert node["SchedulingEligibility"] == word


def test_an_unknown_node_is_unknown_on_every_server(three):
    """C49."""
    node_id = uuid.uuid4()

    for member in three:
        for tail in ("evaluate", "purge", "drain", "eligibility"):
            body = {"DrainSpec": None, "Eligibility": "eligible"}
            answer = member.put(f"/v1/node/{node_id}/{tail}", body)
            assert (answer.status, answer.text) == (404, "node not found")
