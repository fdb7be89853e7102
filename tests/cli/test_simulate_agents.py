import asyncio
import io
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from nodestate.agents.fates import Behaviour, Span
from nodestate.agents.identities import FleetSpec, identities
from nodestate.cli import simulate_agents
from nodestate.cli.flags import Flags
from nodestate.cli.main import execute
from nodestate.cli.session import CommandError, Console, Session
from nodestate.clock import SystemClock, SystemIdSource
from tests.cli.conftest import Ran

SECOND = 1_000_000_000


class Cluster:
    """Answers as a server without work does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.registered: list[list[dict[str, Any]]] = []
        self.purged: list[str] = []
        self.watched = asyncio.Event()
        self.refuses = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/nodes":
            return await self._register(request)
        if request.path.endswith("/purge"):
            self.purged.append(request.path.split("/")[3])
            return web.json_response({})
        if request.method == "GET":
            self.watched.set()
            if "index" in request.query:
                await asyncio.sleep(60)
            return web.json_response([], headers={"X-Nomad-Index": "5"})
        return web.json_response({"HeartbeatTTL": 60 * SECOND})

    async def _register(self, request: web.BaseRequest) -> web.StreamResponse:
        nodes = (await request.json())["Nodes"]
        self.registered.append(nodes)
        error = "no" if self.refuses else ""
        results = [
            {"ID": node["ID"], "Error": error, "HeartbeatTTL": 60 * SECOND}
            for node in nodes
        ]
        return web.json_response({"Index": 3, "Results": results})


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """Serve a cluster of one on a free port."""
    cluster = Cluster()
    runner = web.ServerRunner(web.Server(cluster.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    cluster.address = f"http://{host}:{port}"
    yield cluster
    await runner.cleanup()


def run_here(*words: str, environment: Mapping[str, str] | None = None) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    session = Session(
        console=Console(out, err, io.StringIO()),
        environment=environment or {},
        clock=SystemClock(),
        ids=SystemIdSource(),
    )
    code = execute(["simulate-agents", *words], session)
    return Ran(code, out.getvalue(), err.getvalue())


async def run(cluster: Cluster, *words: str) -> Ran:
    environment = {"NOMAD_ADDR": cluster.address}
    return await asyncio.to_thread(run_here, *words, environment=environment)


async def test_nodes_are_registered_and_their_number_shown(cluster):
    ran = await run(cluster, "-nodes", "3", "--seed=7", "-for", "100ms")

    (nodes,) = cluster.registered
    ids = [one.node_id for one in identities(FleetSpec(node_count=3, seed="7"))]
    assert [node["ID"] for node in nodes] == ids
    assert ran.code == 0
    assert "nodes 3 up, allocations 0 pending, 0 running" in ran.out
    assert ran.err == ""


async def test_a_summary_is_json_and_nothing_else(cluster):
    ran = await run(
        cluster, "-nodes=3", "-lose=1", "-lose-after=0s", "-for=200ms", "-json"
    )

    summary = json.loads(ran.out)
    assert summary["NodesUp"] == 2
    assert summary["NodesSilent"] == 1
    assert summary["Allocations"]["running"] == 0
    assert summary["Errors"] == 0
    assert summary["Seconds"] >= 0.2
    assert "1 nodes have fallen silent" in ran.err


async def test_lines_come_as_often_as_asked_and_nodes_come_back(cluster):
    ran = await run(
        cluster,
        *("-nodes=3", "-lose=2", "-lose-after=50ms", "-lose-for=100ms"),
        *("-for=400ms", "-every=40ms"),
    )

    assert ran.out.count("nodes 3 up") >= 3
    assert ran.out.count("nodes 1 up, 2 silent") >= 1
    assert "2 nodes are back" in ran.out


async def test_nodes_are_marked_down_at_the_end_if_asked(cluster):
    await run(cluster, "-nodes=2", "-for=50ms", "-leave")

    first, last = cluster.registered
    assert {node["Status"] for node in first} == {"ready"}
    assert {node["Status"] for node in last} == {"down"}


async def test_nodes_are_removed_at_the_end_if_asked(cluster):
    await run(cluster, "-nodes=2", "-for=50ms", "-purge")

    assert sorted(cluster.purged) == sorted(
        node["ID"] for node in cluster.registered[0]
    )


async def test_a_refused_fleet_is_an_error_in_words(cluster):
    cluster.refuses = True

    ran = await run(cluster, "-nodes=2", "-for=50ms")

    assert ran.code == 1
    assert "Error simulating agents" in ran.err


@pytest.mark.slow
async def test_a_fleet_that_is_told_to_stop_ends_well(cluster):
    """By the signal that a supervisor sends, to a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nodestate", "simulate-agents", "-nodes=2", "-json"),
        env={**os.environ, "NODESTATE_ADDR": cluster.address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.wait_for(cluster.watched.wait(), 30)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 0
    assert json.loads(out)["NodesUp"] == 2


def parsed(*words: str) -> Session:
    flags = Flags("simulate-agents", "", "")
    (command,) = simulate_agents.COMMANDS
    command.declare(flags)
    return Session(
        console=Console(io.StringIO(), io.StringIO(), io.StringIO()),
        environment={"NODESTATE_ADDR": "http://a:1, http://b:2,"},
        clock=SystemClock(),
        ids=SystemIdSource(),
        args=flags.parse(words),
    )


def test_without_flags_work_goes_as_the_fleet_has_it():
    assert simulate_agents._behaviour(parsed()) == Behaviour()
    assert simulate_agents._spec(parsed()) == FleetSpec(node_count=10)


def test_flags_say_what_nodes_are_and_how_work_goes():
    session = parsed(
        *("-nodes=7", "-datacenter=dc1,dc2", "-class=a,b", "-cpu=1", "-memory=2"),
        *("-disk=3", "-driver=exec", "-attribute=x=y", "-meta=k=v", "-node-pool=p"),
        *("-name-prefix=n", "-run-time=1s..2s", "-kill-time=3s", "-exit-code=2,137"),
        *("-failure-rate=0.25", "-crash-rate=0.5", "-speed=2", "-healthy-after=4s"),
    )

    assert simulate_agents._spec(session) == FleetSpec(
        node_count=7,
        datacenters=("dc1", "dc2"),
        classes=("a", "b"),
        cpu_mhz=1,
        memory_mb=2,
        disk_mb=3,
        drivers=("exec",),
        attributes={"x": "y"},
        meta={"k": "v"},
        node_pool="p",
        name_prefix="n",
    )
    assert simulate_agents._behaviour(session) == Behaviour(
        run=Span(SECOND, 2 * SECOND),
        kill=Span(3 * SECOND, 3 * SECOND),
        exit_codes=(2, 137),
        failure_rate=0.25,
        crash_rate=0.5,
        speed=2.0,
        healthy_after_ns=4 * SECOND,
    )


def test_an_address_may_be_a_list_of_servers():
    by_variable = simulate_agents._clients(parsed())
    by_flag = simulate_agents._clients(parsed("-address=http://c:3"))

    assert [one.address for one in by_variable] == ["http://a:1", "http://b:2"]
    assert [one.address for one in by_flag] == ["http://c:3"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-nodes=0"], "-nodes must be"),
        (["-failure-rate=0.6", "-crash-rate=0.6"], "-failure-rate and -crash-rate"),
        (["-failure-rate=nan"], "-failure-rate and -crash-rate"),
        (["-speed=0"], "-speed must be"),
        (["-lose=11"], "-lose must be"),
        (["-lose-for=1s"], "need -lose"),
        (["-leave", "-purge"], "not both"),
        (["-exit-code=0"], "-exit-code must be"),
        (["-exit-code=x"], "-exit-code must be"),
        (["-cpu=-1"], "-cpu"),
        (["-datacenter="], "-datacenter must"),
        (["extra"], "takes no arguments"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(words, text):
    session = parsed(*words)

    with pytest.raises(CommandError, match=text):
        simulate_agents._simulate(session)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("-for=soon", "invalid duration"),
        ("-for=-1s", "negative duration"),
        ("-run-time=5s..2s", "2s is less than 5s"),
        ("-run-time=..2s", "invalid duration"),
    ],
)
def test_a_time_that_is_none_is_named(word, text):
    ran = run_here(word)

    assert ran.code == 2
    assert text in ran.err


def test_there_is_room_for_a_connection_per_node(monkeypatch):
    limits = [(64, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))

    simulate_agents._allow_open_files(500)
    assert limits[-1] == (500 + simulate_agents.FILES_SPARE, 1000)
    simulate_agents._allow_open_files(100)
    assert len(limits) == 2
    simulate_agents._allow_open_files(5000)
    assert limits[-1] == (1000, 1000)
