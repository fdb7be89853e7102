"""Questions to the leader: each is answered, certainly not taken, or unknown; never lost."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from nodestate.errors import JournalError, NoLeaderError, OutcomeUnknownError
from nodestate.replication import questions
from nodestate.replication.frames import Answer, Question
from nodestate.replication.questions import Questions
from tests.fakes import FakeClock

DEADLINE_S = 2.0


class Wire:
    """Keeps what is sent, while it is up."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.is_up = True

    def send(self, peer_id: str, message: Any) -> bool:
        if self.is_up:
            self.sent.append((peer_id, message))
        return self.is_up


class Tasks:
    """Keeps what was started, to be run by hand."""

    def __init__(self) -> None:
        self.waiting: list[Coroutine[Any, Any, None]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        self.waiting.append(coroutine)

    async def run(self) -> None:
        while self.waiting:
            await self.waiting.pop()


class Desk:
    """One server's questions, with a wire, a clock and tasks of its own."""

    def __init__(self) -> None:
        self.wire, self.clock, self.tasks = Wire(), FakeClock(), Tasks()
        self.questions = Questions(
            send=self.wire.send, clock=self.clock, spawner=self.tasks
        )

    def ask(self) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(
            self.questions.ask("server2", b"who?", deadline_s=DEADLINE_S)
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def echo(body: bytes) -> bytes:
    return b"answer to " + body


async def asked(desk: Desk) -> tuple[asyncio.Task[bytes], int]:
    """Ask, and return the task and the id that the question went out under."""
    task = desk.ask()
    await asyncio.sleep(0)
    _, question = desk.wire.sent[-1]
    return task, question.question_id


async def test_an_answer_reaches_whoever_asked_and_nobody_else(desk):
    first, first_id = await asked(desk)
    second, second_id = await asked(desk)

    desk.questions.on_answer("server2", Answer(second_id, b"b", ""))
    desk.questions.on_answer("server2", Answer(first_id, b"a", ""))

    assert (await first, await second) == (b"a", b"b")


async def test_without_a_connection_nothing_was_taken(desk):
    desk.wire.is_up = False

    with pytest.raises(NoLeaderError):
        await desk.ask()


async def test_a_refusal_says_that_nothing_was_taken(desk):
    task, question_id = await asked(desk)

    desk.questions.on_answer("server2", Answer(question_id, b"", "no leader"))

    with pytest.raises(NoLeaderError, match="no leader"):
        await task


async def test_past_the_deadline_the_outcome_is_unknown(desk):
    task, question_id = await asked(desk)

    await desk.clock.step(DEADLINE_S)
    desk.questions.on_answer("server2", Answer(question_id, b"too late", ""))

    with pytest.raises(OutcomeUnknownError):
        await task


async def test_a_lost_connection_leaves_its_own_questions_unknown(desk):
    task, question_id = await asked(desk)

    desk.questions.on_disconnected("server3")
    assert not task.done()
    desk.questions.on_disconnected("server2")

    with pytest.raises(OutcomeUnknownError, match="connection broke"):
        await task
    desk.questions.on_answer("server2", Answer(question_id, b"late", ""))


async def test_another_server_cannot_answer(desk):
    task, question_id = await asked(desk)

    desk.questions.on_answer("server3", Answer(question_id, b"forged", ""))
    desk.questions.on_answer("server2", Answer(question_id, b"true", ""))

    assert await task == b"true"


async def test_there_is_a_limit_to_what_may_be_unanswered(desk, monkeypatch):
    monkeypatch.setattr(questions, "QUESTIONS_MAX", 1)
    task, question_id = await asked(desk)

    with pytest.raises(NoLeaderError, match="too many questions"):
        await desk.ask()

    desk.questions.on_answer("server2", Answer(question_id, b"a", ""))
    await task
    again, again_id = await asked(desk)
    desk.questions.on_answer("server2", Answer(again_id, b"b", ""))
    assert await again == b"b"


async def test_a_leader_answers_its_peers(desk):
    desk.questions.answer_with(echo)

    desk.questions.on_question("server3", Question(7, b"x"), is_leader=True)
    await desk.tasks.run()

    assert desk.wire.sent == [("server3", Answer(7, b"answer to x", ""))]


@pytest.mark.parametrize("has_answerer", [False, True])
async def test_who_does_not_lead_or_cannot_answer_says_so_at_once(desk, has_answerer):
    if has_answerer:
        desk.questions.answer_with(echo)

    desk.questions.on_question("server3", Question(7, b"x"), is_leader=not has_answerer)

    ((peer_id, answer),) = desk.wire.sent
    assert (peer_id, answer.question_id) == ("server3", 7)
    assert answer.reason
    assert desk.tasks.waiting == []


async def test_leadership_lost_on_the_way_is_said(desk):
    async def lose(body: bytes) -> bytes:
        raise NoLeaderError("lost it")

    desk.questions.answer_with(lose)
    desk.questions.on_question("server3", Question(7, b"x"), is_leader=True)
    await desk.tasks.run()

    assert desk.wire.sent == [("server3", Answer(7, b"", "lost it"))]


async def test_what_may_have_had_an_effect_is_not_called_refused(desk):
    async def fail(body: bytes) -> bytes:
        raise JournalError("disk full")

    desk.questions.answer_with(fail)
    desk.questions.on_question("server3", Question(7, b"x"), is_leader=True)
    await desk.tasks.run()

    assert desk.wire.sent == []


async def test_the_leader_asks_itself_without_the_wire(desk):
    with pytest.raises(NoLeaderError):
        await desk.questions.answer_here(b"x", deadline_s=DEADLINE_S)
    desk.questions.answer_with(echo)

    answer = await desk.questions.answer_here(b"x", deadline_s=DEADLINE_S)

    assert answer == b"answer to x"
    assert desk.wire.sent == []
