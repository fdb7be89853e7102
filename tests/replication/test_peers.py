"""Who the peers are by the log and by the settings, and who is told to go."""

from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from nodestate.config import ServerConfig, ServerEntry
from nodestate.errors import ConfigError
from nodestate.ports import ServerAddress
from nodestate.replication.configuration import Configuration, MemberEntry
from nodestate.replication.formation import Identity, Membership
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Formation,
    Hello,
    Refusal,
    Welcome,
)
from nodestate.replication.introductions import NO_MEMBER
from nodestate.replication.peers import FAREWELL_S, Peers, servers_of
from tests.fakes import FakeClock, FakeMetrics, SequentialIds, settle
from tests.replication.networks import Inbox, MemoryNetwork, TaskList

FORMATION = Formation("c", (("A", "a"), ("B", "b")))


def member(name, incarnation=None, *, peer="", http="", is_voter=True):
    return MemberEntry(name, incarnation or name.lower(), peer, http, is_voter)


class Engine:
    """As much of an engine as peers look at."""

    def __init__(self, *members):
        self.members = Configuration(members)
        self.leader = "B"
        self.followed: set[str] = set()
        self.contact_s: float | None = 0.0
        self.commit = 10

    def configuration(self):
        return self.members

    def configuration_index(self):
        return 5

    def commit_index(self):
        return self.commit

    def leader_id(self):
        return self.leader

    def last_contact_s(self):
        return self.contact_s

    def follower(self, server_id):
        return (0, 0.0) if server_id in self.followed else None


def config_of(*names, peer="127.0.0.1:1", **settings):
    entries = tuple(
        ServerEntry(name=name, peer=f"127.0.0.1:{number}", http=f"127.0.0.1:9{number}")
        for number, name in enumerate(names, 1)
    )
    return ServerConfig(name=names[0], peer=peer, servers=entries, **settings)


class Server:
    def __init__(self, *names, **settings):
        self.clock = FakeClock()
        self.network = MemoryNetwork()
        self.tasks = TaskList()
        self.is_caught_up = True
        self.peers = Peers(
            config_of(*names, **settings),
            network=self.network,
            clock=self.clock,
            ids=SequentialIds(),
            spawner=self.tasks,
            receiver=Inbox(),
            form=lambda formation: None,
            metrics=FakeMetrics(),
            logger=structlog.get_logger(),
        )

    async def start(self, engine):
        own = Identity("A", "a")
        await self.peers.start(Membership(own, self.peers.servers, FORMATION))
        stand_in: Any = engine
        self.peers.take_part(stand_in, lambda: self.is_caught_up)
        await settle()

    async def stop(self):
        await self.peers.close()
        await self.tasks.end()

    def greet(self, name, incarnation="x", address="127.0.0.1:77"):
        hello = Hello(PROTOCOL_VERSION, name, incarnation, FORMATION, address)
        return self.peers._introductions.judge_hello(hello)


@pytest.fixture
async def server():
    server = Server("A", "B")
    await server.start(Engine(member("A"), member("B")))
    yield server
    await server.stop()


def engine_of(server) -> Any:
    return server.peers._engine


async def test_the_log_says_where_members_are_and_the_settings_where_it_does_not():
    server = Server("A", "B")
    await server.start(
        Engine(member("A"), member("B"), member("D", peer="127.0.0.1:44", http="h:4"))
    )

    assert server.peers.servers == (
        ServerAddress("A", "127.0.0.1:1", "127.0.0.1:91"),
        ServerAddress("B", "127.0.0.1:2", "127.0.0.1:92"),
        ServerAddress("D", "127.0.0.1:44", "h:4"),
    )
    assert {2, 44} <= set(server.network.dials)
    await server.stop()


async def test_a_member_that_moved_is_dialled_where_it_is_now(server):
    engine_of(server).members = Configuration(
        (member("A"), member("B", peer="127.0.0.1:55"))
    )
    server.peers.on_members_changed()
    await server.clock.step(5)

    assert server.network.dials[55] >= 1


async def test_only_the_directory_that_the_log_knows_has_a_members_word(server):
    assert not server.peers.is_members_word("B")
    server.greet("B", "b")
    assert server.peers.is_members_word("B")
    server.greet("B", "another")
    assert not server.peers.is_members_word("B")
    assert not server.peers.is_members_word("D")
    engine_of(server).followed.add("D")  # it is being removed
    assert server.peers.is_members_word("D")


async def test_who_is_no_member_is_refused_while_a_leader_is_in_contact(server):
    assert server.greet("D") == Refusal(NO_MEMBER)


@pytest.mark.parametrize(
    "change",
    [
        {"contact_s": 60.0},
        {"contact_s": None},
        {"leader": "D"},
        {"commit": 4},
        {"followed": {"D"}},
    ],
)
async def test_who_may_be_a_member_by_now_is_heard(server, change):
    """What this server knows may be long overtaken: D may be the leader of all others."""
    vars(engine_of(server)).update(change)

    assert isinstance(server.greet("D"), Welcome)


async def test_a_server_that_is_still_catching_up_hears_everyone(server):
    server.is_caught_up = False

    assert isinstance(server.greet("D"), Welcome)


async def test_without_certificates_only_this_machine_is_dialled(server):
    server.is_caught_up = False

    assert server.greet("D", address="192.0.2.1:77") == Refusal(NO_MEMBER)
    assert server.greet("D", address="nonsense") != Welcome("A", "a", FORMATION)


async def test_a_server_that_was_removed_is_hung_up_on_after_a_while():
    server = Server("A", "B")
    await server.start(
        Engine(member("A"), member("B"), member("D", peer="127.0.0.1:44"))
    )
    engine_of(server).members = Configuration((member("A"), member("B")))

    server.peers.forget_strangers()
    await server.clock.step(FAREWELL_S / 2)
    server.peers.forget_strangers()
    assert server.peers._transport is not None
    assert "D" in server.peers._transport.peer_ids()

    await server.clock.step(FAREWELL_S)
    server.peers.forget_strangers()
    assert server.peers._transport.peer_ids() == ["B"]
    await server.stop()


async def test_a_server_that_is_alone_listens_to_nobody():
    server = Server("A", peer="127.0.0.1:0")
    await server.start(Engine(member("A")))

    assert server.network.accepts == {}
    assert not server.peers.send("B", SimpleNamespace())  # type: ignore[arg-type]
    assert not server.peers.is_connected("B")
    await server.stop()


def test_a_server_must_be_among_the_servers():
    config = ServerConfig(name="Z", servers=config_of("A", "B").servers)

    with pytest.raises(ConfigError, match="'Z' is not among servers: A, B"):
        servers_of(config)
