"""Starts the leader's services when this server is ready to lead, and ends them after."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig
from nodestate.leader.acl_expiry import TokenExpiry
from nodestate.leader.drainer import Drainer
from nodestate.leader.garbage import GarbageCollector
from nodestate.leader.heartbeats import HeartbeatMetrics, Heartbeats
from nodestate.leader.resets import ResetFile, no_file
from nodestate.leader.scheduler import WORKERS, Scheduler, SchedulerMetrics
from nodestate.leader.terms import LeaderTerm
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.question import (
    Answer,
    CollectNow,
    Heartbeat,
    NotAnswered,
    Question,
    ReadResetFile,
    StartTimers,
)
from nodestate.ports import Leadership, Metrics, Proposer, StateView
from nodestate.watch import Watch

NOT_LEADER: Final = "failed to reset heartbeat since server is not leader"

# mypy knows no type of which a union is a value.
_QUESTION: Final[msgspec.msgpack.Decoder[Question]] = msgpack_decoder(Question)  # type: ignore[arg-type]


class LeaderServices:
    """The services of one server, running or not."""

    def __init__(  # noqa: PLR0913  handed everything at once, and hands it on
        self,
        *,
        config: ServerConfig,
        proposer: Proposer,
        view: StateView,
        leadership: Leadership,
        watch: Watch,
        clock: Clock,
        ids: IdSource,
        metrics: Metrics,
        logger: FilteringBoundLogger,
        read_file: Callable[[str], bytes | None] = no_file,
    ) -> None:
        """Use `read_file` for what an operator puts into the data directory."""
        self._config = config
        self._reset_file = ResetFile(read_file)
        self._proposer = proposer
        self._view = view
        self._leadership = leadership
        self._watch = watch
        self._clock = clock
        self._ids = ids
        self._logger = logger
        self._term: LeaderTerm | None = None
        self._heartbeats: Heartbeats | None = None
        self._is_changed = asyncio.Event()
        self._heartbeat_metrics = HeartbeatMetrics(
            received=metrics.counter(
                "nodestate_leader_heartbeats_received_total", "Heartbeats of nodes."
            ),
            missed=metrics.counter(
                "nodestate_leader_heartbeats_missed_total",
                "Nodes marked down because they were not heard of in time.",
            ),
            standstills=metrics.counter(
                "nodestate_leader_standstills_total",
                "Times this process stood still, and gave every node a fresh period.",
            ),
        )
        self._drain_marks = metrics.counter(
            "nodestate_leader_drain_marks_total",
            "Allocations that were to be moved off nodes that drain.",
        )
        self._drains_completed = metrics.counter(
            "nodestate_leader_drains_completed_total", "Drains that were ended."
        )
        self._collector: GarbageCollector | None = None
        self._garbage_passes = metrics.counter(
            "nodestate_leader_garbage_passes_total",
            "Times that what is over and old enough was looked for.",
        )
        self._collected = metrics.counter(
            "nodestate_leader_garbage_collected_total",
            "Records that were over and have been removed, by what they are.",
            "kind",
        )
        self._expired_tokens = metrics.counter(
            "nodestate_leader_tokens_expired_total",
            "Tokens that were removed because their time was over.",
        )
        self._scheduler: Scheduler | None = None
        self._scheduler_metrics = SchedulerMetrics(
            evaluations=metrics.counter(
                "nodestate_leader_evaluations_total",
                "Times an evaluation was looked at, by what became of it.",
                "status",
            ),
            plans=metrics.counter(
                "nodestate_leader_plans_total", "Plans that were proposed and accepted."
            ),
            conflicts=metrics.counter(
                "nodestate_leader_plan_conflicts_total",
                "Nodes that took nothing of a plan, because of what came before it.",
            ),
        )
        metrics.gauge(
            "nodestate_leader_evaluations_open",
            "Evaluations that a scheduler has to look at; 0 on a server that does not lead.",
            self._evaluation_count,
        )
        metrics.gauge(
            "nodestate_leader_evaluations_blocked",
            "Evaluations that wait for room; 0 on a server that does not lead.",
            self._blocked_count,
        )
        metrics.gauge(
            "nodestate_leader_heartbeats_expected",
            "Nodes that have a heartbeat timer; 0 on a server that does not lead.",
            self._timer_count,
        )

    async def run(self) -> None:
        """Serve one term of leadership after the other, for ever."""
        self._leadership.on_change(self._is_changed.set)
        while True:
            self._is_changed.clear()
            if self._leadership.is_ready_to_lead():
                await self._serve(self._leadership.status().term)
            else:
                await self._is_changed.wait()

    async def answer(self, question: bytes) -> bytes:
        """Answer what another server, or this one, asks the leader."""
        return MSGPACK.encode(await self._answer(question))

    async def _answer(self, question: bytes) -> Answer:
        try:
            asked = _QUESTION.decode(question)
        except msgspec.DecodeError as error:
            return NotAnswered(f"no such question: {error}", may_apply=False)
        heartbeats, collector = self._heartbeats, self._collector
        if heartbeats is None or collector is None or not self._is_term_on():
            return NotAnswered(NOT_LEADER, may_apply=False)
        match asked:
            case Heartbeat():
                return await heartbeats.heartbeat(asked)
            case StartTimers():
                return heartbeats.start_timers(asked)
            case CollectNow():
                return await collector.collect_now(asked)
            case ReadResetFile():
                return self._reset_file.answer()

    async def _serve(self, number: int) -> None:
        """Run the services until the term is over; then none of their tasks is left."""
        term = self._term = LeaderTerm(
            number=number,
            config=self._config,
            proposer=self._proposer,
            view=self._view,
            watch=self._watch,
            clock=self._clock,
            ids=self._ids,
            logger=self._logger.bind(term=number),
        )
        heartbeats = self._heartbeats = Heartbeats(term, self._heartbeat_metrics)
        scheduler = self._scheduler = Scheduler(term, self._scheduler_metrics)
        collector = self._collector = GarbageCollector(
            term, self._garbage_passes, self._collected
        )
        expiry = TokenExpiry(term, self._expired_tokens)
        drainer = Drainer(term, self._drain_marks, self._drains_completed)
        term.logger.info("leader services started", timers=heartbeats.timer_count())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(heartbeats.watch_timers(), name="timers"),
                    group.create_task(heartbeats.propose_missed(), name="missed"),
                    group.create_task(drainer.run(), name="drainer"),
                    group.create_task(collector.run(), name="garbage"),
                    group.create_task(expiry.run(), name="expiry"),
                    group.create_task(scheduler.follow(), name="evaluations"),
                    *(
                        group.create_task(scheduler.work(), name=f"scheduler-{number}")
                        for number in range(WORKERS)
                    ),
                ]
                await self._wait_until_over()
                for task in tasks:
                    task.cancel()
        finally:
            self._term = self._heartbeats = self._scheduler = self._collector = None
        term.logger.info("leader services stopped")

    async def _wait_until_over(self) -> None:
        while self._is_term_on():
            self._is_changed.clear()
            await self._is_changed.wait()

    def _is_term_on(self) -> bool:
        leadership = self._leadership
        is_same = (
            self._term is not None and leadership.status().term == self._term.number
        )
        return is_same and leadership.is_ready_to_lead()

    def _evaluation_count(self) -> int:
        return self._scheduler.evaluation_count() if self._scheduler is not None else 0

    def _blocked_count(self) -> int:
        return self._scheduler.blocked_count() if self._scheduler is not None else 0

    def _timer_count(self) -> int:
        return self._heartbeats.timer_count() if self._heartbeats is not None else 0
