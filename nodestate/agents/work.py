"""The task machine: one allocation on its node, from received to over.

It is told what the servers say and what time it is; it says when it wants to be told the
time again, and what is to be reported. Every step has the time at which it was due, and
not the one at which somebody came to look: a machine that is looked at rarely goes
through the same steps as one that is looked at all the time.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from nodestate.agents import tasks
from nodestate.agents.assignments import Assignment, Report
from nodestate.agents.fates import (
    Behaviour,
    Fate,
    Origin,
    draw_fate,
    draw_kill_ns,
)
from nodestate.agents.tasks import DEAD
from nodestate.model.allocation import (
    COMPLETE,
    FAILED,
    LOST,
    PENDING,
    RUNNING,
    DeploymentStatus,
    TaskState,
)
from nodestate.model.timestamp import Timestamp

DESCRIPTIONS: Final = {
    PENDING: "No tasks have started",
    RUNNING: "Tasks are running",
    COMPLETE: "All tasks have completed",
    FAILED: "Failed tasks",
}
_DELAY_MODE: Final = "delay"


class Phase(StrEnum):
    """Where an allocation is on its node."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    OVER = "over"


class TaskMachine:
    """An allocation on its node. All times are Unix nanoseconds.

    It begins where the servers say that the allocation is, so that a node that has
    forgotten everything goes on with what it had.
    """

    def __init__(
        self, assignment: Assignment, behaviour: Behaviour, seed: str, now_ns: int
    ) -> None:
        self._assignment = assignment
        self._health_ns = assignment.health_ns
        self._behaviour = behaviour
        self._origin = Origin(seed, assignment.node_id, assignment.id)
        self._phase_due_ns: int | None = None
        self._tasks: dict[str, TaskState] = dict(assignment.task_states or {})
        self._health = assignment.deployment_status
        self._received_ns = now_ns
        self._running_since_ns = 0
        self._interval_began_ns = 0
        self._interval_restarts = 0
        self._revision = 0
        self._reported_revision = 0
        self.phase = Phase.STARTING
        self.client_status = assignment.client_status
        self._take_up(now_ns)
        self.see(assignment, now_ns)

    @property
    def due_at_ns(self) -> int | None:
        """Return when something happens by itself next, `None` if nothing will."""
        due = (self._phase_due_ns, self._health_due_ns())
        return min((one for one in due if one is not None), default=None)

    @property
    def is_over(self) -> bool:
        """Say whether nothing of it is left on the node."""
        return self.phase is Phase.OVER

    @property
    def is_unreported(self) -> bool:
        """Say whether the servers have yet to be told something."""
        return self._revision != self._reported_revision

    def see(self, assignment: Assignment, now_ns: int) -> None:
        """Take down what the servers say now; stop what they no longer want."""
        self._assignment = assignment
        self._health_ns = assignment.health_ns
        if self.phase is Phase.OVER:
            # It was given up while nobody heard of it, and has ended otherwise.
            self._revision += assignment.client_status == LOST
            return
        if assignment.is_wanted or self.phase is Phase.STOPPING:
            return
        is_started = self.phase is Phase.RUNNING
        kill_ns = draw_kill_ns(self._behaviour, self._origin) if is_started else 0
        self._change_tasks(lambda task: tasks.killing(task, now_ns))
        self._enter(Phase.STOPPING, now_ns + kill_ns)

    def advance(self, now_ns: int) -> None:
        """Go through every step that is due by now, each at its own time."""
        while True:
            due_ns = self.due_at_ns
            if due_ns is None or due_ns > now_ns:
                return
            if due_ns == self._phase_due_ns:
                self._step(due_ns)
            else:
                self._judge_health(due_ns)

    def report(self) -> tuple[Report, int]:
        """Return what to tell the servers, and the number to confirm it by."""
        report = Report(
            id=self._assignment.id,
            node_id=self._assignment.node_id,
            client_status=self.client_status,
            client_description=DESCRIPTIONS[self.client_status],
            task_states=self._tasks,
            deployment_status=self._health,
        )
        return report, self._revision

    def confirm(self, revision: int) -> None:
        """Note that the servers have been told as much."""
        self._reported_revision = max(self._reported_revision, revision)

    # Where it begins

    def _take_up(self, now_ns: int) -> None:
        if self._assignment.client_status in {COMPLETE, FAILED}:
            self._enter(Phase.OVER, None, self._assignment.client_status)
            return
        states = {task.state for task in self._tasks.values()}
        if not states:
            self._tasks = {
                name: tasks.received(now_ns) for name in self._assignment.task_names
            }
            self._revision += 1
        if states == {DEAD} or PENDING in states or not states:
            due_ns = now_ns + self._fate().start_ns
            self._enter(Phase.STARTING, due_ns, self._status_of_all())
            return
        self._running_since_ns = max(
            task.started_at.ns for task in self._tasks.values()
        )
        self._interval_began_ns = self._running_since_ns
        self._interval_restarts = self._life()
        self._enter(Phase.RUNNING, self._end_of_life(), RUNNING)

    # Steps

    def _step(self, at_ns: int) -> None:
        match self.phase:
            case Phase.STARTING | Phase.RESTARTING:
                self._start(at_ns)
            case Phase.RUNNING:
                self._end(at_ns, self._fate())
            case Phase.STOPPING:
                self._stop(at_ns)
            case Phase.OVER:
                raise AssertionError("nothing is due after the end")
        self._revision += 1

    def _start(self, at_ns: int) -> None:
        self._running_since_ns = at_ns
        self._change_tasks(
            lambda task: task if task.state == RUNNING else tasks.started(task, at_ns)
        )
        self._enter(Phase.RUNNING, self._end_of_life(), RUNNING)

    def _end(self, at_ns: int, fate: Fate) -> None:
        if fate.exit_code == 0:
            self._change_tasks(lambda task: tasks.terminated(task, at_ns, 0))
            self._enter(Phase.OVER, None, COMPLETE)
            return
        names = sorted(self._tasks)
        name = names[fate.task_number % len(names)]
        self._tasks = {
            **self._tasks,
            name: tasks.terminated(self._tasks[name], at_ns, fate.exit_code),
        }
        restart_at_ns = self._restart_at_ns(at_ns)
        if restart_at_ns is None:
            self._fail(at_ns, name)
            return
        delay_ns = restart_at_ns - at_ns
        self._tasks[name] = tasks.restarting(self._tasks[name], at_ns, delay_ns)
        start_ns = self._fate().start_ns
        self._enter(Phase.RESTARTING, restart_at_ns + start_ns, self._status_of_all())

    def _restart_at_ns(self, at_ns: int) -> int | None:
        """Return when the policy has a failed task started again, `None` for never."""
        policy = self._assignment.restart_policy
        interval_ns = self._behaviour.scaled_ns(policy.interval)
        interval_ends_ns = self._interval_began_ns + interval_ns
        if self._interval_restarts == 0 or at_ns >= interval_ends_ns:
            self._interval_began_ns, self._interval_restarts = at_ns, 0
            interval_ends_ns = at_ns + interval_ns
        self._interval_restarts += 1
        if self._interval_restarts <= policy.attempts:
            return at_ns + self._behaviour.scaled_ns(policy.delay)
        if policy.mode == _DELAY_MODE:
            return max(interval_ends_ns, at_ns)
        return None

    def _fail(self, at_ns: int, name: str) -> None:
        attempts = self._assignment.restart_policy.attempts
        self._tasks = {
            other: tasks.given_up(task, at_ns, attempts)
            if other == name
            else tasks.sibling_failed(task, at_ns, name)
            for other, task in self._tasks.items()
        }
        if self._is_health_open():
            self._set_health(at_ns, is_healthy=False)
        self._enter(Phase.OVER, None, FAILED)

    def _stop(self, at_ns: int) -> None:
        self._change_tasks(lambda task: tasks.killed(task, at_ns))
        self._enter(Phase.OVER, None, COMPLETE)

    # Health

    def _is_health_open(self) -> bool:
        is_judged = self._health is not None and self._health.healthy is not None
        return not is_judged and self._health_ns is not None

    def _health_due_ns(self) -> int | None:
        """Return when it is known: running without a break for long enough, or too late."""
        limits_ns = self._health_ns
        if limits_ns is None or not self._is_health_open():
            return None
        if self.phase is Phase.STOPPING or self.phase is Phase.OVER:
            return None
        healthy_ns, deadline_ns = limits_ns
        scaled_ns = self._behaviour.scaled_ns
        if self._behaviour.healthy_after_ns is not None:
            healthy_ns = self._behaviour.healthy_after_ns
        latest_ns = self._received_ns + scaled_ns(deadline_ns)
        if self.phase is Phase.RUNNING:
            return min(self._running_since_ns + scaled_ns(healthy_ns), latest_ns)
        return latest_ns

    def _judge_health(self, at_ns: int) -> None:
        limits_ns = self._health_ns
        assert limits_ns is not None
        deadline_ns = self._behaviour.scaled_ns(limits_ns[1])
        is_late = at_ns >= self._received_ns + deadline_ns
        self._set_health(at_ns, is_healthy=not is_late)
        self._revision += 1

    def _set_health(self, at_ns: int, *, is_healthy: bool) -> None:
        self._health = DeploymentStatus(healthy=is_healthy, timestamp=Timestamp(at_ns))

    # Parts

    def _fate(self) -> Fate:
        return draw_fate(
            self._behaviour,
            self._origin,
            life=self._life(),
            is_batch=self._assignment.is_batch,
        )

    def _life(self) -> int:
        return sum(task.restarts for task in self._tasks.values())

    def _end_of_life(self) -> int | None:
        ends_after_ns = self._fate().ends_after_ns
        return None if ends_after_ns is None else self._running_since_ns + ends_after_ns

    def _status_of_all(self) -> str:
        is_any_running = any(task.state == RUNNING for task in self._tasks.values())
        return RUNNING if is_any_running else PENDING

    def _change_tasks(self, change: Callable[[TaskState], TaskState]) -> None:
        """Change those that are not dead already."""
        self._tasks = {
            name: task if task.state == DEAD else change(task)
            for name, task in self._tasks.items()
        }

    def _enter(self, phase: Phase, due_ns: int | None, client_status: str = "") -> None:
        self.phase = phase
        self._phase_due_ns = due_ns
        self.client_status = client_status or self.client_status
