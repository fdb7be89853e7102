"""What went wrong in systems like this one, each as one small story on a real server.

The number in a docstring is the case's, so that a story is found again from the list
that it comes from. What the checklist's tests show already is not shown again here.
"""

import socket
import threading
import uuid
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.compat.comparison import parse_time_ns
from tests.conformance.agents import HOUR_NS, Agent, read_during, registered
from tests.real_server import Answer, HttpClient, RealServer, attempts, running_server

TOGGLES: Final = 200
HEARTBEATS: Final = 10
RELEASED_S: Final = 2.0


def matching(server: HttpClient, agents: list[Agent], expression: str) -> list[int]:
    """Return the positions of those of the agents whose nodes a filter finds."""
    answer = server.get(f"/v1/nodes?filter={quote(expression)}")
    assert answer.status == 200, answer.text
    found = {node["ID"] for node in answer.json}
    return [number for number, agent in enumerate(agents) if agent.id in found]


def test_the_same_index_is_the_same_body_and_no_wake_up_is_lost(server):
    """C05."""
    agent = registered(server)
    seen: list[Answer] = [server.get(agent.path)]
    last = threading.Event()

    def follow() -> None:
        while not last.is_set() or seen[-1].index < newest:
            seen.append(server.get(f"{agent.path}?index={seen[-1].index}&wait=2s"))

    newest = 0
    reader = threading.Thread(target=follow)
    reader.start()
    for number in range(TOGGLES):
        word = "eligible" if number % 2 else "ineligible"
        newest = agent.set_eligibility(word).index
    last.set()
    reader.join(timeout=10)

    assert not reader.is_alive()
    assert seen[-1].index == newest
    bodies = {answer.index: answer.body for answer in seen}
    assert all(bodies[answer.index] == answer.body for answer in seen)
    indexes = [answer.index for answer in seen]
    assert indexes == sorted(indexes)
    moved = [after for before, after in pairwise(seen) if after.index > before.index]
    assert max(answer.elapsed_s for answer in moved) < 1.5


def test_registering_again_keeps_what_operators_set(server):
    """C06."""
    agent = registered(server)
    agent.drain({"Deadline": HOUR_NS}, Meta={"why": "disk"})
    before = agent.settled()

    agent.register(
        SchedulingEligibility="eligible",
        Attributes={"kernel.name": "linux", "new": "1"},
    )

    after = agent.read()
    kept = (
        "LastDrain",
        "SchedulingEligibility",
        "Events",
        "CreateIndex",
        "DrainStrategy",
    )
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["Attributes"]["new"] == "1"
    assert after["ModifyIndex"] > before["ModifyIndex"]


def test_a_default_of_closed_counts_once(server):
    """C06: only the first registration may close a node."""
    agent = registered(server, SchedulingEligibility="ineligible")
    assert agent.read()["SchedulingEligibility"] == "ineligible"
    agent.set_eligibility("eligible")

    agent.register(SchedulingEligibility="ineligible")

    assert agent.read()["SchedulingEligibility"] == "eligible"


def test_a_secret_is_in_no_answer_and_no_log_line(server):
    """C07."""
    agent = registered(server)
    secret = agent.secret
    answers = [agent.register(), agent.heartbeat(), agent.emit("x")]
    answers += [
        server.get(path)
        for path in (
            "/v1/nodes?resources=true&os=true",
            agent.path,
            f"{agent.path}?pretty",
            f"{agent.path}/allocations",
            "/v1/metrics",
            "/v1/agent/members",
            "/v1/nodes?filter=SecretID",
        )
    ]
    answers.append(agent.heartbeat(Status=secret))
    agent.secret = str(uuid.uuid4())
    answers += [agent.register(), agent.heartbeat(), agent.purge()]

    assert [answer for answer in answers if secret in answer.text] == []
    assert secret not in server.log()


def test_a_filter_cannot_guess_a_secret(server):
    """C07: the record that filters look at does not have it."""
    agent = registered(server)

    expression = quote(f'SecretID == "{agent.secret}"')

    answer = server.get(f"/v1/nodes?filter={expression}")

    assert answer.status == 400 or agent.id not in answer.text


def test_a_fresh_cluster_can_be_waited_on(empty_server):
    """C16."""
    index = empty_server.get("/v1/nodes").index

    answer = empty_server.get(f"/v1/nodes?index={index}&wait=300ms")

    assert index >= 1
    assert answer.elapsed_s >= 0.3


def test_heartbeats_move_no_index_and_write_no_entry(server):
    """C26."""
    agents = [registered(server) for _ in range(5)]
    index = server.get("/v1/nodes").index

    answer = read_during(
        server,
        f"/v1/nodes?index={index}&wait=500ms",
        lambda: [agent.heartbeat() for agent in agents for _ in range(HEARTBEATS)],
    )

    assert answer.elapsed_s >= 0.5
    assert answer.index == index
    # The next write has the very next index: nothing went into the log in between.
    assert agents[0].set_eligibility("ineligible").index == index + 1


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('Meta["foo"] == "bar"', [0]),
        ('Meta["foo"] != "bar"', [1, 2]),
        ('"foo" in Meta', [0, 1]),
        ('Meta["foo"] is empty', [2]),
        ('Meta["foo"] not matches "^b"', [1, 2]),
        ('Meta.foo == "bar"', [0]),
    ],
)
def test_a_key_that_a_node_lacks_is_no_error(empty_server, expression, found):
    """C30."""
    agents = [
        registered(empty_server, Meta=meta)
        for meta in ({"foo": "bar"}, {"foo": "x"}, {})
    ]

    assert matching(empty_server, agents, expression) == found


@pytest.mark.parametrize(
    ("body", "status", "drains"),
    [
        (None, 400, False),
        ("{}", 200, False),
        ('{"DrainSpec":null}', 200, False),
        ('{"DrainSpec":{}}', 200, True),
        ('{"DrainSpec":{"Duration":"-1"}}', 200, True),
        ('{"DrainSpec":{"Deadline":"1h"}}', 400, False),
        ('{"DrainSpec":{"Deadline":1.5}}', 400, False),
        ("[]", 400, False),
        ("not json", 400, False),
        ('{"DrainSpec":{"Deadline":60000000000},"X":1}', 200, True),
    ],
)
def test_what_counts_as_a_drain(server, body, status, drains):
    """C32."""
    agent = registered(server)

    answer = server.post(f"{agent.path}/drain", body)

    assert answer.status == status
    assert ("Node drain strategy set" in agent.messages()) is drains


def test_a_purged_node_is_told_to_register_and_comes_back_clean(server):
    """C35."""
    agent = registered(server)
    agent.drain({"Deadline": HOUR_NS})
    first = agent.settled()
    agent.purge()

    heartbeat = agent.heartbeat()
    agent.register()

    assert (heartbeat.status, heartbeat.text) == (404, "node not found")
    node = agent.read()
    assert node["CreateIndex"] > first["ModifyIndex"]
    assert node["SchedulingEligibility"] == "eligible"
    assert (node["DrainStrategy"], node["LastDrain"]) == (None, None)
    assert agent.messages() == ["Node registered"]


def test_a_node_that_goes_down_and_comes_back_stays_closed_after_its_drain(server):
    """C43."""
    agent = registered(server)
    agent.drain({"Deadline": HOUR_NS})
    agent.heartbeat("down")
    agent.settled()

    agent.heartbeat("ready")

    node = agent.read()
    assert node["Status"] == "ready"
    assert node["SchedulingEligibility"] == "ineligible"
    assert node["LastDrain"]["Status"] == "complete"


def test_a_filtered_list_that_is_woken_has_moved_on(server):
    """C56."""
    gpu = registered(server, NodeClass="gpu-56")
    other = registered(server)
    expression = quote('NodeClass == "gpu-56"')
    path = f"/v1/nodes?filter={expression}"
    indexes = [server.get(path).index]

    for number in range(4):
        word = "eligible" if number % 2 else "ineligible"
        answer = read_during(
            server,
            f"{path}&index={indexes[-1]}&wait=1s",
            partial(other.set_eligibility, word),
        )
        assert [node["ID"] for node in answer.json] == [gpu.id]
        indexes.append(answer.index)

    assert indexes == sorted({*indexes})


def test_the_ttl_grows_with_the_fleet(empty_server):
    """C68: fifty heartbeats a second, whatever the number of nodes."""
    agent = registered(empty_server)
    few = agent.heartbeat().json["HeartbeatTTL"]
    for _ in range(2):
        nodes = [Agent(empty_server).body()["Node"] for _ in range(500)]
        assert empty_server.put("/v1/nodes", {"Nodes": nodes}).status == 200

    many = agent.heartbeat().json["HeartbeatTTL"]

    assert 10e9 <= few < 20e9
    assert 20e9 <= many <= 41e9


def test_a_cloned_machine_is_refused_until_the_node_is_purged(server):
    """C70."""
    agent = registered(server)
    secret, body = agent.secret, server.get(agent.path).body
    agent.secret = str(uuid.uuid4())

    refusals = [agent.register(Attributes={"other": "1"}), agent.heartbeat()]

    assert [refusal.status for refusal in refusals] == [403, 403]
    assert not any(secret in refusal.text for refusal in refusals)
    assert server.get(agent.path).body == body
    agent.purge()
    assert agent.register().status == 200


def test_every_kind_of_empty_is_the_right_one(server):
    """C77."""
    agent = registered(server)

    node, stub = agent.read(), agent.stub()

    for key in ("LastDrain", "DrainStrategy", "Meta", "Drivers"):
        assert node[key] is None
    assert (
        not {"Events", "Attributes", "NodeResources", "ReservedResources"} & stub.keys()
    )
    assert stub["Drain"] is False
    assert isinstance(node["StatusUpdatedAt"], int)
    assert node["Events"][0]["Timestamp"].endswith("Z")
    nothing = server.get("/v1/nodes?prefix=00ff00ff00ff&filter=Name+is+empty")
    assert (nothing.body, nothing.headers["content-type"]) == (
        b"[]",
        "application/json",
    )


def test_a_python_client_gets_the_kinds_of_answers_it_expects(server):
    """C80."""
    agent = registered(server, Name="pynomad1")

    listed = server.get(f"/v1/nodes?prefix={agent.id[:4]}&_filter=x&resources=True")
    assert "pynomad1" in {node["Name"] for node in listed.json}
    assert server.get(f"{agent.path}/allocations").json == []
    assert "EvalIDs" in server.post(f"{agent.path}/evaluate").json
    drain = {"DrainSpec": {"Duration": "-100000000"}, "MarkEligible": None}
    assert "EvalIDs" in server.post(f"{agent.path}/drain", drain).json
    agent.settled()
    opened = {"DrainSpec": {}, "MarkEligible": True}
    assert server.post(f"{agent.path}/drain", opened).status == 200
    agent.settled()
    for word in ("eligible", "ineligible"):
        body = {"Eligibility": word, "NodeID": agent.id}
        assert "EvalIDs" in server.post(f"{agent.path}/eligibility", body).json
        assert agent.read()["SchedulingEligibility"] == word
    assert server.get(f"/v1/node/{uuid.uuid4()}").status == 404
    assert server.post(f"{agent.path}/purge").json["EvalIDs"] is None


def test_nodes_are_chosen_as_an_autoscaler_does(empty_server):
    """C81: a null LastDrain is no match, and never an error."""
    agents = [
        registered(empty_server, NodeClass="gpu", Status=status)
        for status in ("ready", "down", "ready", "ready")
    ]
    agents[2].set_eligibility("ineligible")
    agents[3].drain({"Deadline": HOUR_NS}, Meta={"owner": "as"})
    agents[3].settled()

    def found(expression: str) -> list[int]:
        return matching(empty_server, agents, expression)

    ready = 'Status == "ready" and SchedulingEligibility == "eligible"'
    assert found(f'{ready} and NodeClass == "gpu"') == [0]
    drained = 'LastDrain.Meta["owner"] == "as" and LastDrain.Status == "complete"'
    assert found(drained) == [3]


def test_names_are_not_keys(server):
    """C90."""
    name = f"db-{uuid.uuid4()}"
    first = registered(server, Name=name, Status="down")
    second = registered(server, Name=name)
    created = second.read()["CreateIndex"]
    expression = f'Name == "{name}"'

    assert matching(server, [first, second], expression) == [0, 1]
    second.register(Name=f"{name}-2")
    assert matching(server, [first, second], expression) == [0]
    assert second.read()["CreateIndex"] == created


def test_the_status_is_as_old_as_the_last_change(server):
    """C92."""
    agent = registered(server)

    for number in range(12):
        agent.set_eligibility("eligible" if number % 2 else "ineligible")

    node = agent.read()
    events = node["Events"]
    times = [parse_time_ns(event["Timestamp"]) for event in events]
    assert len(events) == 10
    assert times == sorted(times)
    assert node["StatusUpdatedAt"] == times[-1] // 1_000_000_000


def test_a_drain_changes_nothing_else(server):
    """C93."""
    fields: dict[str, Any] = {
        "Meta": {"rack": "r1"},
        "Links": {"consul": "x"},
        "Drivers": {"docker": {"Detected": True, "Healthy": True}},
        "HostVolumes": {"certs": {"Name": "certs", "Path": "/certs"}},
        "NodeResources": {"Cpu": {"CpuShares": 4000}},
        "NodePool": "gpu",
    }
    agent = registered(server, **fields)
    before = agent.read()

    agent.drain({"Deadline": HOUR_NS})
    agent.settled()
    agent.register(**{**fields, "Meta": {"rack": "r1", "new": "key"}})
    agent.drain(None, MarkEligible=True)

    after = agent.read()
    changed = {key for key in before if before[key] != after[key]}
    allowed = {"LastDrain", "Events", "StatusUpdatedAt", "ModifyIndex"}
    assert changed - allowed == {"Meta", "ComputedClass"}
    assert after["Meta"] == {"rack": "r1", "new": "key"}


def test_a_drain_that_ends_does_not_lift_a_cordon(server):
    """C94."""
    agent = registered(server)
    agent.set_eligibility("ineligible")

    agent.drain({"Deadline": -1})

    assert agent.settled()["SchedulingEligibility"] == "ineligible"


def test_one_reader_too_many_is_told_so(tmp_path):
    """C95."""
    with running_server(tmp_path, watchers_max=3) as server, ExitStack() as stack:
        index = server.get("/v1/nodes").index
        path = f"/v1/nodes?index={index}&wait=60s"
        waiting = [stack.enter_context(waiting_reader(server, path)) for _ in range(3)]

        refused = until(server, path.replace("60s", "50ms"), 429)

        assert refused.text
        assert int(refused.headers["retry-after"]) >= 1
        waiting[0].close()
        assert until(server, path.replace("60s", "50ms"), 200).status == 200


def waiting_reader(server: RealServer, path: str) -> socket.socket:
    """Ask, and do not read the answer."""
    host, _, port = server.address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def until(server: HttpClient, path: str, status: int) -> Answer:
    """Return the first answer with a status; others may come before for a moment."""
    answer = server.get(path)
    for _ in attempts(RELEASED_S):
        if answer.status == status:
            break
        answer = server.get(path)
    assert answer.status == status
    return answer


@pytest.mark.parametrize("is_torn", [False, True])
def test_every_acknowledged_write_survives_a_power_cut(tmp_path, is_torn):
    """C04: also when the log ends in the middle of a record that nobody was told of."""
    with running_server(tmp_path) as server:
        agents = [registered(server) for _ in range(20)]
        for agent in agents[:5]:
            agent.drain({"Deadline": HOUR_NS})
            agent.settled()
        for agent in agents[5:10]:
            agent.set_eligibility("ineligible")
        before = server.get("/v1/nodes")
        bodies = [server.get(agent.path).body for agent in agents]
        server.kill()
    if is_torn:
        append_half_a_record(tmp_path / "data")

    with running_server(tmp_path) as server:
        after = server.get("/v1/nodes")
        assert (after.index, after.body) == (before.index, before.body)
        assert [server.get(agent.path).body for agent in agents] == bodies
        assert ("journal tail cut" in server.log()) is is_torn


def append_half_a_record(directory: Path) -> None:
    """Repeat what was written last, behind it, as far as a power cut let it get."""
    newest = max(directory.rglob("journal-*.log"))
    written = newest.read_bytes().rstrip(b"\x00")
    with newest.open("rb+") as file:
        file.seek(len(written) + 1)
        file.write(written[-40:])
