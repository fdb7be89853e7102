"""Which evaluation is next; ids of cases are the specification's."""

from typing import Any

import pytest

from nodestate.leader.broker import (
    DELIVERIES_MAX,
    FAILED_QUEUE,
    FIRST_DELAY_S,
    LATER_DELAY_S,
    NACK_TIMEOUT_S,
    Delivery,
    DeliveryError,
    EvaluationBroker,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import JobKey, JobType
from nodestate.model.timestamp import Timestamp
from tests.fakes import FakeClock, SequentialIds

SECOND_NS = 1_000_000_000


class Desk:
    """A broker, and who takes from it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ids = SequentialIds(jitter_value=0.0)
        self.broker = EvaluationBroker(self.clock, self.ids)
        self._count = 0

    def put(self, id_: str, job_id: str = "", **fields: Any) -> Evaluation:
        self._count += 1
        known: dict[str, Any] = {
            "id": id_,
            "job_id": job_id or id_,
            "create_index": self._count,
        }
        evaluation = Evaluation(**(known | fields))
        self.broker.enqueue(evaluation)
        return evaluation

    def take(self, *queues: str) -> Delivery:
        delivery = self.broker.dequeue(*([queues] if queues else []))
        assert delivery is not None
        return delivery

    def take_ids(self) -> list[str]:
        """Take all that can be taken."""
        taken = []
        while (delivery := self.broker.dequeue()) is not None:
            taken.append(delivery.evaluation.id)
        return taken

    def is_empty(self) -> bool:
        return self.broker.ready_count() == 0 and self.broker.dequeue() is None

    def nack(self, delivery: Delivery) -> None:
        self.broker.nack(delivery.evaluation.id, delivery.token)

    def ack(self, delivery: Delivery) -> None:
        self.broker.ack(delivery.evaluation.id, delivery.token)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.row("BR1")
def test_what_is_done_is_forgotten(desk):
    """BR1."""
    desk.put("e")
    first = desk.take()
    desk.nack(first)
    desk.clock.pause(FIRST_DELAY_S)
    second = desk.take()

    desk.ack(second)

    assert first.token != second.token
    assert len(desk.broker) == 0
    assert desk.broker.seconds_until_due() is None


@pytest.mark.row("BR2")
def test_what_was_in_vain_comes_again_later_and_later(desk):
    """BR2."""
    desk.put("e")
    for delay_s in (FIRST_DELAY_S, LATER_DELAY_S):
        desk.nack(desk.take())
        assert desk.broker.seconds_until_due() == delay_s
        desk.clock.pause(delay_s - 0.01)
        assert desk.is_empty()
        desk.clock.pause(0.01)
    assert desk.take().evaluation.id == "e"


@pytest.mark.row("BR3")
def test_a_job_has_one_at_a_time(desk):
    """BR3."""
    for number in (1, 2, 3):
        desk.put(f"a{number}", "job", namespace="one")
    for number in (1, 2):
        desk.put(f"b{number}", "job", namespace="two")
    assert desk.broker.ready_count() == 2

    a1, b1 = desk.take(), desk.take()
    assert [a1.evaluation.id, b1.evaluation.id] == ["a1", "b1"]
    assert desk.is_empty()
    for done, expected in ((a1, "a2"), (b1, "b2")):
        desk.ack(done)
        assert desk.broker.ready_count() == 1
        assert desk.take().evaluation.id == expected


def test_the_oldest_of_a_job_is_next_whatever_its_priority(desk):
    desk.put("first", "job")
    desk.put("third", "job", create_index=9, priority=90)
    desk.put("second", "job", create_index=8, priority=10)

    desk.ack(desk.take())

    assert desk.take().evaluation.id == "second"


@pytest.mark.row("BR7")
def test_the_highest_priority_is_first(desk):
    """BR7."""
    for priority in (10, 30, 20):
        desk.put(str(priority), priority=priority)

    assert desk.take_ids() == ["30", "20", "10"]


@pytest.mark.row("BR8")
def test_the_oldest_of_a_priority_is_first(desk):
    """BR8."""
    ids = [f"{number:03}" for number in range(100)]
    for id_ in ids:
        desk.put(id_)

    assert desk.take_ids() == ids


@pytest.mark.row("BR9")
@pytest.mark.parametrize(("jitter", "kind"), [(0.0, "batch"), (0.99, "service")])
def test_chance_decides_between_types(desk, jitter, kind):
    """BR9."""
    desk.put("s", type=JobType.SERVICE)
    desk.put("b", type=JobType.BATCH)
    desk.ids.jitter_value = jitter

    assert desk.take().evaluation.type == kind


@pytest.mark.row("W1")
def test_the_highest_priority_of_all_types_is_first(desk):
    """W1."""
    desk.put("s", type=JobType.SERVICE, priority=10)
    desk.put("b", type=JobType.BATCH, priority=20)
    desk.ids.jitter_value = 0.99

    assert desk.take_ids() == ["b", "s"]


@pytest.mark.row("BR11")
def test_what_nobody_answers_for_comes_again(desk):
    """BR11."""
    desk.put("e")
    delivery = desk.take()
    desk.clock.pause(NACK_TIMEOUT_S)
    assert desk.is_empty()
    desk.clock.pause(FIRST_DELAY_S)

    assert desk.take().evaluation.id == "e"
    with pytest.raises(DeliveryError, match="Token does not match"):
        desk.ack(delivery)


@pytest.mark.row("BR12")
def test_time_can_be_asked_for(desk):
    """BR12."""
    desk.put("e")
    delivery = desk.take()
    desk.clock.pause(NACK_TIMEOUT_S - 1)
    desk.broker.reset("e", delivery.token)
    desk.clock.pause(NACK_TIMEOUT_S - 1)

    desk.ack(delivery)


@pytest.mark.row("BR13")
def test_time_can_stand_still(desk):
    """BR13."""
    desk.put("e")
    delivery = desk.take()
    desk.broker.pause("e", delivery.token)
    desk.clock.pause(10 * NACK_TIMEOUT_S)
    assert desk.is_empty()
    desk.broker.reset("e", delivery.token)
    desk.clock.pause(NACK_TIMEOUT_S - 1)
    assert desk.is_empty()
    desk.clock.pause(1)

    assert desk.is_empty()
    with pytest.raises(DeliveryError, match="not found"):
        desk.ack(delivery)


def fail(desk: Desk) -> None:
    """Have one evaluation delivered in vain as often as it may be."""
    for _ in range(DELIVERIES_MAX):
        desk.clock.pause(3 * LATER_DELAY_S)
        desk.nack(desk.take())


@pytest.mark.row("BR14", "BR15")
def test_what_fails_too_often_is_put_aside(desk):
    """BR14, BR15; its job's later ones wait for what becomes of it."""
    desk.put("e", "job")
    fail(desk)
    desk.put("later", "job")
    desk.clock.pause(1000)
    assert desk.is_empty()

    desk.ack(desk.take(FAILED_QUEUE))

    assert desk.take().evaluation.id == "later"
    assert desk.broker.dequeue([FAILED_QUEUE]) is None


@pytest.mark.row("BR16")
def test_the_last_delivery_may_do(desk):
    """BR16."""
    desk.put("e")
    for _ in range(DELIVERIES_MAX - 1):
        desk.nack(desk.take())
        desk.clock.pause(3 * LATER_DELAY_S)
    desk.ack(desk.take())

    assert desk.broker.dequeue([FAILED_QUEUE]) is None
    assert len(desk.broker) == 0


@pytest.mark.row("BR17")
def test_what_is_to_wait_waits(desk):
    """BR17; and its job does not wait for it."""
    desk.put("e", "job", wait=10_000_000)
    desk.put("other", "job")

    desk.ack(desk.take())
    assert desk.is_empty()
    desk.clock.pause(0.01)

    assert desk.take().evaluation.id == "e"


@pytest.mark.row("BR18")
def test_what_is_for_later_comes_in_the_order_of_time(desk):
    """BR18."""
    for seconds in (2, 1, 3, -1):
        until = Timestamp(desk.clock.now_ns() + seconds * SECOND_NS)
        desk.put(str(seconds), wait_until=until)

    assert desk.take_ids() == ["-1"]
    for _ in range(3):
        assert desk.broker.seconds_until_due() == 1
        desk.clock.pause(1)
        desk.ack(desk.take())
    assert len(desk.broker) == 1


@pytest.mark.row("BR19")
@pytest.mark.parametrize("is_done", [True, False])
def test_what_comes_again_while_it_is_looked_at(desk, is_done):
    """BR19."""
    evaluation = desk.put("e")
    delivery = desk.take()
    desk.broker.enqueue(evaluation, token=delivery.token)

    if is_done:
        desk.ack(delivery)
        assert desk.take().evaluation.id == "e"
    else:
        desk.nack(delivery)
        desk.clock.pause(FIRST_DELAY_S)
        assert desk.take_ids() == ["e"]


def test_what_is_known_is_taken_once(desk):
    evaluation = desk.put("e")
    desk.broker.enqueue(evaluation)
    delivery = desk.take()
    desk.broker.enqueue(evaluation, token="other")
    desk.broker.enqueue(evaluation)

    desk.ack(delivery)

    assert "e" not in desk.broker


@pytest.mark.row("BR20")
def test_others_may_not_speak_for_it(desk):
    """BR20."""
    desk.put("e")
    delivery = desk.take()

    for speak in (desk.broker.ack, desk.broker.nack, desk.broker.reset):
        with pytest.raises(
            DeliveryError, match="Token does not match for Evaluation ID"
        ):
            speak("e", "other")
        with pytest.raises(DeliveryError, match="Evaluation ID not found"):
            speak("unknown", delivery.token)


@pytest.mark.row("BR23")
def test_of_those_that_wait_the_newest_is_enough(desk):
    """BR23; one that was made for a time of its own, or has waited for room, stays."""
    desk.put("running", "job")
    desk.put("one", "job")
    desk.put("room", "job", status="blocked")
    desk.put("asked", "job", wait_until=Timestamp(1))
    desk.put("two", "job")
    desk.put("newest", "job")
    desk.put("other")

    taken = desk.broker.take_superseded(JobKey(("default", "job")))

    assert [one.id for one in taken] == ["one", "two"]
    assert "one" not in desk.broker
    order = []
    while (delivery := desk.broker.dequeue()) is not None:
        order.append(delivery.evaluation.id)
        desk.ack(delivery)
    assert order == ["running", "room", "asked", "newest", "other"]


@pytest.mark.parametrize("count", [0, 1])
def test_one_that_waits_alone_is_needed(desk, count):
    desk.put("running", "job")
    for number in range(count):
        desk.put(f"e{number}", "job")

    assert desk.broker.take_superseded(JobKey(("default", "job"))) == []
