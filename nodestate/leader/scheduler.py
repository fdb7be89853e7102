"""Has evaluations looked at, and what they come to written.

One task follows the state: it hands new evaluations to the broker, has those that wait
for room looked at again when there may be some, and ends those that were delivered too
often. A few others each take an evaluation at a time, plan in slices, and propose. A plan
is checked where it is applied, so that they need not know of each other.

All of it is made anew from the state by each leader, and nothing is written while
nothing happens.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import ALLOCATIONS, EVALUATIONS, NODES, State
from nodestate.leader.blocked import BlockedEvaluations
from nodestate.leader.broker import (
    DELIVERIES_MAX,
    FAILED_QUEUE,
    Delivery,
    DeliveryError,
    EvaluationBroker,
)
from nodestate.leader.slices import in_slices
from nodestate.leader.terms import LeaderTerm
from nodestate.model.command import (
    SERVER,
    ApplyPlan,
    EvaluationChange,
    UpdateEvaluations,
)
from nodestate.model.evaluation import (
    EVAL_BLOCKED,
    EVAL_CANCELED,
    EVAL_FAILED,
    Evaluation,
    Trigger,
)
from nodestate.model.outcome import Accepted, Refused
from nodestate.model.timestamp import NANOSECONDS
from nodestate.planning.drafts import child_of
from nodestate.planning.drains import in_batches
from nodestate.planning.scheduling import Ending, Scheduling, canceled
from nodestate.planning.selection import ReadyNodes
from nodestate.planning.vacancies import find_vacancies
from nodestate.ports import Counter
from nodestate.watch import Waiter, table_key

WORKERS: Final = 4
"""How many evaluations are looked at at a time: while one waits for the log, others plan."""
FOLLOW_REST_S: Final = 0.25
"""How long many changes that may have made room are gathered."""
UNBLOCK_FAILED_S: Final = 60.0
IDLE_S_MAX: Final = 60.0
FAILED_FOLLOW_UP_S: Final = 60.0
FAILED_FOLLOW_UP_SPREAD_S: Final = 300.0
CHANGES_PER_COMMAND_MAX: Final = 256

SUPERSEDED: Final = "canceled after more recent eval was processed"


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulerMetrics:
    """What is counted, over all terms."""

    evaluations: Counter  # by what became of them
    plans: Counter
    conflicts: Counter


class _StaleError(Exception):
    """The evaluation has changed under whoever looked at it."""


class Scheduler:
    """The evaluations of one term."""

    def __init__(self, term: LeaderTerm, metrics: SchedulerMetrics) -> None:
        self._term = term
        self._metrics = metrics
        self._logger = term.logger
        self._broker = EvaluationBroker(term.clock, term.ids)
        self._blocked = BlockedEvaluations()
        self._is_ready = asyncio.Event()
        self._waiter: Waiter | None = None
        self._followed: dict[str, Evaluation] | None = None
        self._followed_index = -1
        self._room_index = -1
        self._unblock_at_s = term.clock.monotonic_s() + UNBLOCK_FAILED_S
        self._snapshot: tuple[int, State] | None = None
        self._ready = ReadyNodes()

    def evaluation_count(self) -> int:
        """Return how many evaluations are known that are not over and not blocked."""
        return len(self._broker)

    def blocked_count(self) -> int:
        """Return how many evaluations wait for room."""
        return len(self._blocked)

    # Following the state

    async def follow(self) -> None:
        """Keep the broker in step with the state, for ever."""
        keys = table_key(EVALUATIONS), table_key(NODES), table_key(ALLOCATIONS)
        with self._term.watch.waiter(*keys) as waiter:
            self._waiter = waiter
            failure_count = 0
            while True:
                waiter.rearm()
                self._take_new()
                is_done = await self._end_failed()
                await self._find_room()
                if not is_done:
                    failure_count += 1
                    await self._term.pause(failure_count)
                    continue
                failure_count = 0
                self._is_ready.set()
                await self._wait(waiter)

    def _take_new(self) -> None:
        """Take in the evaluations that have been made since the last time.

        A table keeps its records in the order in which they came; only one that has just
        been loaded, with a snapshot, is in another.
        """
        state = self._term.view.state()
        is_first = state.evaluations is not self._followed
        after_index = -1 if is_first else self._followed_index
        self._followed = state.evaluations
        self._followed_index = self._term.view.applied_index()
        new: list[Evaluation] = []
        for evaluation in reversed(state.evaluations.values()):
            if evaluation.create_index <= after_index:
                break
            if not evaluation.is_terminal:
                new.append(evaluation)
        for evaluation in sorted(new, key=lambda one: (one.create_index, one.id)):
            self._take_in(evaluation, is_first=is_first)

    def _take_in(self, evaluation: Evaluation, *, is_first: bool) -> None:
        # Whatever waits is looked at once by each new leader: its predecessor may have
        # found that there is room, and not come to it.
        if evaluation.is_blocked and not is_first:
            self._block(evaluation)
        else:
            self._broker.enqueue(evaluation)

    def _block(self, evaluation: Evaluation) -> None:
        if evaluation.id not in self._broker:
            duplicate = self._blocked.block(evaluation)
            if duplicate is not None:
                self._broker.enqueue(duplicate)
        self._room_index = -1

    async def _find_room(self) -> None:
        """Have those that wait looked at again if there may be room for them."""
        self._blocked.untrack(
            one.id for one in self._blocked.waiting() if self._stored(one) is None
        )
        now_s = self._term.clock.monotonic_s()
        if now_s >= self._unblock_at_s:
            self._unblock_at_s = now_s + UNBLOCK_FAILED_S
            self._enqueue_all(self._blocked.unblock_failed())
        state = self._term.view.state()
        index = max(state.table_index(NODES), state.table_index(ALLOCATIONS))
        if not len(self._blocked) or index <= self._room_index:
            return
        # Said before the search: who comes to wait during it has another one made.
        self._room_index = index
        work = find_vacancies(state, self._blocked.seen_index())
        vacancies = await in_slices(work, self._term.clock)
        self._enqueue_all(self._blocked.unblock(vacancies))

    def _enqueue_all(self, evaluations: list[Evaluation]) -> None:
        for evaluation in evaluations:
            stored = self._stored(evaluation)
            if stored is not None:
                self._broker.enqueue(stored)

    async def _end_failed(self) -> bool:
        """End what has been delivered too often, and have it looked at later."""
        while (delivery := self._broker.dequeue((FAILED_QUEUE,))) is not None:
            stored = self._stored(delivery.evaluation)
            if stored is not None and not await self._fail(stored):
                self._nack(delivery)
                return False
            self._ack(delivery)
        return True

    async def _fail(self, stored: Evaluation) -> bool:
        spread_s = FAILED_FOLLOW_UP_SPREAD_S * self._term.ids.jitter()
        follow_up = child_of(
            stored,
            self._term.ids.new_id(),
            Trigger.FAILED_FOLLOW_UP,
            wait=round((FAILED_FOLLOW_UP_S + spread_s) * NANOSECONDS),
            node_id=stored.node_id,
        )
        failed = replace(
            stored,
            status=EVAL_FAILED,
            status_description=f"evaluation reached delivery limit ({DELIVERIES_MAX})",
            next_eval=follow_up.id,
        )
        changes = (
            EvaluationChange(failed, stored.modify_index),
            EvaluationChange(follow_up),
        )
        self._metrics.evaluations.add(label=EVAL_FAILED)
        self._logger.error("evaluation failed too often", eval_id=stored.id)
        try:
            await self._write(changes)
        except (NoLeaderError, OutcomeUnknownError, _StaleError) as error:
            self._logger.warning("failed evaluation not written", error=str(error))
            return False
        return True

    async def _wait(self, waiter: Waiter) -> None:
        """Wait for a change, or for what time alone brings."""
        clock = self._term.clock
        wait_s = min(IDLE_S_MAX, max(0.0, self._unblock_at_s - clock.monotonic_s()))
        due_s = self._broker.seconds_until_due()
        if due_s is not None:
            wait_s = min(wait_s, due_s)
        timer = clock.call_later(wait_s, waiter.wake)
        try:
            await waiter.wait(2 * IDLE_S_MAX)
        finally:
            timer.cancel()
        if len(self._blocked):
            await self._gather()

    async def _gather(self) -> None:
        """Let changes that may have made room gather; new evaluations need not wait."""
        until_s = self._term.clock.monotonic_s() + FOLLOW_REST_S
        state = self._term.view.state()
        index = state.table_index(EVALUATIONS)
        while self._term.clock.monotonic_s() < until_s:
            if self._term.view.state().table_index(EVALUATIONS) != index:
                return
            await self._term.clock.sleep(FOLLOW_REST_S / 10)

    # Looking at evaluations

    async def work(self) -> None:
        """Look at one evaluation after the other, for ever."""
        while True:
            delivery = self._broker.dequeue()
            if delivery is None:
                self._is_ready.clear()
                await self._is_ready.wait()
                continue
            try:
                await self._look_at(delivery)
            except (NoLeaderError, OutcomeUnknownError, _StaleError) as error:
                self._logger.warning(
                    "evaluation not ended",
                    eval_id=delivery.evaluation.id,
                    error=str(error),
                )
                self._nack(delivery)
                await self._term.pause(1)
            except Exception:
                self._logger.exception(
                    "evaluation failed", eval_id=delivery.evaluation.id
                )
                self._nack(delivery)

    async def _look_at(self, delivery: Delivery) -> None:
        stored = self._stored(delivery.evaluation)
        if stored is None:
            self._ack(delivery)
            return
        if self._is_duplicate(stored):
            change = EvaluationChange(canceled(stored), stored.modify_index)
            await self._write((change,))
            self._ack(delivery)
            return
        ending = await self._schedule(stored, delivery)
        status = ending.changes[0].evaluation.status if ending.changes else EVAL_BLOCKED
        self._metrics.evaluations.add(label=status)
        superseded = self._broker.take_superseded(stored.job_key)
        self._ack(delivery)
        if ending.blocked is not None:
            self._block(ending.blocked)
            self._wake()
        await self._cancel(superseded)

    async def _schedule(self, stored: Evaluation, delivery: Delivery) -> Ending:
        """Plan until there is nothing left to plan, and write what it has come to."""
        scheduling = Scheduling(stored, self._ready)
        while scheduling.is_open:
            index, state = self._newest()
            work = scheduling.look(state, index, self._term.clock.now_ns())
            command = await in_slices(work, self._term.clock)
            if command is not None:
                await self._propose(scheduling, command, delivery)
        ending = scheduling.end(self._term.view.state(), self._term.clock.now_ns())
        if ending.changes:
            self._broker.pause(stored.id, delivery.token)
            await self._write(ending.changes)
        return ending

    def _is_duplicate(self, stored: Evaluation) -> bool:
        """Say whether an evaluation that waited need not: another one of its job does."""
        return stored.is_blocked and any(
            one.id != stored.id
            and one.is_blocked
            and one.node_id == stored.node_id
            and (one.create_index, one.id) > (stored.create_index, stored.id)
            for one in self._term.view.state().evaluations_of(stored.job_key)
        )

    async def _propose(
        self, scheduling: Scheduling, command: ApplyPlan, delivery: Delivery
    ) -> None:
        eval_id = delivery.evaluation.id
        self._broker.pause(eval_id, delivery.token)
        outcome = await self._term.propose(command)
        if isinstance(outcome, Refused):
            raise _StaleError(outcome.reason)
        assert outcome.plan is not None, "a plan that was accepted has a result"
        self._broker.reset(eval_id, delivery.token)
        self._metrics.plans.add()
        self._metrics.conflicts.add(len(outcome.plan.rejected))
        scheduling.take(outcome.plan)

    async def _cancel(self, superseded: list[Evaluation]) -> None:
        """End evaluations that have waited in vain, with one entry for many."""
        for batch in in_batches(
            self._cancellations(superseded), CHANGES_PER_COMMAND_MAX
        ):
            try:
                await self._write(batch, is_atomic=False)
            except (NoLeaderError, OutcomeUnknownError) as error:
                # They are over if the entry comes after all; if not, they are looked at.
                self._logger.warning("evaluations not canceled", error=str(error))
                self._enqueue_all([one.evaluation for one in batch])
            else:
                self._metrics.evaluations.add(len(batch), label=EVAL_CANCELED)

    def _cancellations(
        self, evaluations: list[Evaluation]
    ) -> Iterator[EvaluationChange]:
        for evaluation in evaluations:
            stored = self._stored(evaluation)
            if stored is not None:
                ended = replace(
                    stored, status=EVAL_CANCELED, status_description=SUPERSEDED
                )
                yield EvaluationChange(ended, stored.modify_index)

    # What both need

    def _stored(self, evaluation: Evaluation) -> Evaluation | None:
        """Return an evaluation as it is now, `None` if it is over or gone."""
        stored = self._term.view.state().evaluations.get(evaluation.id)
        return None if stored is None or stored.is_terminal else stored

    def _newest(self) -> tuple[int, State]:
        """Return a state that stays as it is, and the index of its last entry."""
        index = self._term.view.applied_index()
        if self._snapshot is None or self._snapshot[0] != index:
            self._snapshot = index, self._term.view.state().shallow_copy()
        return self._snapshot

    async def _write(
        self, changes: tuple[EvaluationChange, ...], *, is_atomic: bool = True
    ) -> Accepted:
        outcome = await self._term.propose(
            UpdateEvaluations(
                at_ns=self._term.clock.now_ns(),
                asked_by=SERVER,
                changes=changes,
                is_atomic=is_atomic,
            )
        )
        if isinstance(outcome, Refused):
            raise _StaleError(outcome.reason)
        return outcome

    def _ack(self, delivery: Delivery) -> None:
        self._settle(delivery, self._broker.ack)

    def _nack(self, delivery: Delivery) -> None:
        self._settle(delivery, self._broker.nack)
        self._wake()

    def _settle(self, delivery: Delivery, settle: Callable[[str, str], None]) -> None:
        try:
            settle(delivery.evaluation.id, delivery.token)
        except DeliveryError as error:
            # It took so long that it was taken back; what it wrote counts all the same.
            self._logger.warning("delivery is over", error=str(error))
        self._is_ready.set()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.wake()
