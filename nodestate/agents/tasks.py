"""How a task does, step by step: its state, and the line that each step adds to it."""

from typing import Final

from msgspec.structs import replace

from nodestate.model.allocation import (
    PENDING,
    RUNNING,
    TASK_EVENTS_MAX,
    TaskEvent,
    TaskState,
)
from nodestate.model.timestamp import Timestamp

DEAD: Final = "dead"

RECEIVED: Final = "Received"
STARTED: Final = "Started"
TERMINATED: Final = "Terminated"
RESTARTING: Final = "Restarting"
NOT_RESTARTING: Final = "Not Restarting"
KILLING: Final = "Killing"
KILLED: Final = "Killed"
SIBLING_FAILED: Final = "Sibling Task Failed"

_WITHIN_POLICY: Final = "Restart within policy"
_POLICY_FAILS: Final = "Policy allows no restarts"
_USED_UP: Final = "Exceeded allowed attempts"


def received(at_ns: int) -> TaskState:
    """Return a task that its node has just heard of."""
    line = TaskEvent(
        type=RECEIVED, time=at_ns, display_message="Task received by client"
    )
    return TaskState(state=PENDING, events=(line,))


def started(task: TaskState, at_ns: int) -> TaskState:
    """Return the task as it runs."""
    line = TaskEvent(type=STARTED, time=at_ns, display_message="Task started by client")
    return replace(
        task, state=RUNNING, started_at=Timestamp(at_ns), events=_with(task, line)
    )


def terminated(task: TaskState, at_ns: int, exit_code: int) -> TaskState:
    """Return the task with its process gone; it is dead unless it is started again."""
    line = TaskEvent(
        type=TERMINATED,
        time=at_ns,
        exit_code=exit_code,
        display_message=f"Exit Code: {exit_code}",
        details={"exit_code": str(exit_code), "signal": "0"},
    )
    return replace(
        task, state=DEAD, finished_at=Timestamp(at_ns), events=_with(task, line)
    )


def restarting(task: TaskState, at_ns: int, delay_ns: int) -> TaskState:
    """Return the task as it waits to be started again."""
    line = TaskEvent(
        type=RESTARTING,
        time=at_ns,
        restart_reason=_WITHIN_POLICY,
        start_delay=delay_ns,
        display_message=f"Task restarting in {delay_ns / 1e9:g}s",
    )
    return replace(
        task,
        state=PENDING,
        restarts=task.restarts + 1,
        last_restart=Timestamp(at_ns),
        events=_with(task, line),
    )


def given_up(task: TaskState, at_ns: int, attempts: int) -> TaskState:
    """Return the task that has failed for good."""
    reason = _USED_UP if attempts else _POLICY_FAILS
    if attempts:
        reason = f'{reason} {attempts} in interval and mode is "fail"'
    line = TaskEvent(
        type=NOT_RESTARTING,
        time=at_ns,
        fails_task=True,
        restart_reason=reason,
        display_message=reason,
    )
    return replace(task, state=DEAD, failed=True, events=_with(task, line))


def sibling_failed(task: TaskState, at_ns: int, sibling: str) -> TaskState:
    """Return the task as it is stopped because another one of its group has failed."""
    line = TaskEvent(
        type=SIBLING_FAILED,
        time=at_ns,
        failed_sibling=sibling,
        display_message=f'Task\'s sibling "{sibling}" failed',
    )
    return killed(replace(task, events=_with(task, line)), at_ns)


def killing(task: TaskState, at_ns: int) -> TaskState:
    """Return the task as it is told to stop."""
    line = TaskEvent(type=KILLING, time=at_ns, display_message="Sent interrupt")
    return replace(task, events=_with(task, line))


def killed(task: TaskState, at_ns: int) -> TaskState:
    """Return the task as it has been stopped."""
    line = TaskEvent(
        type=KILLED, time=at_ns, display_message="Task successfully killed"
    )
    return replace(
        task, state=DEAD, finished_at=Timestamp(at_ns), events=_with(task, line)
    )


def _with(task: TaskState, line: TaskEvent) -> tuple[TaskEvent, ...]:
    return (*(task.events or ()), line)[-TASK_EVENTS_MAX:]
