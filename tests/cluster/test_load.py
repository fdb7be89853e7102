"""The load generators and the report, against a server of a few lines."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.fanout import FanoutPlan, run_fanout
from cluster.fleet import make_fleet, node_id
from cluster.load import LoadPlan, Request
from cluster.load_client import content_length, run_plan, to_bytes
from cluster.report import Figure, Report, to_json, to_table


class Echo:
    """Counts requests; answers a watch (`GET /watch`) when somebody writes."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.watchers: list[asyncio.StreamWriter] = []
        self.status = b"200 OK"
        self.connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def close(self) -> None:
        for writer in self.connections:
            writer.close()
        await asyncio.gather(*filter(None, self.connections.values()))

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections[writer] = asyncio.current_task()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length" in head:
                    await reader.readexactly(content_length(head))
                self.requests.append(head.split(b"\r\n")[0])
                if head.startswith(b"GET /watch"):
                    self.watchers.append(writer)
                    continue
                if head.startswith(b"PUT /wake"):
                    for watcher in self.watchers:
                        self._answer(watcher, b"x" * 300_000)
                self._answer(writer, b"{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (self.status, len(body))
        writer.write(head + body)


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, str]]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield made, f"127.0.0.1:{port}"
        await made.close()


async def test_without_a_time_every_request_is_sent_once(echo):
    made, address = echo
    requests = [Request("PUT", f"/{number}", "{}") for number in range(7)]

    figures = await run_plan(
        LoadPlan(address=address, connections=3, requests=requests)
    )

    assert figures.answers == 7
    assert sorted(made.requests) == [b"PUT /%d HTTP/1.1" % n for n in range(7)]


async def test_refusals_are_counted_and_are_no_throughput(echo):
    made, address = echo
    made.status = b"503 Service Unavailable"

    figures = await run_plan(
        LoadPlan(address=address, connections=1, requests=[Request("GET", "/")])
    )

    assert (figures.answers, figures.refused, figures.broken) == (1, 1, 0)
    assert figures.per_second == 0


async def test_a_connection_that_cannot_be_made_is_counted_as_broken(echo):
    plan = LoadPlan(
        address="127.0.0.1:1", connections=2, requests=[Request("GET", "/")] * 2
    )

    figures = await run_plan(plan)

    assert (figures.answers, figures.broken) == (0, 2)


async def test_a_fan_out_ends_when_the_last_watcher_has_all_of_its_answer(echo):
    made, address = echo
    plan = FanoutPlan(
        watch_address=address,
        write_address=address,
        watchers=5,
        watch=Request("GET", "/watch"),
        write=Request("PUT", "/wake", "{}"),
        settle_s=0.05,
    )

    figures = await asyncio.to_thread(run_fanout, plan)

    assert len(made.watchers) == 5
    assert 0 < figures.first_s <= figures.last_s
    assert figures.answer_bytes > 300_000


async def test_a_watcher_that_is_answered_too_early_makes_a_fan_out_void(echo):
    _, address = echo
    plan = FanoutPlan(
        watch_address=address,
        write_address=address,
        watchers=1,
        watch=Request("GET", "/at-once"),
        write=Request("PUT", "/wake", "{}"),
        settle_s=0.05,
    )

    with pytest.raises(ConnectionError, match="before anything was written"):
        await asyncio.to_thread(run_fanout, plan)


def test_an_answer_without_a_length_is_not_taken():
    with pytest.raises(ValueError, match="without a length"):
        content_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_fleet_is_the_same_each_time_and_every_node_is_another():
    assert make_fleet(range(3)) == make_fleet(range(3))
    assert len({node_id(number) for number in range(1000)}) == 1000


def test_a_report_compares_with_nomad_in_the_right_direction():
    rate = Figure(name="list_reads", title="lists", value=350, unit="/s")
    time = Figure(name="list_fanout_100", title="fan-out", value=1.36, unit="s")
    other = Figure(name="start_empty", title="start", value=1, unit="s")

    assert rate.times_better == pytest.approx(10)
    assert time.times_better == pytest.approx(10)
    assert other.times_better is None


def test_a_report_is_a_table_and_json():
    figure = Figure(
        name="node_reads", title="reads", value=44_000, unit="/s", where="leader"
    )
    report = Report(
        machine="m",
        cores=2,
        python="3.11",
        load_generator="wrk",
        node_count=5000,
        node_bytes=1900,
        list_bytes=4_500_000,
        figures=[figure],
    )

    assert "44,000 /s" in to_table(report)
    assert b'"times_better": 2.0' in to_json(report)


def test_a_plan_with_a_token_shows_it_with_every_request():
    plain = to_bytes(Request("GET", "/"), "h")
    shown = to_bytes(Request("GET", "/"), "h", "secret")

    assert b"X-Nomad-Token" not in plain
    assert shown == plain[:-2] + b"X-Nomad-Token: secret\r\n\r\n"
