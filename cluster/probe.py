"""Asking servers over HTTP how they are, and waiting until a cluster serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from cluster.servers import ServerFiles

ASK_S: Final = 2.0
POLL_S: Final = 0.05


class ServerAnswer(msgspec.Struct, frozen=True):
    """What a server said of itself: whom it takes for the leader, and whether it serves.

    `problem` says in words what is missing; it is empty if the server serves.
    """

    leader: str = ""
    problem: str = ""

    @property
    def is_serving(self) -> bool:
        """Say whether it knows a leader and answers reads."""
        return not self.problem


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session whose requests all have a time limit.

    The servers are the lab's own: certificates are not checked.
    """
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    connector = aiohttp.TCPConnector(limit=0, ssl=False)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session


async def ask_server(
    session: aiohttp.ClientSession, files: ServerFiles
) -> ServerAnswer:
    """Ask one server whether it takes part: its health, its leader, and a real read."""
    try:
        async with session.get(f"{files.url}/v1/agent/health") as answer:
            if answer.status != 200:
                return ServerAnswer(problem=f"not healthy: {await answer.text()}")
        async with session.get(f"{files.url}/v1/status/leader") as answer:
            leader = await answer.json() if answer.status == 200 else ""
        async with session.get(f"{files.url}/v1/nodes?per_page=1") as answer:
            # Where ACLs are on, to say that one may not read is to serve.
            if answer.status not in {200, 403}:
                return ServerAnswer(leader, f"does not read: {await answer.text()}")
    except TimeoutError:
        return ServerAnswer(problem=f"does not answer within {ASK_S:g} s")
    except aiohttp.ClientError as error:
        return ServerAnswer(problem=f"does not answer: {error}")
    return ServerAnswer(leader, "" if leader else "knows no leader")


async def ask_all(
    session: aiohttp.ClientSession, servers: Sequence[ServerFiles]
) -> list[ServerAnswer]:
    """Ask all servers at once."""
    return await asyncio.gather(*(ask_server(session, files) for files in servers))


def agreed_leader(
    servers: Sequence[ServerFiles], answers: Sequence[ServerAnswer]
) -> ServerFiles | None:
    """Return the leader if every server serves and all name the same one."""
    leaders = {answer.leader for answer in answers}
    if len(leaders) != 1 or not all(answer.is_serving for answer in answers):
        return None
    return next((files for files in servers if files.peer in leaders), None)


async def wait_for_leader(
    session: aiohttp.ClientSession,
    servers: Sequence[ServerFiles],
    *,
    within_s: float,
    check: Callable[[], None] = lambda: None,
) -> ServerFiles:
    """Return the leader once every server serves and all agree on it.

    `check` is called before each round and may raise. Raises `TimeoutError` with what
    each server said last.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while True:
        check()
        answers = await ask_all(session, servers)
        leader = agreed_leader(servers, answers)
        if leader is not None:
            return leader
        if loop.time() > end:
            raise TimeoutError(_complaint(servers, answers, within_s))
        await asyncio.sleep(POLL_S)


def _complaint(
    servers: Sequence[ServerFiles], answers: Sequence[ServerAnswer], within_s: float
) -> str:
    said = "; ".join(
        f"{files.name}: {answer.problem or f'follows {answer.leader}'}"
        for files, answer in zip(servers, answers, strict=True)
    )
    return f"no leader on all servers within {within_s:g} s ({said})"
