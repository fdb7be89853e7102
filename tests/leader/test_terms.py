"""What a service is handed for one term."""

import asyncio

import pytest

from nodestate.errors import NoLeaderError
from nodestate.leader.terms import PAUSE_S_MAX, PAUSE_S_MIN
from nodestate.model.command import MissHeartbeats
from nodestate.model.outcome import Accepted
from tests.fakes import settle
from tests.leader.worlds import World, key_of


def missed(world: World) -> MissHeartbeats:
    return MissHeartbeats(at_ns=1, keys=(key_of(1),), seed=bytes(16))


async def test_proposals_are_for_one_term(world):
    term = world.term()

    assert isinstance(await term.propose(missed(world)), Accepted)
    world.leadership.gain()

    with pytest.raises(NoLeaderError):
        await term.propose(missed(world))


@pytest.mark.parametrize(
    ("failure_count", "pause_s"),
    [(1, PAUSE_S_MIN), (2, 0.2), (3, 0.4), (7, PAUSE_S_MAX), (10_000, PAUSE_S_MAX)],
)
async def test_pauses_grow_up_to_a_bound(world, failure_count, pause_s):
    world.ids.jitter_value = 0.999_999
    task = asyncio.create_task(world.term().pause(failure_count))
    await settle()

    await world.clock.step(pause_s * 0.99)
    assert not task.done()
    await world.clock.step(pause_s * 0.01)
    assert task.done()


async def test_a_pause_is_never_shorter_than_half(world):
    world.ids.jitter_value = 0.0
    task = asyncio.create_task(world.term().pause(1))

    await world.clock.step(PAUSE_S_MIN / 2 * 0.99)
    assert not task.done()
    await world.clock.step(PAUSE_S_MIN)
    assert task.done()
