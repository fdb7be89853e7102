import asyncio

import pytest

from nodestate.agents.servers import ATTEMPTS_S_MAX, Servers
from nodestate.errors import OutcomeUnknownError, ResponseError, UnreachableError
from tests.agents.cluster import FakeClient, FakeCluster, as_clients, unreachable
from tests.fakes import FakeClock, SequentialIds


class World:
    """Three servers, and a question for them."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.clock = FakeClock()
        cluster = FakeCluster(self.clock)
        cluster.secrets["n"] = "s"
        self.clients = [FakeClient(cluster) for _ in range(3)]
        self.servers = Servers(
            as_clients(*self.clients),
            clock=self.clock,
            ids=SequentialIds(),
            latency_s=latency_s,
        )

    def ask(self, number: int = 0) -> "asyncio.Task[object]":
        return asyncio.create_task(
            self.servers.ask(number, lambda client: client.heartbeat("n", "s"))
        )

    def asked(self) -> list[int]:
        return [client.asked_count for client in self.clients]


async def test_nodes_are_spread_over_the_servers():
    world = World()

    for number in range(9):
        await world.ask(number)

    assert world.asked() == [3, 3, 3]


@pytest.mark.parametrize(
    "error",
    [
        unreachable(),
        OutcomeUnknownError("no answer"),
        ResponseError(503, "No cluster leader"),
        ResponseError(429, "too many"),
    ],
)
async def test_another_server_is_asked_at_once_and_the_failing_one_rests(error):
    world = World()
    world.clients[0].error = error

    await world.ask(0)
    await world.ask(0)

    assert world.asked() == [1, 2, 0]
    assert world.servers.error_count == 1
    assert world.servers.last_error


async def test_the_nodes_of_a_server_that_is_gone_are_spread_over_the_others():
    world = World()
    world.clients[0].error = unreachable()

    for number in range(0, 24, 3):
        await world.ask(number)

    assert world.asked() == [1, 4, 4]


async def test_a_server_is_asked_again_when_it_has_rested():
    world = World()
    world.clients[0].error = unreachable()
    await world.ask(0)
    world.clients[0].error = None

    await world.clock.step(1)
    await world.ask(0)

    assert world.asked() == [2, 1, 0]


async def test_an_answer_that_every_server_would_give_is_passed_on():
    world = World()
    world.clients[0].error = ResponseError(404, "node not found")

    with pytest.raises(ResponseError, match="node not found"):
        await world.ask(0)

    assert world.asked() == [1, 0, 0]


async def test_a_question_waits_until_a_server_is_back():
    world = World()
    for client in world.clients:
        client.error = unreachable()
    asked = world.ask(1)
    await world.clock.step(5)
    assert not asked.done()

    world.clients[2].error = None
    await world.clock.step(10)

    assert asked.done()
    assert sum(world.asked()) < 20


async def test_a_question_is_given_up_in_the_end():
    world = World()
    for client in world.clients:
        client.error = unreachable()
    asked = world.ask()

    await world.clock.step(ATTEMPTS_S_MAX + 15)

    with pytest.raises(UnreachableError):
        await asked


async def test_a_slow_network_holds_up_every_question():
    world = World(latency_s=2.0)
    asked = world.ask()

    await world.clock.step(1.9)
    assert world.asked() == [0, 0, 0]
    await world.clock.step(0.2)

    assert asked.done()
