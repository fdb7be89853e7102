"""The links alone; `test_transport.py` has them at work between servers."""

import pytest

from nodestate.clock import Clock
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    Refusal,
    RequestVote,
    Welcome,
    encode_frame,
)
from nodestate.replication.links import HANDSHAKE_S_MAX, Incoming, Outgoing
from tests.fakes import FakeClock, settle
from tests.replication.networks import Greeter, MemoryConnection, Stranger

HELLO = Hello(PROTOCOL_VERSION, "server2", "incarnation", None)
WELCOME = Welcome("server1", "incarnation", None)


class Owner:
    """Owner of either kind of link; notes what it is told."""

    def __init__(self) -> None:
        self.has_room = True
        self.accepts = True
        self.answer: Welcome | Refusal = WELCOME
        self.told: list[object] = []

    def take_answer(self, link: Outgoing, answer: Welcome | Refusal) -> bool:
        self.told.append(answer)
        return self.accepts

    def take_end(self, link: Outgoing, reason: str) -> None:
        self.told.append(reason)

    def admit(self, link: Incoming) -> bool:
        return self.has_room

    def judge(self, link: Incoming, hello: Hello) -> Welcome | Refusal:
        self.told.append(hello)
        return self.answer

    def deliver(self, peer_id: str, message: Message) -> None:
        self.told.append((peer_id, message))

    def complain(self, link: Incoming, reason: str) -> None:
        self.told.append(reason)

    def forget(self, link: Incoming) -> None:
        self.told.append("forgotten")


def dialled(owner: Owner) -> tuple[Outgoing, MemoryConnection]:
    link = Outgoing("server1", Greeter("server2").hello, owner)
    connection = MemoryConnection(link)
    link.on_made(connection)
    return link, connection


def accepted(owner: Owner, clock: Clock) -> tuple[Incoming, MemoryConnection]:
    link = Incoming(owner, clock)
    connection = MemoryConnection(link)
    connection.other = MemoryConnection(Stranger())
    link.on_made(connection)
    return link, connection


async def test_an_outgoing_link_introduces_itself_and_opens_on_a_welcome():
    owner = Owner()
    link, connection = dialled(owner)
    assert connection.writes == [encode_frame(Greeter("server2").hello())]
    assert not link.send(RequestVote(1, 0, 0))

    link.on_bytes(encode_frame(WELCOME))

    assert link.is_open()
    assert owner.told == [WELCOME]
    assert link.send(RequestVote(1, 0, 0))


async def test_an_outgoing_link_that_is_not_accepted_ends_once():
    owner = Owner()
    owner.accepts = False
    link, connection = dialled(owner)

    link.on_bytes(encode_frame(WELCOME))
    await settle()

    assert not link.is_open()
    assert connection.is_closed
    assert owner.told == [WELCOME, "was not accepted"]


async def test_an_outgoing_link_says_nothing_to_another_servers_certificate():
    owner = Owner()
    link = Outgoing("server1", Greeter("server2").hello, owner)
    connection = MemoryConnection(link)
    connection.certified_name = "server3"

    link.on_made(connection)
    await settle()

    assert connection.is_closed
    assert connection.writes == []
    assert owner.told == ["its certificate is that of 'server3'"]


async def test_an_outgoing_link_that_ended_before_it_was_made_hangs_up():
    owner = Owner()
    link = Outgoing("server1", Greeter("server2").hello, owner)
    link.end("dropped")
    connection = MemoryConnection(link)

    link.on_made(connection)
    await settle()

    assert connection.is_closed
    assert connection.writes == []
    assert owner.told == ["dropped"]


async def test_what_waits_to_be_sent_is_dropped_with_the_link():
    owner = Owner()
    link, connection = dialled(owner)
    link.on_bytes(encode_frame(WELCOME))
    writes = list(connection.writes)

    link.send(RequestVote(1, 0, 0))
    link.end("dropped")
    await settle()

    assert connection.writes == writes


async def test_an_incoming_link_greets_then_delivers():
    owner = Owner()
    link, connection = accepted(owner, FakeClock())

    link.on_bytes(encode_frame(HELLO))
    link.on_bytes(encode_frame(RequestVote(1, 0, 0)) * 2)

    assert connection.writes == [encode_frame(WELCOME)]
    assert owner.told == [HELLO, *[("server2", RequestVote(1, 0, 0))] * 2]


async def test_a_refused_incoming_link_hears_why_and_is_forgotten():
    owner = Owner()
    owner.answer = Refusal("no")
    link, connection = accepted(owner, FakeClock())

    link.on_bytes(encode_frame(HELLO))
    link.on_bytes(encode_frame(RequestVote(1, 0, 0)))
    await settle()

    assert connection.writes == [encode_frame(Refusal("no"))]
    assert connection.is_closed
    assert owner.told == [HELLO, "no", "forgotten"]


async def test_an_incoming_link_without_room_is_not_in_the_books():
    owner = Owner()
    owner.has_room = False
    link, connection = accepted(owner, FakeClock())

    link.on_bytes(encode_frame(HELLO))
    await settle()

    assert connection.is_closed
    assert owner.told == []


@pytest.mark.parametrize("half", [b"", b"\0\0"])
async def test_an_incoming_link_gives_up_on_a_slow_handshake(half):
    owner = Owner()
    clock = FakeClock()
    link, connection = accepted(owner, clock)
    link.on_bytes(half)

    await clock.step(HANDSHAKE_S_MAX)

    assert connection.is_closed
    assert owner.told == [f"no handshake within {HANDSHAKE_S_MAX} s", "forgotten"]


async def test_an_ended_incoming_link_is_deaf():
    owner = Owner()
    link, _ = accepted(owner, FakeClock())
    link.on_bytes(encode_frame(HELLO))

    link.end()
    link.end()
    link.on_bytes(encode_frame(RequestVote(1, 0, 0)))
    link.on_lost()

    assert owner.told == [HELLO, "forgotten"]
