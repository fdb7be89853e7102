"""Writers and the ledger against a server of a few lines that can be made to lie."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typing_extensions import override

from cluster import soak_clients
from cluster.expected import Kind, Write
from cluster.fleet import node_id
from cluster.servers import ServerFiles
from cluster.soak_clients import KEY_HEADER, Ledger, SoakReader, SoakWriter, Stop
from tests.cluster.running import wait_until

WRITES = 60


class Liar:
    """Keeps nodes as a server does, as far as events go, and remembers keys.

    It answers every `fails_every`-th write with a 504 though it has done it, and forgets
    keys if told to.
    """

    def __init__(self) -> None:
        self.index = 1
        self.nodes: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, int] = {}
        self.fails_every = 0
        self.forgets = False
        self.loses = False
        self.repeats_index = False
        self.write_count = 0

    async def write(self, request: web.Request) -> web.Response:
        self.write_count += 1
        body, key = await request.json(), request.headers[KEY_HEADER]
        if key not in self.answers or self.forgets:
            self.answers[key] = self.apply(body)
        if self.fails_every and self.write_count % self.fails_every == 0:
            return web.Response(status=504)
        headers = {"X-Nomad-Index": str(self.answers[key])}
        return web.Response(headers=headers)

    def apply(self, body: dict[str, Any]) -> int:
        self.index += not self.repeats_index
        sent = body.get("Node")
        if sent is not None:
            line = {"Message": "Node registered", "CreateIndex": self.index}
            old = self.nodes.get(sent["ID"])
            self.nodes[sent["ID"]] = {
                "CreateIndex": self.index if old is None else old["CreateIndex"],
                "ModifyIndex": self.index,
                "Status": "ready",
                "SchedulingEligibility": "eligible",
                "Drain": False,
                "Events": [line] if old is None else old["Events"],
            }
        elif not self.loses:
            (event,) = body["NodeEvents"]
            node = next(iter(self.nodes.values()))
            line = {"Message": event["Message"], "CreateIndex": self.index}
            node["Events"] = [*node["Events"], line][-10:]
            node["ModifyIndex"] = self.index
        return self.index

    async def heartbeat(self, request: web.Request) -> web.Response:
        """Do it, or not, and never say so."""
        self.write_count += 1
        if self.write_count % 2:
            self.index += 1
            node = next(iter(self.nodes.values()))
            word = (await request.json())["Status"]
            if node["Status"] != word:
                node["ModifyIndex"] = self.index
                line = "Node reregistered by heartbeat"
                if word == "ready":
                    node["Events"].append({"Message": line, "CreateIndex": self.index})
            node["Status"] = word
        return web.Response(status=504)

    async def read(self, request: web.Request) -> web.Response:
        node = self.nodes.get(request.match_info["id"])
        headers = {"X-Nomad-Index": str(self.index)}
        if node is None:
            return web.Response(status=404, headers=headers)
        return web.json_response(node, headers=headers)

    async def list(self, request: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(headers={"X-Nomad-Index": str(self.index)})


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[tuple[Liar, ServerFiles]]:
    made = Liar()
    app = web.Application()
    app.router.add_post("/v1/nodes", made.write)
    app.router.add_post("/v1/node/{id}/events", made.write)
    app.router.add_post("/v1/node/{id}/heartbeat", made.heartbeat)
    app.router.add_get("/v1/node/{id}", made.read)
    app.router.add_get("/v1/nodes", made.list)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    files = ServerFiles(
        name="server1",
        http=f"{host}:{port}",
        peer="",
        config_path=tmp_path,
        data_dir=tmp_path,
        log_path=tmp_path,
        directory=tmp_path,
    )
    yield made, files
    await runner.cleanup()


class OneNodeWriter(SoakWriter):
    """Registers its first node, then only adds events to it."""

    def __init__(self, ledger: Ledger, files: ServerFiles) -> None:
        super().__init__(ledger, [files], seed=1, number=0)
        self.expected = {0: None}

    @override
    def _draw(self, number: int) -> Write:
        kind = Kind.REGISTER if self.expected[0] is None else Kind.EVENT
        return Write(kind, number)


class HeartbeatWriter(OneNodeWriter):
    """Registers its first node, then only sends heartbeats."""

    @override
    def _draw(self, number: int) -> Write:
        if self.expected[0] is None:
            return Write(Kind.REGISTER, number)
        return Write(Kind.STATUS, number, self._random.choice(("ready", "down")))


async def run_writer(
    liar: Liar, files: ServerFiles, kind: type[OneNodeWriter] = OneNodeWriter
) -> Ledger:
    ledger, stop = Ledger(), Stop()
    writer = kind(ledger, files)
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run(stop))
        await wait_until(lambda: liar.write_count >= WRITES or bool(ledger.violations))
        stop.set(give_up_after_s=0.2)
    return ledger


async def test_honest_answers_make_no_complaint(liar):
    server, files = liar

    ledger = await run_writer(server, files)

    assert ledger.violations == []
    assert ledger.acknowledged_count >= WRITES - 1
    assert ledger.counts["consistent reads"] > 0


async def test_a_retry_under_the_same_key_finds_out(liar):
    server, files = liar
    server.fails_every = 3

    ledger = await run_writer(server, files)

    assert ledger.violations == []
    assert ledger.counts["resolved by a retry"] > 0


async def test_a_retry_that_is_applied_again_is_found(liar):
    server, files = liar
    server.fails_every, server.forgets = 3, True

    ledger = await run_writer(server, files)

    assert "lines differ" in ledger.violations[0]


async def test_a_heartbeat_without_an_answer_is_settled_by_a_later_read(
    liar, monkeypatch
):
    server, files = liar
    monkeypatch.setattr(soak_clients, "LATE_S_MAX", 0.01)

    ledger = await run_writer(server, files, HeartbeatWriter)

    assert ledger.violations == []
    assert ledger.counts["heartbeats settled by a read"] > WRITES / 2


async def test_an_acknowledged_write_that_is_lost_is_found(liar):
    server, files = liar
    server.loses = True

    ledger = await run_writer(server, files)

    assert "modified at" in ledger.violations[0]


async def test_an_index_given_twice_is_found(liar):
    server, files = liar
    server.repeats_index = True

    ledger = await run_writer(server, files)

    assert "was given to another write before" in ledger.violations[0]


async def test_a_write_that_is_never_answered_is_a_violation(liar):
    server, files = liar
    server.fails_every = 1

    ledger = await run_writer(server, files)

    assert "is without an answer to the end" in ledger.violations[0]


async def test_a_consistent_read_behind_an_acknowledged_write_is_found(liar):
    server, files = liar
    ledger, stop = Ledger(), Stop()
    ledger.take_index(server.index + 5, floor=0)
    async with asyncio.TaskGroup() as group:
        group.create_task(SoakReader(ledger, files).run(stop))
        await wait_until(lambda: bool(ledger.violations))
        stop.set(give_up_after_s=0)

    assert "a consistent read showed 1" in ledger.violations[0]


async def test_a_read_that_goes_back_is_found(liar):
    server, files = liar
    server.index = 50
    ledger, stop = Ledger(), Stop()
    async with asyncio.TaskGroup() as group:
        group.create_task(SoakReader(ledger, files).run(stop))
        await wait_until(lambda: ledger.counts["plain reads"] > 0)
        server.index = 40
        await wait_until(lambda: bool(ledger.violations))
        stop.set(give_up_after_s=0)

    assert f"{files.name}: a" in ledger.violations[0]


def test_an_index_must_be_past_all_that_was_acknowledged_before():
    ledger = Ledger()

    assert ledger.take_index(7, floor=0) == ""
    assert ledger.take_index(6, floor=3) == ""
    assert "7 was acknowledged" in ledger.take_index(5, floor=7)
    assert ledger.highest_index == 7


def test_nodes_of_two_writers_are_never_the_same(tmp_path):
    writers = [SoakWriter(Ledger(), [], seed=1, number=number) for number in range(3)]

    ids = [node_id(number) for writer in writers for number in writer.expected]

    assert len(ids) == len(set(ids))
