"""Which evaluation a scheduler looks at next.

In the leader's memory alone, and made anew from the state by each leader. Of one job at
most one evaluation is ready or being looked at; later ones wait for it. Whoever takes one
has to say that it is done (`ack`) or that it was in vain (`nack`), in good time: what is
neither is delivered again, and what has been delivered too often goes to `FAILED_QUEUE`.

Nothing here waits, and nothing here has timers: time passes when somebody asks.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nodestate.clock import Clock, IdSource
from nodestate.errors import NodestateError
from nodestate.model.evaluation import EVAL_PENDING, Evaluation
from nodestate.model.job import JobKey, JobType
from nodestate.model.timestamp import NANOSECONDS

FAILED_QUEUE: Final = "_failed"
QUEUES: Final = tuple(str(kind) for kind in JobType)

NACK_TIMEOUT_S: Final = 60.0
DELIVERIES_MAX: Final = 3
FIRST_DELAY_S: Final = 1.0
LATER_DELAY_S: Final = 20.0

NOT_FOUND: Final = "Evaluation ID not found"
TOKEN_MISMATCH: Final = "Token does not match for Evaluation ID"  # noqa: S105  a text


class DeliveryError(NodestateError):
    """What is said of a delivery is not so: unknown, over, or somebody else's."""


class Delivery(NamedTuple):
    """An evaluation in somebody's hands; the token proves whose."""

    evaluation: Evaluation
    token: str


@dataclass(slots=True)
class _Outstanding:
    """A delivery; `due_s` is when it is taken back, `None` while its time stands still."""

    evaluation: Evaluation
    token: str
    due_s: float | None
    requeued: Evaluation | None = None


_Ready = tuple[int, int, str]
"""The order of a queue: the highest priority, then the oldest."""


class EvaluationBroker:
    """The evaluations that are to be looked at, and those that are being looked at."""

    def __init__(self, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids
        self._evaluations: dict[str, Evaluation] = {}
        self._ready: dict[str, list[_Ready]] = {}
        self._slots: dict[JobKey, str] = {}
        self._waiting: dict[JobKey, list[tuple[int, str]]] = {}
        self._outstanding: dict[str, _Outstanding] = {}
        self._delivery_counts: dict[str, int] = {}
        self._parked: list[tuple[float, int, str]] = []  # by the monotonic clock
        self._scheduled: list[tuple[int, int, str]] = []  # by the wall clock

    def __len__(self) -> int:
        """Return how many evaluations are known, whatever they wait for."""
        return len(self._evaluations)

    def __contains__(self, eval_id: str) -> bool:
        """Say whether the evaluation is known."""
        return eval_id in self._evaluations

    def ready_count(self) -> int:
        """Return how many could be taken now."""
        return sum(
            len(queue) for name, queue in self._ready.items() if name != FAILED_QUEUE
        )

    # Coming

    def enqueue(self, evaluation: Evaluation, *, token: str = "") -> None:
        """Take an evaluation in; one that is known already stays as it is.

        Unless `token` says that the caller has it in hand: then it comes again after its
        `ack`, and is dropped with a `nack`.
        """
        known = self._outstanding.get(evaluation.id)
        if evaluation.id in self._evaluations:
            if token and known is not None and known.token == token:
                known.requeued = evaluation
            return
        self._evaluations[evaluation.id] = evaluation
        if evaluation.wait > 0:
            self._park(evaluation, evaluation.wait / NANOSECONDS)
        elif evaluation.wait_until.ns > self._clock.now_ns():
            entry = (
                evaluation.wait_until.ns,
                evaluation.create_index,
                evaluation.id,
            )
            heapq.heappush(self._scheduled, entry)
        else:
            self._admit(evaluation)

    def _park(self, evaluation: Evaluation, delay_s: float) -> None:
        due_s = self._clock.monotonic_s() + delay_s
        heapq.heappush(self._parked, (due_s, evaluation.create_index, evaluation.id))

    def _admit(self, evaluation: Evaluation) -> None:
        """Make it ready, or have it wait for another one of its job."""
        holder = self._slots.setdefault(evaluation.job_key, evaluation.id)
        if holder == evaluation.id:
            self._make_ready(str(evaluation.type), evaluation)
        else:
            waiting = self._waiting.setdefault(evaluation.job_key, [])
            heapq.heappush(waiting, (evaluation.create_index, evaluation.id))

    def _make_ready(self, queue: str, evaluation: Evaluation) -> None:
        entry = (-evaluation.priority, evaluation.create_index, evaluation.id)
        heapq.heappush(self._ready.setdefault(queue, []), entry)

    # Going

    def dequeue(self, queues: Sequence[str] = QUEUES) -> Delivery | None:
        """Take the evaluation that is to be looked at next, `None` if there is none.

        Of several queues with something of the same priority, chance decides.
        """
        self._pass_time()
        heads = [
            (self._ready[name][0][0], name) for name in queues if self._ready.get(name)
        ]
        if not heads:
            return None
        highest = min(priority for priority, _ in heads)
        best = sorted(name for priority, name in heads if priority == highest)
        queue = best[int(self._ids.jitter() * len(best))]
        *_, eval_id = heapq.heappop(self._ready[queue])
        evaluation = self._evaluations[eval_id]
        delivery = Delivery(evaluation, self._ids.new_id())
        due_s = self._clock.monotonic_s() + NACK_TIMEOUT_S
        self._outstanding[eval_id] = _Outstanding(evaluation, delivery.token, due_s)
        self._delivery_counts[eval_id] = self._delivery_counts.get(eval_id, 0) + 1
        return delivery

    def ack(self, eval_id: str, token: str) -> None:
        """Let go of an evaluation that is done; the next one of its job has its turn.

        Raises `DeliveryError` if it is not in the hands of whoever has the token.
        """
        outstanding = self._take_back(eval_id, token)
        self._forget(outstanding.evaluation)
        if outstanding.requeued is not None:
            self.enqueue(outstanding.requeued)

    def _forget(self, evaluation: Evaluation) -> None:
        del self._evaluations[evaluation.id]
        self._delivery_counts.pop(evaluation.id, None)
        key = evaluation.job_key
        if self._slots.get(key) != evaluation.id:
            return
        del self._slots[key]
        waiting = self._waiting.get(key)
        if waiting:
            _, next_id = heapq.heappop(waiting)
            if not waiting:
                del self._waiting[key]
            self._admit(self._evaluations[next_id])

    def nack(self, eval_id: str, token: str) -> None:
        """Have an evaluation delivered again after a while, or not once too often.

        Its job's later ones keep waiting for it. Errors as for `ack`.
        """
        self._return(self._take_back(eval_id, token).evaluation)

    def _return(self, evaluation: Evaluation) -> None:
        count = self._delivery_counts.get(evaluation.id, 0)
        if count >= DELIVERIES_MAX:
            self._make_ready(FAILED_QUEUE, evaluation)
        elif count <= 1:
            self._park(evaluation, FIRST_DELAY_S)
        else:
            self._park(evaluation, LATER_DELAY_S * (count - 1))

    def _take_back(self, eval_id: str, token: str) -> _Outstanding:
        self._pass_time()
        outstanding = self._held(eval_id, token)
        del self._outstanding[eval_id]
        return outstanding

    def _held(self, eval_id: str, token: str) -> _Outstanding:
        outstanding = self._outstanding.get(eval_id)
        if outstanding is None:
            raise DeliveryError(NOT_FOUND)
        if outstanding.token != token:
            raise DeliveryError(TOKEN_MISMATCH)
        return outstanding

    # Being looked at

    def reset(self, eval_id: str, token: str) -> None:
        """Give whoever has it the whole time again. Errors as for `ack`."""
        self._pass_time()
        due_s = self._clock.monotonic_s() + NACK_TIMEOUT_S
        self._held(eval_id, token).due_s = due_s

    def pause(self, eval_id: str, token: str) -> None:
        """Let its time stand still until `reset`: others are at work on it."""
        self._pass_time()
        self._held(eval_id, token).due_s = None

    def take_superseded(self, job_key: JobKey) -> list[Evaluation]:
        """Take out what waits in vain: a later one of the job waits behind it.

        Whoever looks at a job looks at all of it, so that the newest alone is enough.
        One that was made for a time of its own is asked for by name, and stays.
        """
        waiting = self._waiting.get(job_key, [])
        taken = [
            entry
            for entry in sorted(waiting)[:-1]
            if self._evaluations[entry[1]].status == EVAL_PENDING
            and not self._evaluations[entry[1]].wait_until.ns
        ]
        if not taken:
            return []
        kept = [entry for entry in waiting if entry not in taken]
        heapq.heapify(kept)
        self._waiting[job_key] = kept
        return [self._evaluations.pop(eval_id) for _, eval_id in taken]

    # Time

    def seconds_until_due(self) -> float | None:
        """Return after how long time alone will change something, `None` for never."""
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        due = [
            one.due_s - now_s
            for one in self._outstanding.values()
            if one.due_s is not None
        ]
        if self._parked:
            due.append(self._parked[0][0] - now_s)
        if self._scheduled:
            due.append((self._scheduled[0][0] - now_ns) / NANOSECONDS)
        return max(0.0, min(due)) if due else None

    def _pass_time(self) -> None:
        """Let what came due since the last time happen."""
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        late = [
            one
            for one in self._outstanding.values()
            if one.due_s is not None and one.due_s <= now_s
        ]
        for outstanding in late:
            del self._outstanding[outstanding.evaluation.id]
            self._return(outstanding.evaluation)
        while self._parked and self._parked[0][0] <= now_s:
            *_, eval_id = heapq.heappop(self._parked)
            self._admit(self._evaluations[eval_id])
        while self._scheduled and self._scheduled[0][0] <= now_ns:
            *_, eval_id = heapq.heappop(self._scheduled)
            self._admit(self._evaluations[eval_id])
