from nodestate.agents import tasks
from nodestate.model.allocation import TASK_EVENTS_MAX, TaskEvent, TaskState
from nodestate.model.timestamp import Timestamp


def lines(task: TaskState) -> tuple[TaskEvent, ...]:
    assert task.events is not None
    return task.events


def types(task: TaskState) -> list[str]:
    return [line.type for line in lines(task)]


def test_a_task_that_ends_well_is_received_started_and_terminated():
    task = tasks.terminated(tasks.started(tasks.received(1), 2), 3, 0)

    assert types(task) == ["Received", "Started", "Terminated"]
    assert [line.time for line in lines(task)] == [1, 2, 3]
    assert task.is_successful
    assert (task.started_at, task.finished_at) == (Timestamp(2), Timestamp(3))


def test_a_restart_is_counted_and_says_when():
    task = tasks.terminated(tasks.started(tasks.received(1), 2), 3, 7)
    task = tasks.restarting(task, 3, 15_000_000_000)

    assert (task.state, task.restarts, task.last_restart) == (
        "pending",
        1,
        Timestamp(3),
    )
    assert lines(task)[-2].exit_code == 7
    assert lines(task)[-1].start_delay == 15_000_000_000
    assert lines(task)[-1].display_message == "Task restarting in 15s"


def test_what_fails_for_good_says_how_often_it_was_tried():
    tried = tasks.given_up(tasks.received(1), 2, 2)
    untried = tasks.given_up(tasks.received(1), 2, 0)

    assert tried.failed
    assert lines(tried)[-1].fails_task
    assert "Exceeded allowed attempts 2" in lines(tried)[-1].restart_reason
    assert lines(untried)[-1].restart_reason == "Policy allows no restarts"


def test_a_sibling_is_stopped_and_has_not_failed():
    task = tasks.sibling_failed(tasks.started(tasks.received(1), 2), 3, "db")

    assert types(task)[-2:] == ["Sibling Task Failed", "Killed"]
    assert task.state == "dead"
    assert not task.failed
    assert lines(task)[-2].failed_sibling == "db"


def test_a_stop_is_announced_and_then_done():
    task = tasks.killed(tasks.killing(tasks.received(1), 2), 3)

    assert types(task) == ["Received", "Killing", "Killed"]
    assert task.finished_at == Timestamp(3)


def test_the_newest_lines_are_kept():
    task = tasks.received(0)
    for at in range(1, 30):
        task = tasks.restarting(task, at, 0)

    assert len(lines(task)) == TASK_EVENTS_MAX
    assert lines(task)[-1].time == 29
