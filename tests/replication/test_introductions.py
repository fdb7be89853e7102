"""Who is let in, what is learnt of them, and when a cluster forms."""

import structlog

from nodestate.ports import ServerAddress
from nodestate.replication.formation import NOT_FORMED, Identity, Membership
from nodestate.replication.frames import (
    PROTOCOL_VERSION,
    Formation,
    Hello,
    Refusal,
    Welcome,
)
from nodestate.replication.introductions import NO_MEMBER, Introductions
from tests.replication.fakes import NamedIds

NAMES = ("A", "B")
FORMATION = Formation(
    "id1", (("A", "a"), ("B", "b")), tuple((n, f"p-{n}", f"h-{n}") for n in NAMES)
)


class Server:
    def __init__(self, name, formation=None):
        self.formed: list[Formation] = []
        self.strangers: set[str] = set()
        servers = [ServerAddress(one, f"p-{one}", f"h-{one}") for one in NAMES]
        self.membership = Membership(Identity(name, name.lower()), servers, formation)
        self.introductions = Introductions(
            self.membership,
            address=f"p-{name}",
            ids=NamedIds(name),
            form=self.formed.append,
            is_stranger=lambda server_id, address: server_id in self.strangers,
            logger=structlog.get_logger(),
        )


def hello(name, incarnation=None, formation=None):
    return Hello(
        PROTOCOL_VERSION, name, incarnation or name.lower(), formation, f"p-{name}"
    )


def test_a_server_says_who_and_where_it_is():
    server = Server("A", FORMATION)

    assert server.introductions.hello() == hello("A", formation=FORMATION)


def test_the_founder_forms_when_everyone_is_empty():
    founder = Server("A")

    assert founder.introductions.judge_hello(hello("B")) == Refusal(NOT_FORMED)
    assert founder.formed == [FORMATION]


def test_an_empty_server_joins_the_cluster_that_it_hears_of():
    server = Server("B")

    answer = server.introductions.judge_hello(hello("A", formation=FORMATION))

    assert isinstance(answer, Welcome)
    assert server.formed == [FORMATION]


def test_with_which_directory_a_peer_speaks_and_is_reached():
    server = Server("A", FORMATION)
    introductions = server.introductions
    assert introductions.incarnation_of("B") is None
    introductions.judge_hello(hello("B", "b2", FORMATION))
    assert introductions.incarnation_of("B") == "b2"

    assert introductions.judge_welcome(Welcome("B", "b2", FORMATION)) == ""
    assert introductions.reached_incarnation("B") is None
    introductions.on_connected("B")
    assert introductions.reached_incarnation("B") == "b2"
    introductions.on_disconnected("B")
    assert introductions.reached_incarnation("B") is None


def test_who_is_refused_is_not_remembered():
    server = Server("A", FORMATION)
    other = Formation("another", FORMATION.members)

    answer = server.introductions.judge_hello(hello("B", "b2", other))

    assert isinstance(answer, Refusal)
    assert server.introductions.incarnation_of("B") is None


def test_a_stranger_of_the_same_cluster_is_told_what_it_is():
    server = Server("A", FORMATION)
    server.strangers.add("B")

    assert server.introductions.judge_hello(hello("B", formation=FORMATION)) == Refusal(
        NO_MEMBER
    )
    assert server.introductions.judge_welcome(Welcome("B", "b", FORMATION)) == NO_MEMBER
