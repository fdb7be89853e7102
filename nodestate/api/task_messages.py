"""What a line of a task's history says to people, in Nomad's words.

An agent may leave the text out; it is then made of what the line is about whenever the
allocation is shown.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from nodestate.model.allocation import TaskEvent, TaskState
from nodestate.model.duration import format_duration

_WITHIN_POLICY: Final = "Restart within policy"


def with_messages(
    states: Mapping[str, TaskState] | None,
) -> dict[str, TaskState] | None:
    """Return the states of an allocation's tasks with a text in each of their lines."""
    if not states:
        return None
    return {name: _with_messages(state) for name, state in states.items()}


def _with_messages(state: TaskState) -> TaskState:
    events = state.events
    if not events or all(event.display_message for event in events):
        return state
    return replace(
        state,
        events=tuple(
            event
            if event.display_message
            else replace(event, display_message=display_message(event))
            for event in events
        ),
    )


def display_message(event: TaskEvent) -> str:
    """Return the text of a line; of a type that is not known the agent's message."""
    describe = _DESCRIPTIONS.get(event.type)
    return event.message if describe is None else describe(event)


def _killing(event: TaskEvent) -> str:
    if event.kill_reason:
        return event.kill_reason
    if event.kill_timeout:
        wait = format_duration(event.kill_timeout)
        return f"Sent interrupt. Waiting {wait} before force killing"
    return "Sent interrupt"


def _terminated(event: TaskEvent) -> str:
    parts = [f"Exit Code: {event.exit_code}"]
    if event.signal:
        parts.append(f"Signal: {event.signal}")
    if event.message:
        parts.append(f"Exit Message: {_quoted(event.message)}")
    return ", ".join(parts)


def _restarting(event: TaskEvent) -> str:
    text = f"Task restarting in {format_duration(event.start_delay)}"
    if event.restart_reason in {"", _WITHIN_POLICY}:
        return text
    return f"{event.restart_reason} - {text}"


def _sibling_failed(event: TaskEvent) -> str:
    if event.failed_sibling:
        return f"Task's sibling {_quoted(event.failed_sibling)} failed"
    return "Task's sibling failed"


def _signaling(event: TaskEvent) -> str:
    signal, reason = event.task_signal, event.task_signal_reason
    if not signal:
        return reason or "Task being sent a signal"
    text = f"Task being sent signal {signal}"
    return f"{text}: {reason}" if reason else text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_DESCRIPTIONS: Final[dict[str, Callable[[TaskEvent], str]]] = {
    "Received": lambda _: "Task received by client",
    "Started": lambda _: "Task started by client",
    "Failed Validation": lambda event: (
        event.validation_error or "Validation of task failed"
    ),
    "Setup Failure": lambda event: event.setup_error or "Task setup failed",
    "Driver Failure": lambda event: event.driver_error or "Failed to start task",
    "Downloading Artifacts": lambda _: "Client is downloading artifacts",
    "Failed Artifact Download": lambda event: (
        event.download_error or "Failed to download artifacts"
    ),
    "Killing": _killing,
    "Killed": lambda event: event.kill_error or "Task successfully killed",
    "Terminated": _terminated,
    "Restarting": _restarting,
    "Not Restarting": lambda event: (
        event.restart_reason or "Task exceeded restart policy"
    ),
    "Restart Signaled": lambda event: (
        event.restart_reason or "Task signaled to restart"
    ),
    "Signaling": _signaling,
    "Sibling Task Failed": _sibling_failed,
    "Driver": lambda event: event.driver_message,
    "Leader Task Dead": lambda _: "Leader Task in Group dead",
}
