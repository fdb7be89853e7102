"""Agreement: the one that differs is found, named and stopped; where none is right, all say so."""

import random
from collections import Counter
from collections.abc import Generator
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from nodestate.errors import StateDisagreementError
from nodestate.fsm.state import State
from nodestate.replication import agreement
from nodestate.replication.agreement import (
    KEPT_MAX,
    NO_MAJORITY,
    SLICE_STEPS_MAX,
    Agreement,
    Electorate,
    judge,
)
from nodestate.replication.frames import Digests, DigestVerdict, StateDigest
from tests.fakes import FakeClock, FakeMetrics
from tests.replication.fakes import RecordingLogger
from tests.replication.tasks import Tasks

NAMES = ("A", "B", "C")


def digests(nodes: str = "n", jobs: str = "j") -> Digests:
    return (("nodes", nodes.encode()), ("jobs", jobs.encode()))


class Tables:
    """Stands in for a state; what a digest of it says can change under its feet."""

    def __init__(self, said: Digests) -> None:
        self.said = said

    def shallow_copy(self) -> "Tables":
        return Tables(self.said)


class Member:
    """One server's agreement and its wire."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.tasks, self.clock, self.metrics = Tasks(), FakeClock(), FakeMetrics()
        self.logger = RecordingLogger()
        self.sent: list[tuple[str, Any]] = []
        self.errors: list[StateDisagreementError] = []
        self.turns = 0
        self.agreement = Agreement(
            Electorate(
                name,
                lambda: cluster.leader,
                lambda: cluster.voters,
                lambda: cluster.members,
            ),
            digest_steps=self._steps,
            send=self._send,
            disagree=self.errors.append,
            clock=self.clock,
            spawner=self.tasks,
            metrics=self.metrics,
            logger=cast(Any, self.logger),
        )

    def _steps(self, state: State) -> Generator[None, None, Digests]:
        for _ in range(2 * SLICE_STEPS_MAX + 1):
            self.turns += 1
            yield
        return cast(Tables, state).said

    def _send(self, peer_id: str, message: Any) -> bool:
        self.sent.append((peer_id, message))
        return True

    def applied(self, index: int, said: Digests) -> None:
        self.agreement.on_applied_index(index, cast(State, Tables(said)))

    def is_stopped(self) -> bool:
        return bool(self.errors)


class Cluster:
    """Members, and messages that are delivered when a test says so."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.leader: str | None = names[0]
        self.voters = names
        self.members = names
        self.servers = {name: Member(self, name) for name in names}

    def __getitem__(self, name: str) -> Member:
        return self.servers[name]

    async def apply(self, index: int, **said: Digests) -> None:
        """Have some servers at that entry, each with what it makes of it."""
        for name, tables in said.items():
            self.servers[name].applied(index, tables)
            await self.servers[name].tasks.run()

    def deliver(self) -> None:
        while any(server.sent for server in self.servers.values()):
            for server in self.servers.values():
                waiting, server.sent = server.sent, []
                for peer_id, message in waiting:
                    self._deliver(server.name, peer_id, message)

    def _deliver(self, sender: str, receiver: str, message: Any) -> None:
        receiving = self.servers[receiver].agreement
        if isinstance(message, StateDigest):
            receiving.on_digest(sender, message)
        else:
            receiving.on_verdict(message)

    def stopped(self) -> list[str]:
        return [name for name in self.servers if self.servers[name].is_stopped()]

    def in_dispute(self) -> list[str]:
        return [n for n in self.servers if self.servers[n].agreement.is_in_dispute()]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_who_agrees_goes_on(cluster):
    await cluster.apply(100, A=digests(), B=digests(), C=digests())
    cluster.deliver()

    assert cluster.stopped() == cluster.in_dispute() == []
    assert [s.agreement.agreed_index() for s in cluster.servers.values()] == [100] * 3
    assert cluster["B"].metrics.gauges["nodestate_replication_agreed_index"]() == 100


@pytest.mark.parametrize("different", NAMES)
async def test_who_differs_from_a_majority_stops_the_leader_too(cluster, different):
    said = {name: digests() for name in NAMES} | {different: digests(jobs="!")}

    await cluster.apply(100, **said)
    cluster.deliver()

    assert cluster.stopped() == [different]
    error = cluster[different].errors[0]
    assert "entry 100" in str(error)
    assert f"table jobs has digest {b'!'.hex()} here, {b'j'.hex()} there" in str(error)


async def test_the_first_table_that_differs_is_named(cluster):
    await cluster.apply(100, A=digests(), B=digests(), C=digests(nodes="!", jobs="!"))
    cluster.deliver()

    assert "table nodes" in str(cluster["C"].errors[0])


async def test_a_slow_server_is_held_to_a_verdict_that_was_there_before_it(cluster):
    await cluster.apply(100, A=digests(), B=digests())
    cluster.deliver()
    assert cluster.stopped() == []

    await cluster.apply(100, C=digests(nodes="!"))

    assert cluster.stopped() == ["C"]


async def test_a_verdict_that_was_lost_is_told_again_to_who_differs(cluster):
    await cluster.apply(100, A=digests(), B=digests())
    cluster["B"].agreement.on_disconnected("C")
    cluster["A"].sent.clear()
    cluster.deliver()
    for server in cluster.servers.values():
        server.sent = [sent for sent in server.sent if sent[0] != "C"]

    cluster["C"].agreement._verdicts.clear()
    await cluster.apply(100, C=digests(nodes="!"))
    cluster.deliver()

    assert cluster.stopped() == ["C"]


async def test_where_none_agree_all_say_so_and_go_on(cluster):
    await cluster.apply(100, A=digests("a"), B=digests("b"), C=digests("c"))
    cluster.deliver()

    assert cluster.in_dispute() == list(NAMES)
    assert cluster.stopped() == []
    for server in cluster.servers.values():
        assert server.metrics.gauges["nodestate_replication_in_dispute"]() == 1
        assert server.logger.lines == ["no majority has the same state"]


async def test_a_dispute_ends_when_a_majority_agrees_again(cluster):
    await cluster.apply(100, A=digests("a"), B=digests("b"), C=digests("c"))
    cluster.deliver()
    await cluster.apply(200, A=digests(), B=digests(), C=digests("c"))
    cluster.deliver()

    assert cluster.in_dispute() == []
    assert cluster.stopped() == ["C"]
    assert cluster["A"].logger.lines[-1] == "a majority has the same state again"


async def test_two_that_differ_wait_for_the_third(cluster):
    await cluster.apply(100, A=digests("a"), B=digests("b"))
    cluster.deliver()

    assert cluster.stopped() == cluster.in_dispute() == []

    await cluster.apply(100, C=digests("b"))
    cluster.deliver()

    assert cluster.stopped() == ["A"]


async def test_learners_do_not_count_and_are_held_to_the_verdict():
    cluster = Cluster(("A", "B", "C", "D", "E"))
    cluster.voters = NAMES

    await cluster.apply(100, D=digests("!"), E=digests("!"), A=digests())
    cluster.deliver()
    assert cluster.stopped() == []

    await cluster.apply(100, B=digests())
    cluster.deliver()

    assert cluster.stopped() == ["D", "E"]


async def test_who_is_no_member_does_not_count(cluster):
    leader = cluster["A"].agreement
    leader.on_digest("X", StateDigest(100, digests("!")))
    cluster.voters = (*NAMES, "X")
    await cluster.apply(100, A=digests())

    assert leader._reports.keys() == {"A"}
    assert cluster["A"].sent == []


async def test_a_server_counts_once_for_an_index(cluster):
    leader = cluster["A"].agreement
    for said in (digests("b"), digests()):
        leader.on_digest("B", StateDigest(100, said))

    await cluster.apply(100, A=digests())

    assert cluster["A"].sent == []


async def test_a_server_that_came_back_is_heard_anew(cluster):
    leader = cluster["A"].agreement
    leader.on_digest("B", StateDigest(100, digests("b")))
    leader.on_disconnected("B")
    leader.on_digest("B", StateDigest(100, digests()))

    await cluster.apply(100, A=digests())

    assert cluster["A"].sent == [
        ("B", DigestVerdict(100, digests())),
        ("C", DigestVerdict(100, digests())),
    ]


async def test_only_the_leader_takes_reports(cluster):
    for name in NAMES:
        cluster["B"].agreement.on_digest(name, StateDigest(100, digests()))

    assert cluster["B"].sent == []
    assert cluster["B"].agreement._reports == {}


async def test_without_a_leader_nothing_is_sent(cluster):
    cluster.leader = None

    await cluster.apply(100, B=digests())

    assert cluster["B"].sent == []


async def test_servers_of_two_versions_neither_stop_nor_dispute(cluster):
    newer = (*digests(), ("quotas", b"q"))

    await cluster.apply(100, A=newer, B=newer, C=digests("!"))
    await cluster.apply(200, A=newer, B=digests("b"), C=digests("c"))
    cluster.deliver()

    assert cluster.stopped() == cluster.in_dispute() == []


async def test_the_state_may_change_while_it_is_digested(cluster):
    tables = Tables(digests())
    cluster["B"].agreement.on_applied_index(100, cast(State, tables))
    tables.said = digests("later")
    await cluster["B"].tasks.run()

    assert cluster["B"].sent == [("A", StateDigest(100, digests()))]


async def test_one_digest_at_a_time(cluster):
    member = cluster["B"]
    member.applied(100, digests())
    member.applied(200, digests())
    await member.tasks.run()
    member.applied(300, digests())
    await member.tasks.run()

    assert [message.index for _, message in member.sent] == [100, 300]
    assert member.metrics.count("nodestate_replication_digests_skipped_total") == 1


async def test_a_digest_leaves_turns_for_others(cluster, monkeypatch):
    """A slice ends by its steps where the clock stands still, else by its time."""
    member = cluster["B"]
    slices: list[int] = []

    async def sleep(seconds: float) -> None:
        slices.append(member.turns)

    monkeypatch.setattr(member.clock, "sleep", sleep)
    await cluster.apply(100, B=digests())
    assert slices == [SLICE_STEPS_MAX, 2 * SLICE_STEPS_MAX]

    slices.clear()
    member.turns = 0
    times = iter(range(10**6))
    monkeypatch.setattr(member.clock, "monotonic_s", lambda: next(times) / 1000)
    await cluster.apply(200, B=digests())
    assert slices[:3] == [3, 6, 9]


async def test_a_defect_in_a_digest_stops_the_server(cluster, monkeypatch):
    def broken(_: State) -> Generator[None, None, Digests]:
        yield
        raise KeyError("nodes")

    monkeypatch.setattr(cluster["B"].agreement, "_digest_steps", broken)

    with pytest.raises(KeyError):
        await cluster.apply(100, B=digests())


async def test_memory_is_bounded(cluster):
    leader = cluster["A"].agreement
    for index in range(1, 100):
        leader.on_digest("B", StateDigest(index, digests()))
        leader.on_verdict(DigestVerdict(index, digests()))
    for index in range(100, 200):
        await cluster.apply(index, A=digests())

    for kept in (*leader._reports.values(), leader._verdicts, leader._own):
        assert 0 < len(kept) <= KEPT_MAX


async def test_one_server_cannot_push_out_the_reports_of_another(cluster):
    leader = cluster["A"].agreement
    leader.on_digest("B", StateDigest(100, digests()))
    for index in range(10**6, 10**6 + 100):
        leader.on_digest("C", StateDigest(index, digests()))

    await cluster.apply(100, A=digests())

    assert len(cluster["A"].sent) == 2


async def test_a_leader_alone_agrees_with_itself():
    cluster = Cluster(("A",))

    await cluster.apply(100, A=digests())

    assert cluster["A"].agreement.agreed_index() == 100
    assert cluster["A"].sent == []


REPORTS = st.dictionaries(
    st.sampled_from("ABCDEFG"), st.sampled_from("xyz").map(digests)
)


@given(REPORTS, st.integers(1, 7))
def test_a_verdict_is_final_and_is_a_majority_of_voters(reports, voter_count):
    voters = "ABCDEFG"[:voter_count]
    verdict = judge(reports, voters)

    counts = Counter(reports[voter] for voter in voters if voter in reports)
    quorum = voter_count // 2 + 1
    if verdict:
        assert counts[verdict] >= quorum
    missing = [voter for voter in voters if voter not in reports]
    for late in "xyz":
        final = judge(reports | dict.fromkeys(missing, digests(late)), voters)
        assert final is not None
        if verdict is not None:
            assert final == verdict


@given(st.randoms(use_true_random=False), st.sampled_from([3, 5]))
def test_the_order_of_reports_does_not_matter(rng: random.Random, voter_count):
    voters = "ABCDE"[:voter_count]
    reports = {voter: digests(rng.choice("xy")) for voter in voters}
    shuffled = dict(rng.sample(list(reports.items()), voter_count))

    assert judge(reports, voters) == judge(shuffled, voters) != NO_MAJORITY


def test_a_slice_is_shorter_than_what_anyone_would_notice():
    assert agreement.SLICE_S <= 0.005
