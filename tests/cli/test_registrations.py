"""`node register` and `node heartbeat`."""

import platform
from typing import Any

import msgspec
import pytest

from tests.scripted_server import NODE_ID, Answer, ScriptedServer

SECRET = "11111111-1111-4111-8111-111111111111"
FIRST_ID = "00000000-0000-4000-8000-000000000001"
SECOND_ID = "00000000-0000-4000-8000-000000000002"
HEARTBEAT = f"/v1/node/{NODE_ID}/heartbeat"
REGISTERED = {"Index": 9, "NodeModifyIndex": 9, "HeartbeatTTL": 14_250_000_000}


@pytest.fixture
def served(scripted):
    scripted.on("/v1/nodes", Answer(REGISTERED))
    scripted.on(HEARTBEAT, Answer(REGISTERED))
    return scripted


def sent(served: ScriptedServer) -> Any:
    return served.bodies("/v1/nodes")[0]["Node"]


async def test_flags_describe_the_node(served, run):
    ran = await run(
        *("node", "register", "-id", NODE_ID, "-name", "web1", "-datacenter=eu1"),
        *("-class", "large", "-node-pool", "gpu", "-http-addr", "10.0.0.1:4646"),
        *("-attribute", "kernel.name=linux", "-attribute", "driver.exec=1"),
        *("-meta", "rack=r1", "-cpu", "4000", "-memory", "8192", "-disk", "100"),
        *("-status", "initializing", "-secret-id", SECRET),
    )

    assert ran.out == f'Node "{NODE_ID}" registered\nHeartbeat TTL = 14.25s\n'
    assert (ran.code, ran.err) == (0, "")
    assert sent(served) == {
        "ID": NODE_ID,
        "SecretID": SECRET,
        "Name": "web1",
        "Datacenter": "eu1",
        "NodeClass": "large",
        "NodePool": "gpu",
        "Status": "initializing",
        "HTTPAddr": "10.0.0.1:4646",
        "Attributes": {"kernel.name": "linux", "driver.exec": "1"},
        "Meta": {"rack": "r1"},
        "NodeResources": {
            "Cpu": {"CpuShares": 4000},
            "Memory": {"MemoryMB": 8192},
            "Disk": {"DiskMB": 100},
        },
        "Resources": {"CPU": 4000, "MemoryMB": 8192, "DiskMB": 100},
    }


async def test_without_flags_this_machine_is_registered(served, run):
    ran = await run("node", "register")

    assert ran.out == (
        f'Node "{FIRST_ID}" registered\n'
        f"Secret ID     = {SECOND_ID}\n"
        "Heartbeat TTL = 14.25s\n"
    )
    assert (sent(served)["ID"], sent(served)["SecretID"]) == (FIRST_ID, SECOND_ID)
    assert sent(served)["Name"] == platform.node()
    assert sent(served)["Datacenter"] == "dc1"
    assert sent(served)["Status"] == "ready"
    assert sent(served)["Attributes"]["kernel.name"] == platform.system().lower()


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {"NODESTATE_SECRET_ID": "from-environment"}, "from-environment"),
        (
            ["-secret-id", SECRET],
            {"NODESTATE_SECRET_ID": "from-environment"},
            SECRET,
        ),
    ],
)
async def test_a_given_secret_is_not_shown(served, run, words, environment, expected):
    ran = await run("node", "register", *words, environment=environment)

    assert sent(served)["SecretID"] == expected
    assert "Secret" not in ran.out


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_file_has_a_node(served, run, tmp_path, wrapped):
    node = {"ID": NODE_ID, "Name": "web1", "SecretID": SECRET, "Unheard": [1]}
    path = tmp_path / "node.json"
    path.write_bytes(msgspec.json.encode({"Node": node} if wrapped else node))

    ran = await run("node", "register", "-file", str(path))

    assert ran.out == f'Node "{NODE_ID}" registered\nHeartbeat TTL = 14.25s\n'
    assert sent(served) == node


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_file_may_have_many_nodes(served, run, wrapped):
    nodes = [{"ID": "a", "SecretID": SECRET}, {"ID": "b"}]
    results = [
        {"ID": "a", "Error": "", "HeartbeatTTL": 10_000_000_000},
        {"ID": "b", "Error": "missing datacenter for client registration"},
    ]
    served.on("/v1/nodes", Answer({"Index": 9, "Results": results}))
    typed = msgspec.json.encode({"Nodes": nodes} if wrapped else nodes).decode()

    ran = await run("node", "register", "-file", "-", typed=typed)

    assert ran.code == 1
    assert ran.out == 'Node "a" registered\nHeartbeat TTL = 10s\n'
    assert ran.err == 'Node "b" refused: missing datacenter for client registration\n'
    assert served.bodies("/v1/nodes") == [
        {"Nodes": [nodes[0], {"ID": "b", "SecretID": FIRST_ID}]}
    ]


async def test_json_has_the_answer_and_a_new_secret(served, run):
    ran = await run("node", "register", "-id", NODE_ID, "-json")

    answer = msgspec.json.decode(ran.out)
    assert answer["ID"] == NODE_ID
    assert answer["SecretID"] == FIRST_ID
    assert answer["HeartbeatTTL"] == 14_250_000_000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "Input data was truncated"),
        ("[]", "expected the object of a node, or a list of them"),
        ("[1]", "expected the object of a node, or a list of them"),
        ('"x"', "expected the object of a node, or a list of them"),
        (None, "[Errno 2] No such file or directory"),
    ],
)
async def test_a_bad_file_is_named(served, run, tmp_path, content, text):
    path = tmp_path / "node.json"
    if content is not None:
        path.write_text(content)

    ran = await run("node", "register", "-file", str(path))

    assert (ran.code, served.asked) == (1, [])
    assert ran.err.startswith(f"Error reading {path}: {text}")


async def test_a_refusal_is_quoted(served, run):
    text = "missing attributes for client registration"
    served.on("/v1/nodes", Answer(text, 400))

    ran = await run("node", "register")

    assert ran.code == 1
    assert ran.err == (
        f"Error registering node: Unexpected response code: 400 ({text})\n"
    )
    assert ran.out == ""


async def test_registration_takes_no_arguments(served, run):
    ran = await run("node", "register", "web1")

    assert (ran.code, served.asked) == (1, [])
    assert ran.err.startswith("This command takes no arguments\n")


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["-secret-id", SECRET], {}),
        ([], {"NODESTATE_SECRET_ID": SECRET}),
    ],
)
async def test_a_heartbeat(served, run, words, environment):
    ran = await run("node", "heartbeat", *words, NODE_ID, environment=environment)

    assert ran.out == (f'Node "{NODE_ID}" heartbeat accepted\nHeartbeat TTL = 14.25s\n')
    assert served.bodies(HEARTBEAT) == [{"SecretID": SECRET, "Status": "ready"}]


async def test_a_heartbeat_in_json_and_with_a_status(served, run):
    words = ["-json", "-status", "down", "-secret-id", SECRET, NODE_ID]
    ran = await run("node", "heartbeat", *words)

    assert msgspec.json.decode(ran.out)["Index"] == 9
    assert served.bodies(HEARTBEAT)[0]["Status"] == "down"


async def test_a_heartbeat_needs_a_secret_and_a_node(served, run):
    no_secret = await run("node", "heartbeat", NODE_ID)
    no_node = await run("node", "heartbeat", "-secret-id", SECRET)

    assert (no_secret.code, no_node.code, served.asked) == (1, 1, [])
    assert no_secret.err.startswith(
        "The node's secret must be given by -secret-id or NODESTATE_SECRET_ID\n"
    )
    assert no_node.err.startswith("This command takes one argument: <node>\n")


async def test_a_wrong_secret_is_quoted(served, run):
    served.on(HEARTBEAT, Answer("node secret ID does not match", 403))

    ran = await run("node", "heartbeat", "-secret-id", SECRET, NODE_ID)

    assert ran.err == (
        "Error sending heartbeat: "
        "Unexpected response code: 403 (node secret ID does not match)\n"
    )
