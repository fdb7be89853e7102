"""One simulated node: heartbeats, what is assigned to it, and the work itself.

Its work goes on whether or not a server hears of it: a node that falls silent is one that
is cut off, and its tasks run. When it is heard again it does as a real agent does.
"""

import asyncio
from typing import Final

from nodestate.agents.assignments import Assignment
from nodestate.agents.fates import Behaviour
from nodestate.agents.identities import Identity
from nodestate.agents.servers import Servers
from nodestate.agents.work import TaskMachine
from nodestate.answers import Written
from nodestate.client import NOW, Query, Read
from nodestate.clock import Clock, IdSource
from nodestate.errors import NodestateError, ResponseError
from nodestate.model.node import NodeStatus

WATCH_S: Final = 60.0
"""How long a watch waits. A server that hangs is left alone no sooner than after that."""
WATCH_PAUSE_S: Final = 0.2
"""Least time between two looks at what is assigned: changes come in swarms."""
REPORT_EVERY_S: Final = 0.2
REPORTS_PER_CALL_MAX: Final = 64
"""Reports in one call: with ten lines of history for each task well under 1 MiB."""
BEAT_PART: Final = 0.75
"""After which part of its TTL a node is heard: one server may fail to answer meanwhile."""
LATE_S: Final = 2.0
RETRY_S: Final = 5.0
TTL_S_MIN: Final = 0.1
SLEEP_S_MAX: Final = 60.0
"""A node looks at the wall clock that often, which may have been set."""


class Tally:
    """What the nodes of a fleet have done, counted together."""

    def __init__(self) -> None:
        self.heartbeat_count = 0
        self.late_heartbeat_count = 0
        self.read_count = 0
        self.report_count = 0
        self.reported_allocation_count = 0


class NodeAgent:
    """A node of a fleet. It has to be registered before it is started."""

    def __init__(  # noqa: PLR0913  what every node of a fleet shares
        self,
        identity: Identity,
        servers: Servers,
        behaviour: Behaviour,
        seed: str,
        tally: Tally,
        *,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self.identity = identity
        self.machines: dict[str, TaskMachine] = {}
        self.is_silent = False
        self._servers = servers
        self._behaviour = behaviour
        self._seed = seed
        self._tally = tally
        self._clock = clock
        self._ids = ids
        self._index = 0
        self._ttl_s = TTL_S_MIN
        self._heard_s = clock.monotonic_s()
        self._work_changed = asyncio.Event()
        self._has_reports = asyncio.Event()
        self._can_speak = asyncio.Event()
        self._can_speak.set()
        self._speaking: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> str:
        """Return the node's id."""
        return self.identity.node_id

    def registered(self, written: Written) -> None:
        """Take down the TTL that the servers have given with a registration."""
        self._ttl_s = max(written.heartbeat_ttl / 1e9, TTL_S_MIN)
        self._heard_s = self._clock.monotonic_s()

    async def run(self) -> None:
        """Be the node until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            while True:
                await self._can_speak.wait()
                self._speaking = group.create_task(self._speak())
                # Only falling silent ends it: what else it raises ends the group.
                await asyncio.wait([self._speaking])

    def fall_silent(self) -> None:
        """Send nothing and hear nothing from now on; the work goes on."""
        self.is_silent = True
        self._can_speak.clear()
        if self._speaking is not None:
            self._speaking.cancel()

    def come_back(self) -> None:
        """Be heard again."""
        self.is_silent = False
        self._can_speak.set()

    # Work

    async def _work(self) -> None:
        """Have every step of the work taken when it is due."""
        while True:
            self._work_changed.clear()
            now_ns = self._clock.now_ns()
            due_ns: int | None = None
            for machine in self.machines.values():
                machine.advance(now_ns)
                next_ns = machine.due_at_ns
                if next_ns is not None and (due_ns is None or next_ns < due_ns):
                    due_ns = next_ns
            if any(machine.is_unreported for machine in self.machines.values()):
                self._has_reports.set()
            await self._until_changed(due_ns)

    async def _until_changed(self, due_ns: int | None) -> None:
        if due_ns is None:
            await self._work_changed.wait()
            return
        wait_s = min((due_ns - self._clock.now_ns()) / 1e9, SLEEP_S_MAX)
        timer = self._clock.call_later(max(wait_s, 0.0), self._work_changed.set)
        try:
            await self._work_changed.wait()
        finally:
            timer.cancel()

    # Speaking

    async def _speak(self) -> None:
        if self._clock.monotonic_s() - self._heard_s > self._ttl_s:
            await self._rejoin()
        self._work_changed.set()  # what nobody was told meanwhile is told now
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._watch())
            group.create_task(self._report())

    async def _rejoin(self) -> None:
        """Come back as one that may have been given up.

        What is lost must stop before anything new is started here: so the node is ready
        only once it has seen what the servers want of it.
        """
        while not await self._heartbeat(NodeStatus.INITIALIZING):
            await self._servers.pause(RETRY_S)
        while not await self._pull(NOW):
            await self._servers.pause(RETRY_S)
        while not await self._heartbeat(NodeStatus.READY):
            await self._servers.pause(RETRY_S)

    async def _beat(self) -> None:
        """Send heartbeats, the first at a random time: a fleet starts at once."""
        due_s = self._clock.monotonic_s() + self._beat_s() * self._ids.jitter()
        while True:
            await self._clock.sleep(due_s - self._clock.monotonic_s())
            if not await self._heartbeat():
                await self._servers.pause(min(RETRY_S, self._ttl_s / 2))
                continue
            now_s = self._clock.monotonic_s()
            self._tally.late_heartbeat_count += now_s - due_s > LATE_S
            due_s = now_s + self._beat_s()

    def _beat_s(self) -> float:
        return self._ttl_s * BEAT_PART

    async def _heartbeat(self, status: str = "") -> bool:
        """Say that the node lives, whatever it takes; return whether that was heard.

        A node that was purged while it was away registers again.
        """
        identity = self.identity
        try:
            written = await self._servers.ask(
                identity.number,
                lambda client: client.heartbeat(
                    identity.node_id, identity.secret_id, status
                ),
            )
        except ResponseError as error:
            if error.status != 404:
                self._servers.note(error)
                return False
            return await self._register_again()
        except NodestateError:
            return False  # counted by whoever asked
        self._tally.heartbeat_count += 1
        self.registered(written)
        return True

    async def _register_again(self) -> bool:
        registration = self.identity.registration(NodeStatus.READY)
        try:
            written = await self._servers.ask(
                self.identity.number, lambda client: client.register(registration)
            )
        except NodestateError as error:
            self._servers.note(error)
            return False
        self.registered(written)
        return True

    async def _watch(self) -> None:
        """Follow what is assigned to the node."""
        while True:
            query = Query(index=self._index, wait_s=WATCH_S if self._index else 0.0)
            if await self._pull(query):
                await self._clock.sleep(WATCH_PAUSE_S)
            else:
                await self._servers.pause(RETRY_S)

    async def _pull(self, query: Query) -> bool:
        identity = self.identity
        try:
            read: Read[list[Assignment]] = await self._servers.ask(
                identity.number,
                lambda client: client.assigned(
                    identity.node_id, identity.secret_id, Assignment, query
                ),
            )
        except ResponseError as error:
            self._servers.note(error)
            return False
        except NodestateError:
            return False
        self._tally.read_count += 1
        # It goes back when a snapshot is restored: then that is what counts.
        self._index = read.index
        self._take(read.value)
        return True

    def _take(self, assignments: list[Assignment]) -> None:
        """Start what is new, tell the others, and forget what the servers forgot."""
        now_ns = self._clock.now_ns()
        known, self.machines = self.machines, {}
        for assignment in assignments:
            machine = known.get(assignment.id)
            if machine is None:
                machine = TaskMachine(assignment, self._behaviour, self._seed, now_ns)
            else:
                machine.advance(now_ns)
                machine.see(assignment, now_ns)
            self.machines[assignment.id] = machine
        self._work_changed.set()

    async def _report(self) -> None:
        """Tell the servers what has changed, gathered for a moment."""
        while True:
            await self._has_reports.wait()
            await self._clock.sleep(REPORT_EVERY_S)
            self._has_reports.clear()
            unreported = [one for one in self.machines.values() if one.is_unreported]
            for first in range(0, len(unreported), REPORTS_PER_CALL_MAX):
                batch = unreported[first : first + REPORTS_PER_CALL_MAX]
                async with self._servers.reporting:
                    is_told = await self._send(batch)
                if not is_told:
                    self._has_reports.set()
                    await self._servers.pause(RETRY_S)
                    break

    async def _send(self, machines: list[TaskMachine]) -> bool:
        identity = self.identity
        reports = [machine.report() for machine in machines]
        try:
            await self._servers.ask(
                identity.number,
                lambda client: client.report(
                    identity.node_id,
                    identity.secret_id,
                    [report for report, _ in reports],
                ),
            )
        except ResponseError as error:
            self._servers.note(error)
            return False
        except NodestateError:
            return False
        for machine, (_, revision) in zip(machines, reports, strict=True):
            machine.confirm(revision)
        self._tally.report_count += 1
        self._tally.reported_allocation_count += len(machines)
        return True
