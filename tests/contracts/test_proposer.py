"""What every proposer and view promise: the fake that other tests trust, and the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS, registration
from nodestate.errors import NoLeaderError
from nodestate.fsm.state import State
from nodestate.model.command import EvaluateNode, SetEligibility
from nodestate.model.node import ELIGIBLE, INELIGIBLE, NodeKey
from nodestate.model.outcome import (
    KEY_REUSED,
    Accepted,
    Outcome,
    RefusalCode,
    Refused,
)
from nodestate.model.request import IdempotencyKey
from nodestate.ports import Leadership, Proposer, StateView
from nodestate.watch import Watch, record_key
from tests.fakes import FakeProposer, FakeReplica

KEY = NodeKey("n1")
DEADLINE_S = 5.0
SEED = b"0" * 16


class Server(NamedTuple):
    """What a room is handed of a server."""

    proposer: Proposer
    view: StateView
    leadership: Leadership
    watch: Watch


@asynccontextmanager
async def fake_server() -> AsyncIterator[Server]:
    replica = FakeReplica()
    proposer = FakeProposer(replica)
    yield Server(proposer, replica, proposer.leadership, replica.watch)


@asynccontextmanager
async def real_server() -> AsyncIterator[Server]:
    cluster = SimulatedCluster(1, 1, SETTINGS)
    server = await cluster.start("server1")
    is_changed = asyncio.Event()
    server.replica.on_change(is_changed.set)
    while not server.replica.is_ready_to_lead():
        is_changed.clear()
        await is_changed.wait()
    yield Server(server.proposer, server.replica, server.replica, server.watch)
    await cluster.stop()


Start = Callable[[], AbstractAsyncContextManager[Server]]


@pytest.fixture(params=[fake_server, real_server])
def start(request) -> Start:
    chosen: Start = request.param
    return chosen


def play(start: Start, story: Callable[[Server], Awaitable[None]]) -> None:
    """Run a story on a server that has one node, in virtual time."""

    async def main() -> None:
        async with start() as server:
            accepted = await server.proposer.propose(
                registration(KEY), deadline_s=DEADLINE_S
            )
            assert isinstance(accepted, Accepted)
            await story(server)

    loop.run(main())


def records(state: State) -> tuple[object, ...]:
    """Return what a command may change, and not what is remembered of requests."""
    return dict(state.nodes), dict(state.evaluations), dict(state.indexes)


def eligibility(word: str) -> SetEligibility:
    return SetEligibility(key=KEY, eligibility=word, at_ns=1, seed=SEED)


def test_what_was_accepted_is_in_the_state_at_its_index(start):
    async def story(server: Server) -> None:
        before = server.view.applied_index()

        outcome = await server.proposer.propose(
            eligibility(INELIGIBLE), deadline_s=DEADLINE_S
        )

        node = server.view.state().node(KEY)
        assert isinstance(outcome, Accepted)
        assert node is not None
        assert node.scheduling_eligibility == INELIGIBLE
        assert before < outcome.index == node.modify_index
        assert outcome.index <= server.view.applied_index()

    play(start, story)


def test_a_refusal_is_a_value_and_changes_nothing(start):
    async def story(server: Server) -> None:
        before = records(server.view.state())
        command = EvaluateNode(key=NodeKey("nobody"), at_ns=1, seed=SEED)

        outcome = await server.proposer.propose(command, deadline_s=DEADLINE_S)

        assert isinstance(outcome, Refused)
        assert records(server.view.state()) == before

    play(start, story)


def test_what_changes_nothing_has_index_0(start):
    async def story(server: Server) -> None:
        outcome = await server.proposer.propose(
            eligibility(ELIGIBLE), deadline_s=DEADLINE_S
        )

        assert isinstance(outcome, Accepted)
        assert outcome.index == 0

    play(start, story)


def test_the_same_key_gets_the_first_outcome_and_another_request_none(start):
    async def story(server: Server) -> None:
        def propose(word: str, fingerprint: bytes) -> Awaitable[Outcome]:
            key = IdempotencyKey("k", fingerprint)
            return server.proposer.propose(
                eligibility(word), deadline_s=DEADLINE_S, idempotency=key
            )

        first = await propose(INELIGIBLE, b"one")
        await server.proposer.propose(eligibility(ELIGIBLE), deadline_s=DEADLINE_S)
        before = records(server.view.state())

        assert await propose(INELIGIBLE, b"one") == replace(first, is_replayed=True)
        assert await propose(INELIGIBLE, b"two") == Refused(
            RefusalCode.KEY_REUSED, KEY_REUSED
        )
        assert not first.is_replayed
        assert records(server.view.state()) == before

    play(start, story)


def test_whoever_waits_for_the_record_is_woken(start):
    async def story(server: Server) -> None:
        with server.watch.waiter(record_key("nodes", KEY)) as waiter:
            await server.proposer.propose(
                eligibility(INELIGIBLE), deadline_s=DEADLINE_S
            )

            assert await waiter.wait(DEADLINE_S)

    play(start, story)


def test_a_leader_of_another_term_proposes_nothing(start):
    async def story(server: Server) -> None:
        before = records(server.view.state())
        term = server.leadership.status().term

        with pytest.raises(NoLeaderError):
            await server.proposer.propose_as_leader(
                eligibility(INELIGIBLE), term=term + 1, deadline_s=DEADLINE_S
            )

        assert records(server.view.state()) == before

    play(start, story)


def test_the_leader_of_the_term_proposes(start):
    async def story(server: Server) -> None:
        outcome = await server.proposer.propose_as_leader(
            eligibility(INELIGIBLE),
            term=server.leadership.status().term,
            deadline_s=DEADLINE_S,
        )

        assert isinstance(outcome, Accepted)
        assert outcome.index > 0

    play(start, story)


def test_a_barrier_is_past_every_write_before_it(start):
    async def story(server: Server) -> None:
        outcome = await server.proposer.propose(
            eligibility(INELIGIBLE), deadline_s=DEADLINE_S
        )

        index = await server.proposer.barrier(deadline_s=DEADLINE_S)

        assert isinstance(outcome, Accepted)
        assert outcome.index <= index <= server.view.applied_index()

    play(start, story)


def test_what_is_applied_need_not_be_waited_for(start):
    async def story(server: Server) -> None:
        index = server.view.applied_index()

        assert server.view.is_caught_up()
        assert await server.view.wait_until_applied(index, deadline_s=DEADLINE_S)
        assert not await server.view.wait_until_applied(index + 99, deadline_s=0.1)

    play(start, story)


def test_the_status_is_that_of_a_leader_heard_of_now(start):
    async def story(server: Server) -> None:
        status = server.leadership.status()

        assert status.is_leader
        assert status.leader_id == status.server_id
        assert status.last_contact_s == 0.0
        assert status.applied_index == server.view.applied_index()
        assert server.leadership.is_ready_to_lead()

    play(start, story)
