import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nodestate.errors import FrameError
from nodestate.ports import Network
from nodestate.replication.frames import (
    FRAME_BYTES_MAX,
    PROTOCOL_VERSION,
    Hello,
    Proposal,
    Refusal,
    RequestVote,
    Welcome,
    answer_reader,
    encode_frame,
)
from nodestate.replication.links import HANDSHAKE_S_MAX, WRITE_BUFFER_BYTES_MAX
from nodestate.replication.network import SystemNetwork
from nodestate.replication.transport import (
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    HALF_OPEN_MAX,
    HANDSHAKE_ANSWER_S_MAX,
    PEERS_MAX,
    Transport,
)
from tests.fakes import FakeClock, FakeMetrics, SequentialIds, settle
from tests.replication.networks import (
    HOST,
    Greeter,
    Inbox,
    MemoryConnection,
    MemoryNetwork,
    Stranger,
    TaskList,
)

PORTS = {"server1": 1, "server2": 2, "server3": 3}
REFUSED = "nodestate_replication_connections_refused_total"


class Server:
    """A transport with everything it was given."""

    def __init__(self, network: Network, server_id: str, *peer_ids: str) -> None:
        self.server_id = server_id
        self.clock = FakeClock()
        self.greeter = Greeter(server_id)
        self.inbox = Inbox()
        self.tasks = TaskList()
        self.metrics = FakeMetrics()
        self.transport = Transport(
            server_id=server_id,
            peers={peer_id: (HOST, PORTS[peer_id]) for peer_id in peer_ids},
            listen=(HOST, PORTS[server_id]),
            network=network,
            clock=self.clock,
            ids=SequentialIds(),
            spawner=self.tasks,
            handshake=self.greeter,
            receiver=self.inbox,
            metrics=self.metrics,
        )

    def refused_count(self) -> float:
        return self.metrics.counters[REFUSED].counts.get("", 0)


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest_asyncio.fixture
async def pair(network: MemoryNetwork) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers that are connected."""
    one = Server(network, "server1", "server1", "server2")
    two = Server(network, "server2", "server1", "server2")
    await two.transport.start()
    await one.transport.start()
    for _ in range(3):
        await one.clock.step(1)
        await two.clock.step(1)
    yield one, two
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()


@pytest_asyncio.fixture
async def lone(network: MemoryNetwork) -> AsyncIterator[Server]:
    """A server whose peers are not there."""
    server = Server(network, "server1", "server1", "server2", "server3")
    await server.transport.start()
    await settle()
    yield server
    await server.transport.close()
    await server.tasks.end()


def vote(term: int) -> RequestVote:
    return RequestVote(term, 0, 0)


def hello_of(server_id: str, protocol: int = PROTOCOL_VERSION) -> bytes:
    return encode_frame(Hello(protocol, server_id, "incarnation", None))


async def stranger(
    network: MemoryNetwork, *said: bytes, certified_name: str | None = None
) -> Stranger:
    """Dial server1, perhaps with a server's certificate, and say something."""
    caller = Stranger()
    await network.connect(HOST, PORTS["server1"], caller, deadline_s=1)
    accepted = network.connections[-1].other
    assert accepted is not None
    accepted.certified_name = certified_name
    for data in said:
        caller.say(data)
    await settle()
    return caller


async def test_messages_reach_the_peer_in_order_and_with_their_sender(pair):
    one, two = pair

    assert one.transport.is_connected("server2")
    for term in range(1, 4):
        assert one.transport.send("server2", vote(term))
    assert two.transport.send("server1", vote(9))
    await settle()

    assert two.inbox.messages == [("server1", vote(term)) for term in (1, 2, 3)]
    assert one.inbox.messages == [("server2", vote(9))]
    assert one.inbox.changes == [("connected", "server2")]


async def test_what_is_sent_in_one_turn_goes_out_in_one_write(pair, network):
    one, _ = pair
    link = next(c for c in network.connections if c.writes[0] == hello_of_one())
    before = len(link.writes)

    for term in range(5):
        one.transport.send("server2", vote(term))
    await settle()

    assert link.writes[before:] == [b"".join(encode_frame(vote(t)) for t in range(5))]


def hello_of_one() -> bytes:
    return encode_frame(Greeter("server1").hello())


async def test_nothing_is_sent_to_a_peer_that_is_not_there(lone):
    assert not lone.transport.is_connected("server2")
    assert not lone.transport.send("server2", vote(1))
    assert lone.inbox.changes == []


async def test_a_message_too_large_is_an_error_and_sends_nothing(pair):
    one, two = pair

    with pytest.raises(FrameError):
        one.transport.send("server2", Proposal(1, bytes(FRAME_BYTES_MAX)))
    await settle()

    assert two.inbox.messages == []
    assert one.transport.send("server2", vote(1))


async def test_a_peer_that_does_not_keep_up_is_sent_nothing_more(pair, network):
    one, _ = pair
    link = next(c for c in network.connections if c.writes[0] == hello_of_one())

    link.buffered = WRITE_BUFFER_BYTES_MAX
    assert one.transport.send("server2", vote(1))
    assert not one.transport.send("server2", vote(2))
    link.buffered = 0
    await settle()
    assert one.transport.send("server2", vote(3))


async def test_dialling_backs_off_to_a_limit(lone, network):
    def dials() -> int:
        return int(network.dials[PORTS["server2"]])

    assert dials() == 1
    await lone.clock.step(BACKOFF_S_MIN)
    assert dials() == 2
    await lone.clock.step(3)
    assert 4 <= dials() <= 8
    before = dials()
    await lone.clock.step(20 * BACKOFF_S_MAX)
    assert 20 <= dials() - before <= 40


async def test_a_lost_connection_is_told_and_dialled_again(pair, network):
    one, two = pair

    for link in list(network.connections):
        link.abort()
    await settle()
    assert ("disconnected", "server2") in one.inbox.changes
    assert not one.transport.is_connected("server2")
    await one.clock.step(BACKOFF_S_MIN)

    assert one.inbox.changes[-1] == ("connected", "server2")
    assert one.transport.send("server2", vote(1))
    await settle()
    assert two.inbox.messages == [("server1", vote(1))]


async def test_a_dropped_peer_is_dialled_at_once_after_a_new_handshake(pair):
    one, two = pair
    hellos_before = len(two.greeter.hellos)

    one.transport.drop("server2")
    assert one.inbox.changes[-1] == ("disconnected", "server2")
    assert not one.transport.send("server2", vote(1))
    await settle()

    assert one.transport.is_connected("server2")
    assert len(two.greeter.hellos) == hellos_before + 1
    # The other direction introduces itself again as well.
    assert two.inbox.changes[-2:] == [
        ("disconnected", "server1"),
        ("connected", "server1"),
    ]


async def test_dropping_cuts_a_back_off_short(lone, network):
    await lone.clock.step(10)
    before = dict(network.dials)

    lone.transport.drop_all()
    await settle()

    for port in (PORTS["server2"], PORTS["server3"]):
        assert network.dials[port] == before[port] + 1


async def test_a_peer_that_dials_cuts_the_back_off_to_it_short(lone, network):
    await lone.clock.step(10)
    before = dict(network.dials)

    await stranger(network, hello_of("server2"))

    assert network.dials[PORTS["server2"]] == before[PORTS["server2"]] + 1
    assert network.dials[PORTS["server3"]] == before[PORTS["server3"]]


async def test_a_refused_server_is_told_why_and_sends_nothing(network):
    one = Server(network, "server1", "server2")
    two = Server(network, "server2", "server1")
    two.greeter.refusal = "wrong cluster"
    await two.transport.start()
    await one.transport.start()
    await settle()
    assert network.dials[PORTS["server2"]] == 2, "once more, as the other one is there"

    assert set(one.greeter.refused) == {("server2", "wrong cluster")}
    assert not one.transport.is_connected("server2")
    assert one.inbox.changes == []
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()


async def test_a_server_hangs_up_on_one_it_does_not_like(network):
    one = Server(network, "server1", "server2")
    two = Server(network, "server2", "server1")
    one.greeter.dislike = "it has forgotten its votes"
    await two.transport.start()
    await one.transport.start()
    await settle()

    assert not one.transport.is_connected("server2")
    assert one.inbox.changes == []
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()


async def test_another_server_at_the_address_of_a_peer_is_not_used(network):
    one = Server(network, "server1", "server2")
    two = Server(network, "server2", "server1")
    two.greeter.server_id = "server3"
    await two.transport.start()
    await one.transport.start()
    await settle()

    assert not one.transport.is_connected("server2")
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()


async def test_a_new_connection_silences_the_old_one_of_the_same_peer(lone, network):
    old = await stranger(network, hello_of("server2"))
    old.say(encode_frame(vote(1)))
    await settle()

    new = await stranger(network, hello_of("server2"))
    old.say(encode_frame(vote(2)))
    new.say(encode_frame(vote(3)))
    await settle()

    assert lone.inbox.messages == [("server2", vote(1)), ("server2", vote(3))]
    assert old.was_lost
    assert not new.was_lost


async def test_what_the_old_connection_had_already_received_is_not_delivered(
    lone, network
):
    old = await stranger(network, hello_of("server2"))
    assert isinstance(old.connection, MemoryConnection)
    assert old.connection.other is not None
    half = encode_frame(vote(1))
    old.say(half[:5])
    await settle()
    await stranger(network, hello_of("server2"))

    # As if the loop had read this before it noticed the end of the connection.
    old.connection.other.handler.on_bytes(half[5:])

    assert lone.inbox.messages == []


async def test_a_peer_dropped_by_a_message_delivers_nothing_behind_it(lone, network):
    caller = await stranger(network, hello_of("server2"))
    lone.inbox.then = lambda: lone.transport.drop("server2")
    caller.say(encode_frame(vote(1)) + encode_frame(vote(2)))
    await settle()

    assert lone.inbox.messages == [("server2", vote(1))]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (hello_of("server9"), "'server9' is no server of this cluster"),
        (hello_of("server1"), "'server1' is no server of this cluster"),
        (hello_of("server2", 7), f"protocol 7, expected {PROTOCOL_VERSION}"),
    ],
)
async def test_strangers_are_refused_with_a_reason(lone, network, hello, reason):
    caller = await stranger(network, hello)

    assert answer_reader().feed(caller.received) == [Refusal(reason)]
    assert caller.was_lost
    assert lone.greeter.hellos == []
    assert lone.refused_count() == 1


@pytest.mark.parametrize("certified", ["server3", "server1", ""])
async def test_a_server_speaks_only_for_the_one_in_its_certificate(
    lone, network, certified
):
    caller = await stranger(network, certified_name=certified)

    caller.say(hello_of("server2"))
    await settle()

    reason = f"its certificate is that of {certified!r}"
    assert answer_reader().feed(caller.received) == [Refusal(reason)]
    assert caller.was_lost
    assert lone.greeter.hellos == []
    assert lone.refused_count() == 1


async def test_a_server_that_is_the_one_in_its_certificate_is_heard(lone, network):
    caller = await stranger(network, certified_name="server2")

    caller.say(hello_of("server2"))
    caller.say(encode_frame(vote(1)))
    await settle()

    assert lone.inbox.messages == [("server2", vote(1))]


@pytest.mark.parametrize(
    "said",
    [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)],  # TLS
        [b"\x80\x02csystem\n"],
        [encode_frame(vote(1))],
        [encode_frame(Refusal("x"))],
        [hello_of("server2") + encode_frame(vote(1))],
        [hello_of("server2") + b"\0"],
        [hello_of("server2")] * 2,
        [hello_of("server2"), b"\xff\xff\xff\xff"],
        [hello_of("server2"), b"\0\0\0\1\xc1"],
    ],
)
async def test_hostile_bytes_end_the_connection_and_nothing_else(lone, network, said):
    caller = await stranger(network, *said)

    assert caller.was_lost
    assert lone.inbox.messages == []
    assert lone.tasks.errors() == []
    assert lone.refused_count() == 1
    good = await stranger(network, hello_of("server3"), encode_frame(vote(4)))
    assert not good.was_lost


async def test_a_good_message_before_hostile_bytes_counts_or_not_but_alone(
    lone, network
):
    caller = await stranger(network, hello_of("server2"))

    caller.say(encode_frame(vote(1)))
    caller.say(b"\xff" * 8 + encode_frame(vote(2)))
    await settle()

    assert lone.inbox.messages == [("server2", vote(1))]
    assert caller.was_lost


async def test_a_handshake_that_does_not_come_is_not_waited_for(lone, network):
    caller = await stranger(network, b"\0")

    await lone.clock.step(HANDSHAKE_S_MAX)

    assert caller.was_lost
    assert lone.refused_count() == 1


async def test_a_connection_outlives_the_time_for_its_handshake(lone, network):
    caller = await stranger(network, hello_of("server2"))

    await lone.clock.step(2 * HANDSHAKE_S_MAX)

    assert not caller.was_lost


async def test_half_open_connections_have_a_limit(lone, network):
    waiting = [await stranger(network) for _ in range(HALF_OPEN_MAX)]
    assert not any(caller.was_lost for caller in waiting)

    assert (await stranger(network)).was_lost
    waiting[0].say(hello_of("server2"))
    await settle()
    assert not (await stranger(network)).was_lost


async def test_an_answer_that_does_not_come_is_not_waited_for(lone, network):
    silent = Stranger()
    network.accepts[PORTS["server2"]] = lambda: silent
    await lone.clock.step(BACKOFF_S_MAX)
    assert silent.received

    await lone.clock.step(HANDSHAKE_ANSWER_S_MAX)

    assert silent.was_lost


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        encode_frame(vote(1)),
        encode_frame(Welcome("server2", "x", None)) + b"\0",
    ],
)
async def test_a_hostile_answer_ends_the_attempt(lone, network, answer):
    peer = Stranger()
    network.accepts[PORTS["server2"]] = lambda: peer
    await lone.clock.step(BACKOFF_S_MAX)

    peer.say(answer)
    await settle()

    assert peer.was_lost
    assert lone.inbox.changes == []
    assert lone.inbox.messages == []


async def test_whoever_was_dialled_must_not_send(lone, network):
    peer = Stranger()
    network.accepts[PORTS["server2"]] = lambda: peer
    await lone.clock.step(BACKOFF_S_MAX)
    peer.say(encode_frame(Welcome("server2", "x", None)))
    await settle()
    assert lone.inbox.changes == [("connected", "server2")]

    peer.say(encode_frame(vote(1)))
    await settle()

    assert lone.inbox.messages == []
    assert lone.inbox.changes[-1] == ("disconnected", "server2")


async def test_a_receiver_that_fails_stops_the_server(lone, network):
    lone.inbox.error = ValueError("defect")

    caller = await stranger(
        network, hello_of("server2"), encode_frame(vote(1)), encode_frame(vote(2))
    )
    await settle()

    assert [str(error) for error in lone.tasks.errors()] == ["defect"]
    assert not caller.was_lost


async def test_after_closing_nothing_is_dialled_or_accepted(pair, network):
    one, _ = pair

    await one.transport.close()
    await one.clock.step(10)
    dials = dict(network.dials)
    await one.clock.step(100)

    assert network.dials == dials
    assert all(task.done() for task in one.tasks.tasks)
    assert PORTS["server1"] not in network.accepts
    assert one.tasks.errors() == []


async def test_real_sockets_carry_the_same_conversation(network, monkeypatch):
    real = SystemNetwork()
    listener = await real.listen(HOST, 0, Stranger)
    monkeypatch.setitem(PORTS, "server1", listener.port())
    await listener.close()
    listener = await real.listen(HOST, 0, Stranger)
    monkeypatch.setitem(PORTS, "server2", listener.port())
    await listener.close()
    large = Proposal(1, bytes(3 << 20))
    one = Server(real, "server1", "server2")
    two = Server(real, "server2", "server1")
    changed = asyncio.Event()
    one.inbox.then = two.inbox.then = changed.set
    await two.transport.start()
    await one.transport.start()

    async with asyncio.timeout(5):
        while not one.transport.is_connected("server2"):
            changed.clear()
            await changed.wait()
        one.transport.send("server2", large)
        while not two.inbox.messages:
            changed.clear()
            await changed.wait()

    assert two.inbox.messages == [("server1", large)]
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()
    await asyncio.sleep(0)


# Peers that come and go


async def test_a_peer_that_is_added_is_dialled(network):
    one = Server(network, "server1", "server1")
    two = Server(network, "server2", "server1", "server2")
    await two.transport.start()
    await one.transport.start()
    await settle()
    assert not one.transport.is_connected("server2")

    one.transport.add_peer("server2", HOST, PORTS["server2"])
    await settle()

    assert one.transport.is_connected("server2")
    for server in (one, two):
        await server.transport.close()
        await server.tasks.end()


async def test_a_peer_that_moved_is_dialled_elsewhere(lone, network):
    lone.transport.add_peer("server2", HOST, 77)
    await lone.clock.step(BACKOFF_S_MAX)

    assert network.dials[77] >= 1


async def test_a_peer_that_is_removed_is_hung_up_on_and_not_dialled_again(
    pair, network
):
    one, _ = pair
    one.transport.remove_peer("server2")
    await settle()
    dials = network.dials[PORTS["server2"]]
    for _ in range(5):
        await one.clock.step(BACKOFF_S_MAX)

    assert not one.transport.is_connected("server2")
    assert one.transport.peer_ids() == []
    assert not one.transport.send("server2", vote(1))
    assert network.dials[PORTS["server2"]] == dials
    assert ("disconnected", "server2") in one.inbox.changes


async def test_this_server_is_no_peer_of_its_own(lone):
    lone.transport.add_peer("server1", HOST, PORTS["server1"])

    assert lone.transport.peer_ids() == ["server2", "server3"]


async def test_a_server_that_is_not_known_is_dialled_where_it_says_it_is(lone, network):
    hello = Hello(PROTOCOL_VERSION, "server9", "i", None, f"{HOST}:99")
    caller = await stranger(network, encode_frame(hello))
    await lone.clock.step(BACKOFF_S_MAX)

    assert answer_reader().feed(caller.received)[0] == Welcome(
        "server1", "server1-1", None
    )
    assert "server9" in lone.transport.peer_ids()
    assert network.dials[99] >= 1


async def test_only_so_many_servers_are_known(lone, network):
    for number in range(PEERS_MAX + 5):
        hello = Hello(PROTOCOL_VERSION, f"s{number}", "i", None, f"{HOST}:{number}")
        await stranger(network, encode_frame(hello))

    assert len(lone.transport.peer_ids()) == PEERS_MAX


async def test_a_stranger_that_is_refused_is_not_dialled(lone, network):
    lone.greeter.refusal = "no"
    hello = Hello(PROTOCOL_VERSION, "server9", "i", None, f"{HOST}:99")
    await stranger(network, encode_frame(hello))

    assert "server9" not in lone.transport.peer_ids()
