"""The network: held up, slow, broken, and connections that linger."""

import asyncio
import random

from cluster.simulation import loop
from cluster.simulation.loop import Process, VirtualTimeLoop
from cluster.simulation.network import SimulatedNetwork
from nodestate.ports import Connection

PORT = 4001


class Handler:
    """Keeps what it is told, with the time."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.seen: list[tuple[float, bytes | None]] = []

    def on_made(self, connection: Connection) -> None:
        self.connection = connection

    def on_bytes(self, data: bytes) -> None:
        self.seen.append((asyncio.get_running_loop().time(), data))

    def on_lost(self) -> None:
        self.seen.append((asyncio.get_running_loop().time(), None))

    def data(self) -> list[bytes | None]:
        return [data for _, data in self.seen]


class Pair:
    """Two processes, and a connection that a dialled to b."""

    def __init__(self) -> None:
        running = asyncio.get_running_loop()
        assert isinstance(running, VirtualTimeLoop)
        self.network = SimulatedNetwork(random.Random(1))
        self.a, self.b = Process(running, "a"), Process(running, "b")
        self.near, self.far = Handler(), Handler()

    async def connect(self) -> Connection:
        view = self.network.view("b", self.b)
        await self.b.spawn(view.listen("", PORT, lambda: self.far))
        dialling = self.network.view("a", self.a).connect(
            "", PORT, self.near, deadline_s=1
        )
        return await self.a.spawn(dialling)


def play(story):
    async def main():
        pair = Pair()
        await story(pair, await pair.connect())

    loop.run(main())


def test_what_is_sent_arrives_in_order():
    async def story(pair, connection):
        for number in range(20):
            connection.write(b"%d" % number)
        await asyncio.sleep(1)
        assert pair.far.data() == [b"%d" % number for number in range(20)]

    play(story)


def test_a_cut_holds_up_one_direction_until_it_is_healed():
    async def story(pair, connection):
        pair.network.cut("a", "b")
        connection.write(b"late")
        pair.far.connection.write(b"soon")
        await asyncio.sleep(1)
        assert pair.near.data() == [b"soon"]
        assert pair.far.data() == []
        assert connection.buffered_bytes() == 4
        pair.network.heal()
        await asyncio.sleep(1)
        assert pair.far.data() == [b"late"]

    play(story)


def test_dialling_over_a_cut_goes_through_once_it_is_healed():
    async def story(pair, _):
        pair.network.cut("b", "a")
        again = pair.network.view("a", pair.a).connect(
            "", PORT, Handler(), deadline_s=5
        )
        dialling = pair.a.spawn(again)
        await asyncio.sleep(1)
        assert not dialling.done()
        pair.network.heal()
        await asyncio.sleep(0.1)
        assert dialling.done()

    play(story)


def test_a_paused_process_hears_everything_afterwards():
    async def story(pair, connection):
        pair.b.pause()
        connection.write(b"one")
        connection.write(b"two")
        await asyncio.sleep(1)
        assert pair.far.data() == []
        pair.b.resume()
        await asyncio.sleep(1)
        assert pair.far.data() == [b"one", b"two"]

    play(story)


def test_what_a_killed_process_sent_still_arrives_and_then_the_end():
    async def story(pair, connection):
        connection.write(b"last words")
        pair.a.kill()
        pair.network.kill("a")
        await asyncio.sleep(1)
        assert pair.far.data() == [b"last words", None]
        assert pair.near.data() == []

    play(story)


def test_an_old_connection_delivers_late_while_a_new_one_is_up():
    async def story(pair, connection):
        connection.write(b"old")
        old, pair.far = pair.far, Handler()
        pair.network.linger("a", "b", 0.5)
        view, near = pair.network.view("a", pair.a), Handler()
        dialling = view.connect("", PORT, near, deadline_s=1)
        connection = await pair.a.spawn(dialling)
        connection.write(b"new")
        await asyncio.sleep(0.1)
        assert pair.near.data() == [None]
        assert pair.far.data() == [b"new"]
        assert old.data() == []
        await asyncio.sleep(1)
        assert old.data() == [b"old", None]

    play(story)


def test_a_slow_direction_takes_that_much_longer():
    async def story(pair, connection):
        pair.network.slow("a", "b", 0.4)
        now_s = asyncio.get_running_loop().time()
        connection.write(b"slow")
        await asyncio.sleep(1)
        ((at_s, _),) = pair.far.seen
        assert 0.4 <= at_s - now_s < 0.41

    play(story)
