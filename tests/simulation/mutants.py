"""Servers with one rule switched off, for showing that the judge notices."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.api import blocking
from nodestate.fsm import allocations as fsm_allocations, machine, plans
from nodestate.leader.blocked import BlockedEvaluations
from nodestate.leader.broker import EvaluationBroker
from nodestate.leader.drainer import Drainer
from nodestate.leader.heartbeats import Heartbeats
from nodestate.leader.slices import in_slices
from nodestate.model.job import JobType
from nodestate.planning import drains
from nodestate.replication import rules
from nodestate.replication.engine import Engine
from nodestate.replication.frames import AppendReply, RequestVote, VoteReply
from nodestate.replication.installs import SnapshotReceiver
from nodestate.replication.outbox import Outbox

Mutant = Callable[[pytest.MonkeyPatch], None]


def _send_at_once(patch: pytest.MonkeyPatch, *kinds: type) -> None:
    post = Outbox.post

    def mutant(self: Any, peer_id: str, message: Any, *, position: int) -> None:
        post(self, peer_id, message, position=0 if type(message) in kinds else position)

    patch.setattr(Outbox, "post", mutant)


def acknowledges_before_sync(patch: pytest.MonkeyPatch) -> None:
    """A follower's word leaves before its entries are durable."""
    _send_at_once(patch, AppendReply)


def votes_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Term and vote are told before they are durable."""
    _send_at_once(patch, RequestVote, VoteReply)


def counts_itself_before_sync(patch: pytest.MonkeyPatch) -> None:
    """The leader counts what it has only in memory."""
    of_voters = Engine._of_voters

    def mutant(self: Any, own: float, others: Any) -> list[float]:
        if own == self._journal.durable_index():
            own = self._journal.last_index()
        return of_voters(self, own, others)

    patch.setattr(Engine, "_of_voters", mutant)


def takes_acks_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement of an earlier term counts like one of this term."""
    on_append_reply = Engine._on_append_reply

    def mutant(self: Any, peer_id: str, message: AppendReply) -> None:
        if message.term < self.term():
            message = replace(message, term=self.term())
        on_append_reply(self, peer_id, message)

    patch.setattr(Engine, "_on_append_reply", mutant)


def commits_old_terms_by_count(patch: pytest.MonkeyPatch) -> None:
    """An entry of an earlier term is committed by counting (figure 8)."""

    def mutant(
        durable_indexes: Any, *, commit_index: int, term: int, term_at: Any
    ) -> int:
        return max(commit_index, rules.majority_index(durable_indexes))

    patch.setattr(rules, "advanced_commit_index", mutant)


def cuts_what_matches(patch: pytest.MonkeyPatch) -> None:
    """What a message repeats is cut and written again, though it is the same."""

    def mutant(entries: Any, *, base_index: int, **_: Any) -> int:
        for position, entry in enumerate(entries):
            if entry.index > base_index:
                return position
        return len(entries)

    patch.setattr(rules, "first_new_entry", mutant)


def installs_before_verifying(patch: pytest.MonkeyPatch) -> None:
    """A snapshot is acknowledged when its last piece is here, whatever it is worth."""
    add = SnapshotReceiver._add

    async def mutant(self: Any, leader_id: str, chunk: Any) -> Any:
        received = await add(self, leader_id, chunk)
        if received is not None:
            self._answer_installed(leader_id, chunk)
        return received

    patch.setattr(SnapshotReceiver, "_add", mutant)


def forgets_requests(patch: pytest.MonkeyPatch) -> None:
    """Neither a proposal nor a caller's key is known again."""

    def mutant(state: Any, index: int, command: Any, request: Any = None) -> Any:
        return machine._apply_command(state, index, command)

    patch.setattr(machine, "apply", mutant)


def reads_before_its_own_entry(patch: pytest.MonkeyPatch) -> None:
    """A new leader answers reads before an entry of its own term is committed."""
    begin_read = Engine.begin_read

    def mutant(self: Any, done: Any) -> None:
        is_ready = self.is_ready_to_lead
        self.is_ready_to_lead = self.is_leader
        try:
            begin_read(self, done)
        finally:
            self.is_ready_to_lead = is_ready

    patch.setattr(Engine, "begin_read", mutant)


def watches_before_registering(patch: pytest.MonkeyPatch) -> None:
    """A blocking read looks at the state first, and registers a moment later."""

    async def mutant(call: Any, options: Any, key: Any, current_index: Any) -> None:
        services = call.services
        if current_index(services.view.state()) > options.index:
            return
        await asyncio.sleep(0.01)
        with services.watch.waiter(key) as waiter:
            await waiter.wait(options.wait_s)

    patch.setattr(blocking, "wait_until_past", mutant)


# Work


def drains_without_pacing(patch: pytest.MonkeyPatch) -> None:
    """A group lets go whatever is on a node that drains."""
    for module in (fsm_allocations, drains):
        patch.setattr(module, "group_budget", lambda *_: 1_000_000)


def forces_by_a_deadline_that_was_put_off(patch: pytest.MonkeyPatch) -> None:
    """Marks of a forced drain hold though it was given more time meanwhile."""
    patch.setattr(fsm_allocations, "is_forced", lambda *_: True)


def ends_drains_before_agents_report(patch: pytest.MonkeyPatch) -> None:
    """A drain is complete when everything has been told to stop."""

    def mutant(allocation: Any) -> bool:
        return allocation.job_type is not JobType.SYSTEM and not allocation.is_terminal

    patch.setattr(drains, "is_unfinished", mutant)


def forgets_drains_of_earlier_leaders(patch: pytest.MonkeyPatch) -> None:
    """A leader looks after drains that began in its own term."""
    begin = Drainer.__init__
    known: dict[int, frozenset[Any]] = {}

    def mutant(self: Any, term: Any, *counters: Any) -> None:
        begin(self, term, *counters)
        known[id(self)] = frozenset(term.view.state().draining_keys)

    async def plan(self: Any) -> Any:
        state = self._term.view.state().shallow_copy()
        for key in known[id(self)]:
            state.draining_keys.pop(key, None)
        work = drains.plan_drains(state, self._term.clock.now_ns())
        return await in_slices(work, self._term.clock)

    patch.setattr(Drainer, "__init__", mutant)
    patch.setattr(Drainer, "_plan", plan)


def carries_out_old_plans(patch: pytest.MonkeyPatch) -> None:
    """A plan counts though its evaluation has been planned for since."""
    decide = plans.decide_apply_plan

    def mutant(state: Any, command: Any, index: int) -> Any:
        evaluation = state.evaluations.get(command.plan.eval_id)
        if evaluation is not None:
            plan = replace(command.plan, eval_modify_index=evaluation.modify_index)
            command = replace(command, plan=plan)
        return decide(state, command, index)

    patch.setattr(plans, "decide_apply_plan", mutant)


def places_on_any_node(patch: pytest.MonkeyPatch) -> None:
    """Whether a node may take what a plan has for it is not asked when it is applied."""
    patch.setattr(plans._Check, "_shortcoming", lambda *_: "")


def looks_at_one_job_twice_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Evaluations of one job are given out without waiting for each other."""

    def mutant(self: Any, evaluation: Any) -> None:
        self._make_ready(str(evaluation.type), evaluation)

    patch.setattr(EvaluationBroker, "_admit", mutant)


def never_looks_for_room_again(patch: pytest.MonkeyPatch) -> None:
    """Evaluations that wait for room wait for ever."""
    patch.setattr(BlockedEvaluations, "unblock", lambda *_: [])


def never_misses_a_heartbeat(patch: pytest.MonkeyPatch) -> None:
    """Nobody is marked down."""
    patch.setattr(Heartbeats, "_take_batch", lambda *_: [])


def writes_every_heartbeat(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat is an entry of the log, though it changes nothing."""
    heartbeat = Heartbeats.heartbeat

    async def mutant(self: Any, question: Any) -> Any:
        self._proposed[question.key] = None
        return await heartbeat(self, question)

    patch.setattr(Heartbeats, "heartbeat", mutant)


OF_THE_LOG: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        acknowledges_before_sync,
        counts_itself_before_sync,
        takes_acks_of_any_term,
        commits_old_terms_by_count,
        cuts_what_matches,
        votes_before_sync,
        installs_before_verifying,
        forgets_requests,
        reads_before_its_own_entry,
        watches_before_registering,
    )
}
OF_WORK: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        drains_without_pacing,
        forces_by_a_deadline_that_was_put_off,
        ends_drains_before_agents_report,
        forgets_drains_of_earlier_leaders,
        carries_out_old_plans,
        places_on_any_node,
        looks_at_one_job_twice_at_a_time,
        never_looks_for_room_again,
        never_misses_a_heartbeat,
        writes_every_heartbeat,
    )
}
ALL = OF_THE_LOG | OF_WORK
