"""Reads that wait: for a replica that is fresh enough, and for an index to pass.

The order is register, read, wait; any other loses a wake-up. What is returned is only
that the moment has come: the handler reads index and body in the same uninterrupted
step that follows.
"""

from collections.abc import Callable
from typing import Final

from nodestate.api.callers import client_of
from nodestate.api.calls import Call, Services
from nodestate.api.parameters import ReadOptions
from nodestate.api.problems import NO_LEADER, too_many
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import State
from nodestate.ports import LeadershipStatus
from nodestate.watch import WatchKey

JITTER_PART: Final = 16
"""A wait is longer by up to this part of it, so that waiters do not end all at once."""
NEVER_HEARD_MS: Final = 9223372036854
"""What Nomad says of a leader that was never heard of: its longest duration."""
FRESHNESS_POLL_S: Final = 0.05
TIMER_GRAIN_S: Final = 0.001

_LEADER_KNOWN_NOW: Final = b"X-Nomad-KnownLeader: true\r\nX-Nomad-LastContact: 0\r\n"


def contact_lines(services: Services, options: ReadOptions) -> bytes:
    """Return the headers that say how fresh an answer can be.

    A consistent read is as fresh as one that the leader answers, and says so.
    """
    if options.is_consistent:
        return _LEADER_KNOWN_NOW
    return _describe_contact(services.leadership.status())


def _describe_contact(status: LeadershipStatus) -> bytes:
    contact_s = status.last_contact_s
    if contact_s == 0.0 and status.leader_id is not None:
        return _LEADER_KNOWN_NOW
    known = b"false" if status.leader_id is None else b"true"
    contact_ms = NEVER_HEARD_MS if contact_s is None else int(contact_s * 1000)
    return b"X-Nomad-KnownLeader: %b\r\nX-Nomad-LastContact: %d\r\n" % (
        known,
        contact_ms,
    )


async def wait_until_fresh(call: Call, options: ReadOptions) -> None:
    """Return when the replica may answer; `NoLeaderError` if that takes too long.

    A stale read may always be answered. A consistent one needs the leader's word. Any
    other may be as old as the setting says, so that a server that was cut off does not
    go on answering for ever.
    """
    if options.is_stale:
        return
    services = call.services
    if options.is_consistent:
        await wait_until_linearizable(services, deadline_s=call.remaining_s())
        # A token that was taken away somewhere before the call counts for nothing here.
        call.permit_again()
        return
    while not is_fresh(services):
        if call.is_out_of_time():
            raise NoLeaderError(NO_LEADER)
        await services.clock.sleep(min(FRESHNESS_POLL_S, call.remaining_s()))


async def wait_until_linearizable(services: Services, *, deadline_s: float) -> None:
    """Return when the replica shows every write acknowledged so far, else `NoLeaderError`."""
    try:
        await services.view.wait_until_linearizable(deadline_s=deadline_s)
    except OutcomeUnknownError:
        # A read changes nothing, so nothing about it is unknown.
        raise NoLeaderError(NO_LEADER) from None


def contact_if_fresh(services: Services) -> bytes | None:
    """Return the headers for a read that asks for nothing special, `None` if it waits."""
    status = services.leadership.status()
    return _describe_contact(status) if _is_recent(services, status) else None


def is_fresh(services: Services) -> bool:
    """Say whether the replica is recent enough to answer for the cluster."""
    return _is_recent(services, services.leadership.status())


def _is_recent(services: Services, status: LeadershipStatus) -> bool:
    contact_s = status.last_contact_s
    if contact_s is None or contact_s > services.config.read_staleness_max_s:
        return False
    return services.view.is_caught_up()


async def wait_until_past(
    call: Call,
    options: ReadOptions,
    key: WatchKey,
    current_index: Callable[[State], int],
    *more_keys: WatchKey,
) -> None:
    """Return when the result's index is past the one asked for, or the wait is over.

    `current_index` looks at the state and awaits nothing; it is asked again whenever one
    of the keys was touched. A consistent read that had to
    wait is made fresh once more, because it may have waited for minutes. Raises
    `ConnectionResetError` when the client has gone, so that nothing is kept for it.
    """
    services = call.services
    if current_index(services.view.state()) > options.index:
        return
    await _wait_for_change(call, options, (key, *more_keys), current_index)
    if options.is_consistent:
        # What the request may take was meant for its answer, not for its wait.
        deadline_s = services.config.propose_timeout_s
        await wait_until_linearizable(services, deadline_s=deadline_s)


async def _wait_for_change(
    call: Call,
    options: ReadOptions,
    keys: tuple[WatchKey, ...],
    current_index: Callable[[State], int],
) -> None:
    services = call.services
    limit = services.config.watchers_max
    if services.waiting_count >= limit:
        raise too_many("blocking queries", "watchers_max", limit)
    client = client_of(call)
    services.waiters.begin(client)
    services.waiting_count += 1
    try:
        await _wait_as_one_of_them(call, options, keys, current_index)
    finally:
        services.waiting_count -= 1
        services.waiters.end(client)


async def _wait_as_one_of_them(
    call: Call,
    options: ReadOptions,
    keys: tuple[WatchKey, ...],
    current_index: Callable[[State], int],
) -> None:
    services = call.services
    wait_s = options.wait_s * (1 + services.ids.jitter() / JITTER_PART)
    is_over = False
    connection = call.connection()
    with services.watch.waiter(*keys) as waiter:

        def end_wait() -> None:
            nonlocal is_over
            is_over = True
            waiter.wake()

        # The timer alone says that the wait is over. A loop counts whole milliseconds,
        # so it may run a moment before the clock says so, and runs once only.
        timer = services.clock.call_later(wait_s + TIMER_GRAIN_S, end_wait)
        connection.on_lost = waiter.wake
        try:
            while True:
                waiter.rearm()
                if current_index(services.view.state()) > options.index:
                    return
                if is_over or services.is_stopping:
                    return
                if call.request.transport is None:
                    raise ConnectionResetError("the client has gone")
                await waiter.wait_until_woken()
        finally:
            connection.on_lost = None
            timer.cancel()
