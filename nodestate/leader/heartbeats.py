"""Marks nodes down that are not heard of in time.

The timers live in the leader's memory alone. A new leader gives every node that is not
down a full fresh period, and so does one whose own process stood still: an election or a
pause says nothing about the nodes.
"""

import asyncio
import hmac
from dataclasses import dataclass
from itertools import islice
from typing import Final

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import NODES
from nodestate.leader.terms import LeaderTerm
from nodestate.leader.timers import TICK_S, NodeTimers
from nodestate.model.command import SERVER, MissHeartbeats, UpdateNodeStatus
from nodestate.model.node import Node, NodeKey, NodeStatus
from nodestate.model.outcome import (
    NODE_NOT_FOUND,
    NODE_SECRET_MISMATCH,
    Accepted,
    RefusalCode,
    Refused,
)
from nodestate.model.question import (
    Heartbeat,
    HeartbeatAnswer,
    NotAnswered,
    StartTimers,
    TimersAnswer,
)
from nodestate.planning.heartbeats import (
    HeartbeatRules,
    first_silence_s_max,
    silence_s_max,
    ttl_s,
)
from nodestate.ports import Counter

STANDSTILL_S_MAX: Final = 1.0
"""A process that did not look at its timers for longer has stood still."""
FOLLOW_S: Final = 1.0
"""How often, at most, the timers are compared with the nodes that there are."""
MISSED_BATCH_MAX: Final = 512
"""Nodes marked down by one entry of the log."""
LOGGED_KEYS_MAX: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatMetrics:
    """What is counted, over all terms."""

    received: Counter
    missed: Counter
    standstills: Counter


class Heartbeats:
    """The timers of one term; building it starts one for every node that is not down."""

    def __init__(self, term: LeaderTerm, metrics: HeartbeatMetrics) -> None:
        self._term = term
        self._metrics = metrics
        self._logger = term.logger
        self._rules = HeartbeatRules(
            ttl_s_min=term.config.heartbeat_ttl_s_min,
            per_second_max=term.config.heartbeats_per_second_max,
            grace_s=term.config.heartbeat_grace_s,
            failover_ttl_s=term.config.failover_heartbeat_ttl_s,
        )
        self._seen_s = term.clock.monotonic_s()
        self._seen_at_ns = term.clock.now_ns()
        self._timers = NodeTimers(self._seen_s)
        # Nodes whose time is up: found (one that has a timer again is dropped before it
        # is proposed), and proposed but not known to be decided.
        self._overdue: dict[NodeKey, None] = {}
        self._proposed: dict[NodeKey, None] = {}
        self._is_overdue = asyncio.Event()
        self._followed_index = -1
        self._followed_s = self._seen_s - FOLLOW_S
        self._follow_table()

    def timer_count(self) -> int:
        """Return how many nodes are expected to be heard of."""
        return len(self._timers)

    async def watch_timers(self) -> None:
        """Look at the timers for ever."""
        while True:
            await self._term.clock.sleep(TICK_S)
            self._notice_standstill()
            self._follow_table()
            for key in self._timers.take_due(self._seen_s):
                self._overdue[key] = None
            if self._overdue:
                self._is_overdue.set()

    async def propose_missed(self) -> None:
        """Have nodes marked down whose time is up, for ever, many in one entry."""
        failure_count = 0
        while True:
            await self._is_overdue.wait()
            # It may have been a while since they were found.
            self._notice_standstill()
            batch = self._take_batch()
            if not batch:
                self._is_overdue.clear()
                continue
            try:
                await self._propose_batch(batch)
            except (NoLeaderError, OutcomeUnknownError) as error:
                failure_count += 1
                if failure_count == 1:
                    self._logger.warning(
                        "missed heartbeats not written", error=str(error)
                    )
                self._overdue.update(dict.fromkeys(batch))
                await self._term.pause(failure_count)
            else:
                failure_count = 0

    async def heartbeat(self, question: Heartbeat) -> HeartbeatAnswer | NotAnswered:
        """Restart a node's timer; write only what changes its status."""
        self._notice_standstill()
        self._metrics.received.add()
        state = self._term.view.state()
        node = state.node(question.key)
        if node is None:
            return _refused(RefusalCode.NOT_FOUND, NODE_NOT_FOUND)
        secret = state.node_secrets.get(question.key, b"")
        if not hmac.compare_digest(secret, question.secret_sha256):
            return _refused(RefusalCode.FORBIDDEN, NODE_SECRET_MISMATCH)
        status = _wanted_status(node, question.status)
        is_unchanged = status is node.status and status is not NodeStatus.DOWN
        # One that may yet be marked down must be written ready after that.
        if is_unchanged and question.key not in self._proposed:
            accepted = Accepted(node_count=len(state.nodes))
            return HeartbeatAnswer(accepted, self._restart(question.key))
        return await self._write_status(question, status)

    def start_timers(self, question: StartTimers) -> TimersAnswer:
        """Start the timers of nodes that have just registered."""
        self._notice_standstill()
        return TimersAnswer(tuple(self._restart_if_up(key) for key in question.keys))

    async def _write_status(
        self, question: Heartbeat, status: NodeStatus
    ) -> HeartbeatAnswer | NotAnswered:
        command = UpdateNodeStatus(
            at_ns=question.at_ns,
            asked_by=question.asked_by,
            key=question.key,
            status=status,
            secret_sha256=question.secret_sha256,
            seed=question.seed,
        )
        try:
            outcome = await self._term.propose(command)
        except NoLeaderError as error:
            return NotAnswered(str(error), may_apply=False)
        except OutcomeUnknownError as error:
            return NotAnswered(str(error), may_apply=True)
        if isinstance(outcome, Refused):
            return HeartbeatAnswer(outcome, ttl_ns=0)
        # Whatever was proposed before stands before it in the log.
        self._proposed.pop(question.key, None)
        return HeartbeatAnswer(outcome, self._restart_if_up(question.key))

    async def _propose_batch(self, batch: list[NodeKey]) -> None:
        command = MissHeartbeats(
            at_ns=self._term.clock.now_ns(),
            asked_by=SERVER,
            keys=tuple(batch),
            seed=self._term.ids.new_seed(),
        )
        self._proposed.update(dict.fromkeys(batch))
        try:
            outcome = await self._term.propose(command)
        except NoLeaderError:
            self._forget_proposed(batch)
            raise
        self._forget_proposed(batch)
        if isinstance(outcome, Refused):
            self._logger.error("missed heartbeats refused", reason=outcome.reason)
            return
        self._metrics.missed.add(len(batch))
        self._logger.warning(
            "heartbeats missed",
            index=outcome.index,
            node_count=len(batch),
            first_nodes=batch[:LOGGED_KEYS_MAX],
        )

    def _forget_proposed(self, batch: list[NodeKey]) -> None:
        for key in batch:
            self._proposed.pop(key, None)

    def _take_batch(self) -> list[NodeKey]:
        """Take out of the overdue nodes those to propose next, by what is true now."""
        taken = list(islice(self._overdue, MISSED_BATCH_MAX))
        for key in taken:
            del self._overdue[key]
        return [key for key in taken if key not in self._timers and self._is_up(key)]

    def _is_up(self, key: NodeKey) -> bool:
        node = self._term.view.state().node(key)
        return node is not None and node.status is not NodeStatus.DOWN

    def _restart_if_up(self, key: NodeKey) -> int:
        """Return the TTL of a node in ns: 0, and no timer, if it is down or gone."""
        if self._is_up(key):
            return self._restart(key)
        self._timers.stop(key)
        return 0

    def _restart(self, key: NodeKey) -> int:
        ttl = ttl_s(len(self._timers), self._rules, jitter=self._term.ids.jitter())
        silence_s = silence_s_max(ttl, self._rules)
        self._timers.start(key, self._term.clock.monotonic_s() + silence_s)
        return round(ttl * 1e9)

    def _fresh_period_s(self) -> float:
        """Return what is long enough for a node of which nothing is known.

        At least the longest TTL that an earlier leader can have given to it.
        """
        node_count = len(self._term.view.state().nodes)
        longest = silence_s_max(ttl_s(node_count, self._rules, jitter=1.0), self._rules)
        return max(first_silence_s_max(self._rules), longest)

    def _notice_standstill(self) -> None:
        """Give every node a fresh period if this process stood still until now.

        Then the heartbeats of meanwhile wait in the sockets, or their senders have given
        up for a while. The monotonic clock stands while a machine sleeps, so that both
        clocks are asked. Whoever looks at timers calls this before.
        """
        now_s, now_ns = self._term.clock.monotonic_s(), self._term.clock.now_ns()
        gap_s = max(now_s - self._seen_s, (now_ns - self._seen_at_ns) / 1e9)
        self._seen_s, self._seen_at_ns = now_s, now_ns
        if gap_s <= STANDSTILL_S_MAX:
            return
        due_s = now_s + self._fresh_period_s()
        overdue = [key for key in self._overdue if key not in self._timers]
        self._timers.start_many(overdue, due_s)
        self._overdue.clear()
        self._timers.put_off(due_s)
        self._metrics.standstills.add()
        self._logger.warning(
            "process stood still, every node has a fresh period",
            gap_s=round(gap_s, 3),
            timer_count=len(self._timers),
        )

    def _follow_table(self) -> None:
        """Let nodes have timers, or none, whose registration or purge nobody told us."""
        state = self._term.view.state()
        index = state.table_index(NODES)
        if index == self._followed_index or self._seen_s < self._followed_s + FOLLOW_S:
            return
        self._followed_index, self._followed_s = index, self._seen_s
        # Views of dictionaries: this goes through every node there is.
        nodes, timed = state.nodes, self._timers.keys()
        for key in [key for key in timed if key not in nodes]:
            self._timers.stop(key)
        untimed = [key for key in nodes if key not in timed]
        fresh = [
            key
            for key in untimed
            if nodes[key].status is not NodeStatus.DOWN
            and key not in self._overdue
            and key not in self._proposed
        ]
        self._timers.start_many(fresh, self._seen_s + self._fresh_period_s())


def _wanted_status(node: Node, asked: NodeStatus | None) -> NodeStatus:
    """Keep the status unless another is asked for; who is heard of is not down."""
    if asked is not None:
        return asked
    return NodeStatus.READY if node.status is NodeStatus.DOWN else node.status


def _refused(code: RefusalCode, reason: str) -> HeartbeatAnswer:
    return HeartbeatAnswer(Refused(code, reason), ttl_ns=0)
