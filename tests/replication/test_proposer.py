"""From a command to exactly one honest ending: the schedules of h1."""

import asyncio

import pytest

from cluster.simulation import loop
from cluster.simulation.servers import SimulatedCluster
from cluster.simulation.storm import SETTINGS, registration
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError, RequestError
from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.command import EmitNodeEvents, RegisterNodes
from nodestate.model.node import NodeEvent, NodeKey
from nodestate.model.outcome import (
    KEY_REUSED,
    STALE_REQUEST,
    Accepted,
    RefusalCode,
    Refused,
)
from nodestate.model.request import IdempotencyKey
from nodestate.replication import entries
from nodestate.replication.attempts import AttemptBook, NotAppended, Resolved
from nodestate.replication.entries import Envelope
from nodestate.replication.frames import ProposalReply
from nodestate.replication.proposer import LogProposer
from tests.fakes import START_NS, FakeClock, FakeMetrics, SequentialIds, settle
from tests.replication.test_replica import (
    follower_of,
    leader_of,
    running,
    servers,
    until,
)

KEY = NodeKey("n1")


def test_a_follower_reads_its_own_write():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=2.0)
            assert isinstance(outcome, Accepted)
            assert follower.replica.state().node(KEY) is not None
            assert follower.replica.applied_index() >= outcome.index

    loop.run(main())


def test_a_follower_is_not_kept_waiting_for_a_heartbeat():
    async def main():
        async with running(raft_heartbeat_s=0.15) as cluster:
            follower = await follower_of(cluster)
            started_s = follower.clock.monotonic_s()
            for number in range(5):
                key = NodeKey(f"n{number}")
                await follower.proposer.propose(registration(key), deadline_s=2.0)
            assert follower.clock.monotonic_s() - started_s < 0.3

    loop.run(main())


def test_a_barrier_returns_an_index_that_is_applied():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            outcome = await leader.proposer.propose(registration(KEY), deadline_s=2.0)
            index = await follower.proposer.barrier(deadline_s=2.0)
            assert index > outcome.index
            assert follower.replica.applied_index() >= index
            assert follower.replica.state().node(KEY) is not None

    loop.run(main())


def test_without_a_leader_nothing_is_sent_and_the_caller_is_told():
    async def main():
        cluster = SimulatedCluster(1, 3, SETTINGS)
        server = await cluster.start("server1")
        with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
            await server.proposer.propose(registration(KEY), deadline_s=0.5)
        assert server.clock.monotonic_s() == pytest.approx(0.5, abs=0.1)
        await cluster.stop()

    loop.run(main())


def test_a_proposal_waits_for_a_leader():
    async def main():
        async with running() as cluster:
            proposals = [
                server.proposer.propose(
                    registration(NodeKey(server.server_id)), deadline_s=10.0
                )
                for server in servers(cluster)
            ]
            outcomes = await asyncio.gather(*proposals)
            assert all(isinstance(outcome, Accepted) for outcome in outcomes)

    loop.run(main())


def test_a_connection_that_breaks_after_the_request_leaves_nobody_waiting():
    """h1.1, h1.2: whether it arrived or not, it is asked again and happens once."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader_id = cluster.leader().server_id
            proposing = asyncio.create_task(
                follower.proposer.propose(registration(KEY), deadline_s=3.0)
            )
            await asyncio.sleep(0)
            cluster.network.break_connections(follower.server_id, leader_id)
            await asyncio.wait([proposing])
            assert isinstance(proposing.result(), Accepted)
            assert follower.replica.state().node(KEY) is not None
            assert not follower.replica.attempts._by_id

    loop.run(main())


def test_a_reply_that_is_lost_does_not_matter_if_the_entry_comes():
    """h1.2, h1.4: the outcome is known from the own replica, whoever leads by then."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            replica = follower.replica
            replica._on_proposal_reply = lambda peer_id, reply: None
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=3.0)
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_silence_ends_as_unknown_and_the_write_may_still_come():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            for other in cluster.configs:
                if other != leader.server_id:
                    cluster.network.cut(leader.server_id, other)
            with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
                await follower.proposer.propose(registration(KEY), deadline_s=0.2)
            cluster.network.heal()

    loop.run(main())


def test_an_entry_that_was_replaced_is_proposed_again():
    """h1.6, h1.7: a deposed leader's own entry is certainly lost, so it is safe."""

    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            others = [name for name in cluster.configs if name != leader.server_id]
            for other in others:
                cluster.network.cut(leader.server_id, other)
                cluster.network.cut(other, leader.server_id)
            proposing = asyncio.create_task(
                leader.proposer.propose(registration(KEY), deadline_s=20.0)
            )
            await asyncio.sleep(0)
            await until(
                lambda: any(
                    cluster.servers[n].replica.is_ready_to_lead() for n in others
                )
            )
            new = next(
                n for n in others if cluster.servers[n].replica.is_ready_to_lead()
            )
            await cluster.servers[new].proposer.propose(
                registration(NodeKey("n2")), deadline_s=2.0
            )
            cluster.network.heal()

            outcome = await proposing
            assert isinstance(outcome, Accepted)
            assert all(
                [
                    await s.replica.wait_until_applied(outcome.index, deadline_s=5.0)
                    for s in servers(cluster)
                ]
            )
            assert all(s.replica.state().node(KEY) for s in servers(cluster))

    loop.run(main())


def test_a_leaders_refusal_is_tried_again():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            real = leader.replica._on_proposal
            refusals: list[object] = []

            def refuse_once(peer_id, proposal):
                if refusals:
                    real(peer_id, proposal)
                    return
                refusals.append(proposal)
                leader.replica._send(
                    peer_id, ProposalReply(proposal.proposal_id, 0, 0, "not now")
                )

            leader.replica._on_proposal = refuse_once
            outcome = await follower.proposer.propose(registration(KEY), deadline_s=3.0)
            assert refusals
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_proposals_in_flight_are_bounded():
    async def main():
        async with running(1, proposals_max=2) as cluster:
            server = await leader_of(cluster)
            first = [
                asyncio.create_task(
                    server.proposer.propose(
                        registration(NodeKey(f"n{number}")), deadline_s=1.0
                    )
                )
                for number in range(2)
            ]
            await asyncio.sleep(0)
            with pytest.raises(NoLeaderError, match=r"^too many proposals in flight$"):
                await server.proposer.propose(registration(KEY), deadline_s=1.0)
            await asyncio.gather(*first)
            await server.proposer.propose(registration(KEY), deadline_s=1.0)

    loop.run(main())


def test_what_the_leader_says_as_leader_is_said_in_its_term_only():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            term = leader.replica.status().term
            command = registration(KEY)
            for server, said_in in ((leader, term - 1), (follower, term)):
                with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
                    await server.proposer.propose_as_leader(
                        command, term=said_in, deadline_s=1.0
                    )
            outcome = await leader.proposer.propose_as_leader(
                command, term=term, deadline_s=1.0
            )
            assert isinstance(outcome, Accepted)

    loop.run(main())


def test_a_leader_whose_disk_has_failed_appends_nothing_and_says_so():
    async def main():
        async with running() as cluster:
            leader = await leader_of(cluster)
            term = leader.replica.status().term
            cluster.disks[leader.server_id].failing["write"] = 5
            doomed = asyncio.create_task(
                leader.proposer.propose(registration(KEY), deadline_s=3.0)
            )
            await until(lambda: leader.spawner.error is not None)
            journal = leader.replica._journal
            last_index = journal.last_index()
            for proposing in (
                leader.proposer.propose(registration(KEY), deadline_s=0.1),
                leader.proposer.propose_as_leader(
                    registration(KEY), term=term, deadline_s=0.1
                ),
            ):
                with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
                    await proposing
            assert journal.last_index() == last_index
            doomed.cancel()

    loop.run(main())


def test_a_command_that_cannot_be_decided_is_never_proposed(monkeypatch):
    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            last_index = server.replica._journal.last_index()
            monkeypatch.setattr(machine, "check", _raise)
            with pytest.raises(ZeroDivisionError):
                await server.proposer.propose(registration(KEY), deadline_s=1.0)
            assert server.replica._journal.last_index() == last_index

    loop.run(main())


def _raise(state, command):
    raise ZeroDivisionError


def test_a_command_that_is_too_large_is_refused_on_any_server():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            command = registration(NodeKey("n" * (9 << 20)))
            for server in (follower, cluster.leader()):
                with pytest.raises(RequestError, match="entry of"):
                    await server.proposer.propose(command, deadline_s=1.0)

    loop.run(main())


# Tried again under its id


def entries_of(server):
    """Return the commands in a server's log, each with whose request it is."""
    journal = server.replica._journal
    found = []
    for index in range(1, journal.last_index() + 1):
        body = entries.decode_body(journal.entry(index).body)
        if isinstance(body, Envelope):
            found.append(body)
    return found


def test_what_is_in_the_log_twice_happens_once():
    """h1.2: the leader has the entry, the follower hears nothing and asks again."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            await follower.proposer.propose(registration(KEY), deadline_s=2.0)
            proposing = asyncio.create_task(
                follower.proposer.propose(line(), deadline_s=5.0)
            )
            await asyncio.sleep(0)
            follower.replica.attempts.on_disconnected(leader.server_id)
            outcome = await proposing
            await until(lambda: len(entries_of(leader)) == 3)
            (_, first, again) = entries_of(leader)
            assert first == again
            last_index = leader.replica._journal.last_index()
            assert outcome.index < last_index
            await until(
                lambda: all(
                    s.replica.applied_index() >= last_index for s in servers(cluster)
                )
            )
            for server in servers(cluster):
                assert messages(server) == ["Node registered", "line"]

    loop.run(main())


def test_a_new_leader_is_asked_under_the_same_id():
    """h1.6, h1.7: the old leader's entry is in its log alone, or in all of them."""

    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            leader = cluster.leader()
            await follower.proposer.propose(registration(KEY), deadline_s=2.0)
            for other in cluster.configs:
                if other != leader.server_id:
                    cluster.network.cut(leader.server_id, other)
            started_s = follower.clock.monotonic_s()
            proposing = asyncio.create_task(
                follower.proposer.propose(line(), deadline_s=60.0)
            )
            outcome = await proposing
            assert follower.clock.monotonic_s() - started_s < 10.0
            assert isinstance(outcome, Accepted)
            cluster.network.heal()
            await until(
                lambda: all(
                    s.replica.applied_index() >= outcome.index for s in servers(cluster)
                )
            )
            for server in servers(cluster):
                assert messages(server) == ["Node registered", "line"]

    loop.run(main())


def test_a_key_is_answered_once_through_any_server():
    async def main():
        async with running() as cluster:
            follower = await follower_of(cluster)
            await follower.proposer.propose(registration(KEY), deadline_s=2.0)
            key = IdempotencyKey("k", b"f" * 32)
            outcomes = [
                await server.proposer.propose(line(), deadline_s=2.0, idempotency=key)
                for server in servers(cluster)
            ]
            other = await follower.proposer.propose(
                line(), deadline_s=2.0, idempotency=IdempotencyKey("k", b"g" * 32)
            )

            assert [outcome.is_replayed for outcome in outcomes] == [False, True, True]
            assert len({outcome.index for outcome in outcomes}) == 1
            assert other == Refused(RefusalCode.KEY_REUSED, KEY_REUSED)
            assert messages(follower) == ["Node registered", "line"]

    loop.run(main())


def test_a_server_that_was_forgotten_goes_on_under_another_id():
    async def main():
        async with running(1) as cluster:
            server = await leader_of(cluster)
            await server.proposer.propose(registration(KEY), deadline_s=2.0)
            before = server.replica.attempts.begin().origin
            server.replica.state().sessions.clear()

            outcome = await server.proposer.propose(line(), deadline_s=2.0)

            assert isinstance(outcome, Accepted)
            assert messages(server) == ["Node registered", "line"]
            assert server.replica.attempts.begin().origin.boot_id != before.boot_id

    loop.run(main())


def messages(server):
    return [event.message for event in server.replica.state().node(KEY).events]


def secret_sha256():
    command = registration(KEY)
    assert isinstance(command, RegisterNodes)
    return command.registrations[0].secret_sha256


def line():
    return EmitNodeEvents(
        at_ns=START_NS,
        key=KEY,
        secret_sha256=secret_sha256(),
        events=(NodeEvent(message="line"),),
    )


# The rules, against a replica that does as it is told


def envelope(body):
    decoded = entries.decode_body(body)
    assert isinstance(decoded, Envelope)
    return decoded


class ScriptedReplica:
    """Keeps what is submitted; `accepts` says whether there is anybody to take it."""

    def __init__(self):
        self.attempts = AttemptBook("A", "boot")
        self.accepts = True
        self.submitted = []
        self.leader_id = "B"
        self.changed = asyncio.Event()

    def state(self):
        return State()

    def submit(self, attempt, body):
        if self.accepts:
            attempt.peer_id = self.leader_id
            self.submitted.append((attempt, body))
        return self.accepts

    def append_as_leader(self, attempt, body, *, term):
        self.submit(attempt, body)
        self.attempts.place(attempt, 7, term)

    async def wait_for_change(self, timeout_s):
        self.changed.clear()
        await self.changed.wait()

    def origin(self, number=-1):
        return envelope(self.submitted[number][1]).origin

    def apply(self, outcome, number=-1):
        self.attempts.resolve(self.origin(number), Resolved(9, outcome))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def replica():
    return ScriptedReplica()


@pytest.fixture
def proposer(replica, clock):
    return LogProposer(
        replica,
        config=ServerConfig(name="A"),
        clock=clock,
        ids=SequentialIds(),
        metrics=FakeMetrics(),
    )


@pytest.fixture
async def propose(proposer, replica):
    """Start a proposal; afterwards, nothing is left of it."""
    tasks = []

    async def start(coroutine=None):
        coroutine = coroutine or proposer.propose(line(), deadline_s=4.0)
        tasks.append(asyncio.create_task(coroutine))
        await settle()
        return tasks[-1]

    yield start
    await asyncio.wait(tasks)
    book = replica.attempts
    assert not book._pending
    assert not book._by_id
    assert not book._by_index


OUTCOME = Accepted(index=9)
STALE = Refused(RefusalCode.STALE_REQUEST, STALE_REQUEST)


async def test_what_may_be_in_a_log_is_submitted_again_as_it_was(replica, propose):
    task = await propose()
    replica.attempts.on_disconnected("B")
    await settle()

    (first, body), (second, again) = replica.submitted
    assert first is not second
    assert again == body
    replica.apply(OUTCOME)
    assert await task == OUTCOME


async def test_a_leader_change_is_heard_of(replica, propose):
    task = await propose()

    replica.leader_id = "C"
    replica.attempts.on_leader_changed("C")
    await settle()

    assert [attempt.peer_id for attempt, _ in replica.submitted] == ["B", "C"]
    replica.apply(OUTCOME)
    await task


async def test_an_outcome_between_two_attempts_is_heard(replica, propose):
    task = await propose()
    replica.accepts = False
    replica.attempts.on_disconnected("B")
    await settle()

    replica.apply(OUTCOME)
    replica.changed.set()

    assert await task == OUTCOME


async def test_what_may_be_in_a_log_is_unknown_in_the_end(replica, clock, propose):
    """h1: never "not sent" once anything was, whatever became of later attempts."""
    task = await propose()
    replica.accepts = False
    replica.attempts.on_disconnected("B")
    await clock.step(5.0)
    replica.changed.set()

    with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
        await task


async def test_a_refusal_after_a_doubtful_attempt_leaves_it_unknown(
    replica, clock, propose
):
    task = await propose()
    replica.attempts.on_disconnected("B")
    await settle()
    replica.accepts = False
    replica.submitted[-1][0].end(NotAppended("no"))
    await clock.step(5.0)
    replica.changed.set()

    with pytest.raises(OutcomeUnknownError, match=r"^outcome unknown: "):
        await task


async def test_what_was_certainly_never_appended_is_not_unknown(
    replica, clock, propose
):
    task = await propose()
    replica.accepts = False
    replica.submitted[-1][0].end(NotAppended("no"))
    await clock.step(5.0)
    replica.changed.set()

    with pytest.raises(NoLeaderError, match=r"^No cluster leader$"):
        await task


async def test_a_forgotten_id_of_which_nothing_else_can_be_there_is_replaced(
    replica, propose
):
    task = await propose()

    replica.apply(STALE)
    await settle()

    assert replica.origin(0).boot_id != replica.origin(1).boot_id
    replica.apply(OUTCOME)
    assert await task == OUTCOME


async def test_a_forgotten_id_of_which_there_is_another_attempt_is_unknown(
    replica, propose
):
    task = await propose()
    replica.attempts.on_disconnected("B")
    await settle()

    replica.apply(STALE)

    with pytest.raises(OutcomeUnknownError, match="no longer remembered"):
        await task
    assert len(replica.submitted) == 2


async def test_a_leaders_own_word_is_said_once(replica, proposer, propose):
    for end, error in (
        (lambda: replica.apply(STALE), NoLeaderError),
        (lambda: replica.attempts.on_installed(9, lambda origin: None), OutcomeUnknownError),
        (lambda: replica.attempts.on_applied(7, 9), NoLeaderError),
    ):  # fmt: skip
        task = await propose(proposer.propose_as_leader(line(), term=1, deadline_s=1.0))
        count = len(replica.submitted)
        end()
        with pytest.raises(error):
            await task
        assert len(replica.submitted) == count
    assert replica.attempts.begin().origin.boot_id != "boot"
    replica.attempts._pending.clear()


async def test_a_leaders_own_word_is_waited_for_though_another_leads(
    replica, proposer, propose
):
    """Its entry may be in the new leader's log, and its services must not repeat it."""
    task = await propose(proposer.propose_as_leader(line(), term=1, deadline_s=1.0))

    replica.attempts.on_leader_changed("C")
    replica.attempts.on_disconnected("B")
    await settle()
    assert not task.done()

    replica.apply(OUTCOME)
    assert await task == OUTCOME


async def test_the_callers_key_and_the_floor_are_in_the_entry(replica, proposer, propose):  # fmt: skip
    key = IdempotencyKey("k", b"f" * 32)
    await propose(proposer.propose(line(), deadline_s=1.0, idempotency=key))
    replica.apply(OUTCOME)
    await settle()
    await propose()

    first, second = (envelope(body) for _, body in replica.submitted)
    assert (first.idempotency, first.floor) == (key, 1)
    assert (second.idempotency, second.floor) == (None, 2)
    replica.apply(OUTCOME)


async def test_a_proposer_waits_for_no_more_than_is_remembered(replica, proposer):
    replica.attempts.has_room = lambda: False

    with pytest.raises(NoLeaderError, match=r"^too many proposals in flight$"):
        await proposer.propose(line(), deadline_s=1.0)
