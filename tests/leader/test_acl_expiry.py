"""Tokens whose time is over are removed, and nothing is written for nothing."""

import pytest

from nodestate.acl.expiry import EXPIRED_PER_ENTRY_MAX
from nodestate.config import ServerConfig
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.command import SERVER, ExpireTokens
from nodestate.model.timestamp import NANOSECONDS, Timestamp
from tests.fsm.acls import new_token, put_tokens, uuid
from tests.leader.worlds import World

EXPIRED = "nodestate_leader_tokens_expired_total"
PASSES_S = 10.0


@pytest.fixture
def world() -> World:
    return World(config=ServerConfig(gc_interval_s=PASSES_S))


def add_tokens(world: World, *numbers: int, after_s: float) -> None:
    """Make tokens that end after so many seconds."""
    ends = Timestamp(world.clock.now_ns() + int(after_s * NANOSECONDS))
    tokens = [new_token(number, expiration_time=ends) for number in numbers]
    world.replica.apply(put_tokens(*tokens))


def entries(world: World) -> list[ExpireTokens]:
    return [one for one in world.proposer.commands if isinstance(one, ExpireTokens)]


async def test_a_token_goes_once_its_time_is_over(world, services):
    add_tokens(world, 1, after_s=PASSES_S / 2)
    add_tokens(world, 2, after_s=PASSES_S * 1.5)

    await world.clock.step(PASSES_S + 0.1)
    assert set(world.replica.state().acl_tokens) == {uuid(2)}
    (entry,) = entries(world)
    assert (entry.asked_by, entry.accessor_ids) == (SERVER, (uuid(1),))

    await world.clock.step(PASSES_S + 0.1)
    assert not world.replica.state().acl_tokens
    assert world.metrics.count(EXPIRED) == 2


async def test_where_there_is_none_nothing_is_written(world, services):
    add_tokens(world, 1, after_s=1000 * PASSES_S)
    world.replica.apply(put_tokens(new_token(2)))

    await world.clock.step(5 * PASSES_S)

    assert entries(world) == []


async def test_many_go_in_entries_of_a_bounded_size(world, services):
    count = EXPIRED_PER_ENTRY_MAX + 1
    add_tokens(world, *range(count), after_s=1)

    await world.clock.step(PASSES_S + 0.1)

    assert [len(one.accessor_ids) for one in entries(world)] == [count - 1, 1]
    assert not world.replica.state().acl_tokens


@pytest.mark.parametrize(
    "error", [NoLeaderError("no leader"), OutcomeUnknownError("unknown")]
)
async def test_what_fails_is_left_for_the_next_time(world, services, error):
    add_tokens(world, 1, after_s=1)
    world.proposer.errors.append(error)

    await world.clock.step(PASSES_S + 0.1)
    assert world.replica.state().acl_tokens

    await world.clock.step(PASSES_S + 0.1)
    assert not world.replica.state().acl_tokens
