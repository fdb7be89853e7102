"""A leader's surroundings, and its services running in them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nodestate.leader.services import LeaderServices
from tests.fakes import settle
from tests.leader.worlds import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def services(world: World) -> AsyncIterator[LeaderServices]:
    """The services as of a server that leads and is ready to; ended with the test."""
    services = world.services()
    task = asyncio.create_task(services.run())
    await settle()
    yield services
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), "the services failed"
