"""Rounds that many reads share, and none that began too late for it."""

import asyncio
from typing import Any

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.replication.questions import READ_INDEX
from nodestate.replication.reads import Reads, SharedRounds
from tests.fakes import FakeClock, settle
from tests.replication.networks import TaskList


class Rounds:
    """Rounds that end when a test says so."""

    def __init__(self):
        self.begun = []
        self.tasks = TaskList()
        self.clock = FakeClock()
        self.shared = SharedRounds(self._run, clock=self.clock, spawner=self.tasks)

    async def _run(self):
        future = asyncio.get_running_loop().create_future()
        self.begun.append(future)
        return await future

    def join(self, **how):
        return asyncio.create_task(self.shared.join(**how))


async def test_who_comes_together_shares_a_round():
    rounds = Rounds()
    readers = [rounds.join() for _ in range(5)]
    await settle()

    assert len(rounds.begun) == 1
    rounds.begun[0].set_result(7)
    assert await asyncio.gather(*readers) == [7] * 5


async def test_who_comes_during_a_round_shares_the_next():
    """Something may have been committed since the one under way began."""
    rounds = Rounds()
    first = rounds.join()
    await settle()
    late = [rounds.join(), rounds.join()]
    await settle()

    rounds.begun[0].set_result(7)
    assert await first == 7
    await settle()
    assert not any(reader.done() for reader in late)
    assert len(rounds.begun) == 2
    rounds.begun[1].set_result(9)
    assert await asyncio.gather(*late) == [9, 9]


async def test_a_failed_round_fails_for_those_who_shared_it_alone():
    rounds = Rounds()
    first = rounds.join()
    await settle()
    second = rounds.join()
    await settle()
    rounds.begun[0].set_exception(NoLeaderError("none"))
    await settle()
    rounds.begun[1].set_result(3)

    with pytest.raises(NoLeaderError):
        await first
    assert await second == 3
    assert rounds.tasks.errors() == []


async def test_a_reader_that_goes_away_takes_the_round_from_nobody():
    rounds = Rounds()
    gone, stays = rounds.join(), rounds.join()
    await settle()
    gone.cancel()
    await settle()
    rounds.begun[0].set_result(4)

    assert await stays == 4


async def test_a_reader_whose_time_is_over_leaves_and_the_others_stay():
    rounds = Rounds()
    hasty, patient = (
        rounds.join(give_up_at_s=rounds.clock.monotonic_s() + 1),
        rounds.join(),
    )
    await settle()
    late = rounds.join(give_up_at_s=rounds.clock.monotonic_s() + 1)
    await rounds.clock.step(0.9)
    assert not hasty.done()
    await rounds.clock.step(0.2)

    for gone in (hasty, late):
        with pytest.raises(NoLeaderError):
            await gone
    assert not patient.done()
    rounds.begun[0].set_result(4)
    assert await patient == 4
    await settle()
    assert len(rounds.begun) == 2, "the next was due before its reader left"


class Follower:
    """A replica that asks; a test answers."""

    engine = None

    def __init__(self):
        self.clock = FakeClock()
        self.questions = self
        self.kinds = []
        self.answers = []
        self.applied = 0
        self.waits = 0
        replica: Any = self
        self.reads = Reads(replica, clock=self.clock, spawner=TaskList())
        self.engine = self

    def answer_with(self, answerer, *, kind):
        self.answerer = kind, answerer

    def is_leader(self):
        return False

    async def ask_leader_of(self, kind, question, *, deadline_s):
        self.kinds.append(kind)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait_until_applied(self, index, *, deadline_s):
        return index <= self.applied

    async def wait_for_change(self, timeout_s):
        self.waits += 1
        self.clock.pause(timeout_s)


async def test_a_follower_asks_and_then_waits_for_its_own_replica():
    follower = Follower()
    follower.applied = 12
    follower.answers = [(12).to_bytes(8, "big")]

    assert await follower.reads.wait_until_fresh(deadline_s=1.0) == 12
    assert follower.kinds == [READ_INDEX]


async def test_a_replica_that_stays_behind_is_not_read():
    follower = Follower()
    follower.answers = [(12).to_bytes(8, "big")]

    with pytest.raises(NoLeaderError):
        await follower.reads.wait_until_fresh(deadline_s=1.0)


async def test_a_lost_answer_is_asked_for_again_until_the_deadline():
    follower = Follower()
    follower.applied = 1
    lost = [OutcomeUnknownError("lost"), NoLeaderError("none"), b"too short"]
    follower.answers = [*lost, (1).to_bytes(8, "big")]
    assert await follower.reads.wait_until_fresh(deadline_s=1.0) == 1
    assert follower.waits == 3

    follower.answers = [NoLeaderError("none")] * 100
    with pytest.raises(NoLeaderError):
        await follower.reads.wait_until_fresh(deadline_s=1.0)
