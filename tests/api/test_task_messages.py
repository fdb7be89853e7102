"""The texts of tasks' histories, where an agent has left them out."""

import pytest

from nodestate.api.task_messages import display_message, with_messages
from nodestate.model.allocation import TaskEvent, TaskState
from tests.conformance.rows import case

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("event", "text"),
    [
        case("A5", TaskEvent(type="Started"), "Task started by client"),
        (TaskEvent(type="Received"), "Task received by client"),
        (
            TaskEvent(type="Task Setup", message="Building Task Directory"),
            "Building Task Directory",
        ),
        (TaskEvent(type="of a later version", message="as it is"), "as it is"),
        (TaskEvent(type="Driver Failure"), "Failed to start task"),
        (TaskEvent(type="Driver Failure", driver_error="no exec"), "no exec"),
        (TaskEvent(type="Killing"), "Sent interrupt"),
        (
            TaskEvent(type="Killing", kill_timeout=5 * SECOND_NS),
            "Sent interrupt. Waiting 5s before force killing",
        ),
        (TaskEvent(type="Killing", kill_reason="too old"), "too old"),
        (TaskEvent(type="Terminated"), "Exit Code: 0"),
        (
            TaskEvent(type="Terminated", exit_code=1, signal=9, message='so "it" went'),
            'Exit Code: 1, Signal: 9, Exit Message: "so \\"it\\" went"',
        ),
        (
            TaskEvent(
                type="Restarting",
                start_delay=15 * SECOND_NS,
                restart_reason="Restart within policy",
            ),
            "Task restarting in 15s",
        ),
        (
            TaskEvent(
                type="Restarting", start_delay=SECOND_NS, restart_reason="crashed"
            ),
            "crashed - Task restarting in 1s",
        ),
        (TaskEvent(type="Sibling Task Failed"), "Task's sibling failed"),
        (
            TaskEvent(type="Sibling Task Failed", failed_sibling="db"),
            'Task\'s sibling "db" failed',
        ),
        (TaskEvent(type="Signaling"), "Task being sent a signal"),
        (TaskEvent(type="Signaling", task_signal_reason="asked"), "asked"),
        (
            TaskEvent(type="Signaling", task_signal="SIGHUP"),
            "Task being sent signal SIGHUP",
        ),
        (
            TaskEvent(
                type="Signaling", task_signal="SIGHUP", task_signal_reason="asked"
            ),
            "Task being sent signal SIGHUP: asked",
        ),
    ],
)
def test_a_line_says_what_it_is_about(event, text):
    assert display_message(event) == text


def test_what_the_agent_has_said_stays():
    event = TaskEvent(type="Started", display_message="up")
    state = TaskState(state="running", events=(event,))

    assert with_messages({"web": state}) == {"web": state}


def test_each_line_without_a_text_is_given_one():
    said = TaskEvent(type="Received", display_message="got it")
    state = TaskState(state="running", events=(said, TaskEvent(type="Started")))

    shown = with_messages({"web": state, "idle": TaskState()})

    assert shown is not None
    assert [event.display_message for event in shown["web"].events or ()] == [
        "got it",
        "Task started by client",
    ]
    assert shown["idle"] == TaskState()


@pytest.mark.parametrize("states", [None, {}])
def test_no_tasks_are_none(states):
    assert with_messages(states) is None
