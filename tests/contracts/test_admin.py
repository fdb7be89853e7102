"""What operators may ask of a cluster: the fake that other tests trust, and the real one."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import pytest

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS
from nodestate.errors import RequestError
from nodestate.ports import ClusterAdmin, Member, ServerAddress, StateView
from tests.fakes import FakeAdmin, FakeLeadership, FakeReplica

DEADLINE_S = 5.0
NEWCOMER = ServerAddress("server9", "10.0.0.9:4647", "10.0.0.9:4646")


class Server(NamedTuple):
    """What a room is handed of a server that is alone and leads."""

    admin: ClusterAdmin
    view: StateView


@asynccontextmanager
async def fake_server() -> AsyncIterator[Server]:
    replica, leadership = FakeReplica(), FakeLeadership()
    admin = FakeAdmin(replica, leadership)
    admin.snapshot_bytes = b"whatever"
    yield Server(admin, replica)


@asynccontextmanager
async def real_server() -> AsyncIterator[Server]:
    cluster = SimulatedCluster(1, 1, SETTINGS)
    server = await cluster.start("server1")
    while not server.replica.is_ready_to_lead():
        await server.replica.wait_for_change(0.05)
    yield Server(server.administration, server.replica)
    await cluster.stop()


Start = Callable[[], AbstractAsyncContextManager[Server]]


@pytest.fixture(params=[fake_server, real_server])
def start(request) -> Start:
    chosen: Start = request.param
    return chosen


def play(start: Start, story: Callable[[Server], Awaitable[None]]) -> None:
    """Run a story in virtual time."""

    async def main() -> None:
        async with start() as server:
            await story(server)

    loop.run(main())


def members(server: Server) -> dict[str, Member]:
    return {member.server_id: member for member in server.admin.membership().members}


def test_a_server_alone_is_its_own_leader(start):
    async def story(server: Server) -> None:
        (member,) = members(server).values()

        assert (member.server_id, member.is_voter, member.is_leader) == (
            "server1",
            True,
            True,
        )
        assert server.admin.membership().index >= 1

    play(start, story)


def test_who_is_added_has_no_vote_and_its_addresses_can_change(start):
    async def story(server: Server) -> None:
        before = server.admin.membership().index
        moved = ServerAddress(NEWCOMER.server_id, "10.0.0.8:4647", "10.0.0.8:4646")

        first = await server.admin.add_server(NEWCOMER, deadline_s=DEADLINE_S)
        second = await server.admin.add_server(moved, deadline_s=DEADLINE_S)

        assert before < first < second == server.admin.membership().index
        added = members(server)[NEWCOMER.server_id]
        assert not added.is_voter
        assert not added.is_leader
        assert (added.peer_address, added.http_address) == (
            moved.peer_address,
            moved.http_address,
        )
        assert list(members(server)) == ["server1", "server9"]

    play(start, story)


def test_who_is_removed_is_a_member_no_more(start):
    async def story(server: Server) -> None:
        added = await server.admin.add_server(NEWCOMER, deadline_s=DEADLINE_S)

        index = await server.admin.remove_server("server9", deadline_s=DEADLINE_S)

        assert index > added
        assert list(members(server)) == ["server1"]
        with pytest.raises(RequestError):
            await server.admin.remove_server("server9", deadline_s=DEADLINE_S)

    play(start, story)


def test_leadership_goes_to_voters_only(start):
    async def story(server: Server) -> None:
        await server.admin.add_server(NEWCOMER, deadline_s=DEADLINE_S)

        for server_id in ("server9", "nobody", None):
            with pytest.raises(RequestError):
                await server.admin.transfer_leadership(server_id, deadline_s=DEADLINE_S)

        assert members(server)["server1"].is_leader

    play(start, story)


def test_a_snapshot_is_read_in_pieces(start):
    async def story(server: Server) -> None:
        saved = await server.admin.save_snapshot(deadline_s=DEADLINE_S)

        pieces = [
            await server.admin.read_snapshot(saved, offset, 3)
            for offset in range(0, saved.byte_count, 3)
        ]
        assert sum(map(len, pieces)) == saved.byte_count > 0
        assert {len(piece) for piece in pieces[:-1]} <= {3}
        assert await server.admin.read_snapshot(saved, saved.byte_count, 3) == b""
        assert saved.index <= server.view.applied_index()

    play(start, story)


def test_a_linearizable_read_is_as_of_what_is_applied(start):
    async def story(server: Server) -> None:
        index = await server.view.wait_until_linearizable(deadline_s=DEADLINE_S)

        assert 0 < index <= server.view.applied_index()

    play(start, story)


def test_a_server_alone_is_well_and_knows_where_its_log_ends(start):
    async def story(server: Server) -> None:
        ends = server.admin.log_ends()
        (one,) = await server.admin.health(deadline_s=DEADLINE_S)

        assert ends.last_index >= server.view.applied_index()
        assert ends.last_term >= 1
        assert (one.server_id, one.is_leader, one.is_voter) == ("server1", True, True)
        assert one.is_healthy
        assert one.contact_s == 0.0
        assert one.last_index >= server.view.applied_index()
        assert one.since_ns > 0

    play(start, story)
