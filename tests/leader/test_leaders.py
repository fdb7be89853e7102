"""Leaders that come and go while jobs change, nodes drain and fail, and entries get lost.

The services run as on a server, and their entries are held to the invariants of work one
by one; another replica applies the same entries as they come out of the log.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from typing_extensions import override

from nodestate.config import ServerConfig
from nodestate.errors import OutcomeUnknownError
from nodestate.fsm import machine
from nodestate.fsm.digest import table_digests
from nodestate.fsm.snapshot import decode_state, encode_state
from nodestate.fsm.state import State
from nodestate.leader import heartbeats, services as leader_services
from nodestate.leader.broker import Delivery
from nodestate.leader.scheduler import Scheduler
from nodestate.model.command import Command
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import JobKey
from nodestate.model.outcome import Outcome
from nodestate.model.request import Request
from nodestate.planning.scheduling import Ending
from tests.fakes import FakeLeadership, FakeProposer, FakeReplica, settle
from tests.fsm.invariants import as_stored
from tests.leader.test_services import SERVICES, service_tasks
from tests.leader.worlds import World
from tests.planning.invariants import Before, check_rest
from tests.planning.test_invariants import (
    KINDS,
    NODES,
    Step,
    Watched,
    happenings,
    home,
    key,
    registering,
)

pytestmark = pytest.mark.slow

# Nobody beats here: nodes go down and come back as the history says. What is over goes
# while the history is still going on.
CONFIG = ServerConfig(
    heartbeat_ttl_s_min=86_400,
    failover_heartbeat_ttl_s=86_400,
    gc_interval_s=40,
    gc_evaluations_after_s=60,
    gc_batch_evaluations_after_s=90,
    gc_jobs_after_s=120,
    gc_nodes_after_s=100_000,
)
TIMERS_LOOKED_AT_S = 300.0
STEP_S_MAX = 30.0
"""Far below what an evaluation may take before it is delivered again."""
TURNS_OF_WORK = 6


class WatchedReplica(FakeReplica):
    """Every entry is held to the invariants, and applied by another replica too."""

    def __init__(self) -> None:
        super().__init__()
        self.other = State()
        self.broken: list[AssertionError] = []

    @override
    def apply(self, command: Command, request: Request | None = None) -> Outcome:
        before = Before(self.state())
        outcome = super().apply(command, request)
        try:
            before.check(self.state(), command)
        except AssertionError as error:
            # Whoever proposed it takes this for a failure, and tries again.
            self.broken.append(error)
        (stored,) = as_stored([command])
        machine.apply(self.other, self.applied_index(), stored, request)
        return outcome

    def restart_other(self) -> None:
        """Have the other replica go on from a snapshot of what it is."""
        self.other = decode_state(encode_state(self.other))

    def check_all(self) -> None:
        """No entry broke a rule; and 11: the same entries, the same state."""
        for error in self.broken:
            raise error
        assert table_digests(self.other) == table_digests(self.state()), "11"


class UnsureProposer(FakeProposer):
    """Some of what it proposes is lost, and some is applied though nobody is told."""

    def __init__(self, replica: FakeReplica, leadership: FakeLeadership) -> None:
        super().__init__(replica, leadership)
        self.fates: list[str] = []

    @override
    async def propose_as_leader(
        self, command: Command, *, term: int, deadline_s: float
    ) -> Outcome:
        await asyncio.sleep(0)
        fate = self.fates.pop() if self.fates else "applied"
        if fate == "lost":
            raise OutcomeUnknownError("lost")
        outcome = await super().propose_as_leader(
            command, term=term, deadline_s=deadline_s
        )
        if fate == "unknown":
            raise OutcomeUnknownError("applied, but who knows")
        return outcome


BROKEN: list[JobKey] = []
"""Jobs of which two evaluations were looked at at a time."""


class OneAtATime(Scheduler):
    """4: of each job, one evaluation at a time is looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._looked_at: set[JobKey] = set()

    @override
    async def _schedule(self, stored: Evaluation, delivery: Delivery) -> Ending:
        if stored.job_key in self._looked_at:
            BROKEN.append(stored.job_key)
        self._looked_at.add(stored.job_key)
        try:
            return await super()._schedule(stored, delivery)
        finally:
            self._looked_at.discard(stored.job_key)


class Realm(Watched):
    """What clients and agents do, over a log that has a leader, sooner or later."""

    def __init__(self) -> None:
        replica, leadership = WatchedReplica(), FakeLeadership(is_leader=False)
        world = World(config=CONFIG, replica=replica, leadership=leadership)
        super().__init__(state=replica.state(), now_ns=world.clock.now_ns())
        world.proposer = self.proposer = UnsureProposer(replica, leadership)
        self.world = world
        self.replica = replica

    @override
    def apply(self, command: Command) -> Outcome:
        outcome = self.replica.apply(command)
        self.index = self.replica.applied_index()
        return outcome

    async def change_leader(self, *, is_gap: bool) -> None:
        """Cut the leader off, and have another one begin at once, or a little later."""
        leadership = self.world.leadership
        if is_gap:
            leadership.lose()
            await self.pass_time(1)
            assert service_tasks() == set()
        leadership.gain()
        await self.pass_time(0)
        assert service_tasks() == SERVICES

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, but for nobody who has something to do: that takes no time."""
        left_s = seconds
        while True:
            for _ in range(TURNS_OF_WORK):
                await settle()
            step_s = min(left_s, STEP_S_MAX)
            await self.world.clock.step(step_s)
            self.now_ns = self.world.clock.now_ns()
            left_s -= step_s
            if left_s <= 0:
                return

    async def rest_under_leaders(self) -> None:
        """Let leader and agents go on until nothing is left to do."""
        for _ in range(30):
            await self.pass_time(120)
            self.obey()
        await self.pass_time(600)


Event = tuple[str, Any]

events = st.one_of(
    st.tuples(st.just("happens"), happenings),
    st.tuples(st.just("happens"), happenings),
    st.tuples(st.just("lives"), st.sampled_from([0, 1, 30])),
    st.tuples(
        st.just("fates"), st.lists(st.sampled_from(["lost", "unknown", "applied"]))
    ),
    st.tuples(st.just("changes"), st.booleans()),
    st.just(("restarts", None)),
)


async def happen(realm: Realm, event: Event) -> None:
    what, value = event
    match what:
        case "happens":
            step: Step = value
            step(realm)
        case "fates":
            realm.proposer.fates = list(value)
        case "changes":
            await realm.change_leader(is_gap=value)
        case "restarts":
            realm.replica.restart_other()
        case "lives":
            await realm.pass_time(value)
        case _:
            raise AssertionError(what)
    await realm.pass_time(0)


async def play(history: Sequence[Event]) -> None:
    BROKEN.clear()
    realm = Realm()
    task = asyncio.create_task(realm.world.services().run())
    realm.add(*[home(number) for number in NODES])
    for id_ in KINDS:
        registering(id_, 3, is_changed=False)(realm)
    try:
        await realm.change_leader(is_gap=False)
        for event in history:
            await happen(realm, event)
        await end_well(realm)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), "a service failed"


async def end_well(realm: Realm) -> None:
    """With room, agents and leaders that are left alone, all comes to rest."""
    realm.proposer.fates = []
    realm.add(*[home(number, cpu=10_000) for number in range(10, 14)])
    await realm.change_leader(is_gap=True)
    await realm.rest_under_leaders()
    # Who leads next may end what waits for nothing any more, once.
    await realm.change_leader(is_gap=False)
    await realm.rest_under_leaders()
    realm.replica.check_all()
    assert not BROKEN, "4"
    written = realm.replica.applied_index()

    await realm.pass_time(600)
    assert realm.replica.applied_index() == written, "10"
    await realm.change_leader(is_gap=True)
    await realm.pass_time(600)
    assert realm.replica.applied_index() == written, "10: under another one, too"

    check_rest(realm.state)
    check_drains(realm)


def check_drains(realm: Realm) -> None:
    """9: every drain has ended, and the service runs whole again, elsewhere."""
    state = realm.state
    assert not state.draining_nodes(), "9"
    service = state.jobs.get(key("web"))
    if service is not None and not service.stop:
        assert len(realm.live(service.key)) == service.task_groups[0].count, "9"


@settings(max_examples=40, deadline=None)
@given(st.lists(events, min_size=10, max_size=30))
def test_whoever_leads_the_work_is_done_once(history):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heartbeats, "TICK_S", TIMERS_LOOKED_AT_S)
        patch.setattr(leader_services, "Scheduler", OneAtATime)
        patch.setattr("nodestate.planning.drafts.PLACEMENTS_MAX", 2)
        asyncio.run(play(history))
