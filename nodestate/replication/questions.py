"""Questions that only the leader can answer: asking them, and answering them.

They never enter the log. A question that is not answered in time, or whose connection
is lost, may have been acted upon.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nodestate.clock import Clock
from nodestate.errors import NodestateError, NoLeaderError, OutcomeUnknownError
from nodestate.ports import Spawner
from nodestate.replication.disarmed import Send
from nodestate.replication.engine import NO_LEADER
from nodestate.replication.frames import Answer, Question

QUESTIONS_MAX: Final = 8192
TOO_MANY_QUESTIONS: Final = "too many questions to the leader"

SERVICES: Final = 0
READ_INDEX: Final = 1
ADMINISTRATION: Final = 2
"""Which part of the leader a question is for; numbers are for ever."""

Answerer = Callable[[bytes], Awaitable[bytes]]


class _Asked:
    __slots__ = ("answer", "peer_id")

    def __init__(self, peer_id: str) -> None:
        self.peer_id = peer_id
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def fail(self, error: NodestateError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def expire(self) -> None:
        self.fail(OutcomeUnknownError("outcome unknown: the leader did not answer"))


class Questions:
    """What was asked of the leader and is not answered, and what we are to answer."""

    def __init__(self, *, send: Send, clock: Clock, spawner: Spawner) -> None:
        self._send = send
        self._clock = clock
        self._spawner = spawner
        self._last_id = 0
        self._asked: dict[int, _Asked] = {}
        self._answering_count = 0
        self._answerers: dict[int, Answerer] = {}

    def answer_with(self, answerer: Answerer, *, kind: int = SERVICES) -> None:
        """Use `answerer` for questions of that kind to this server."""
        self._answerers[kind] = answerer

    async def ask(
        self, peer_id: str, body: bytes, *, deadline_s: float, kind: int = SERVICES
    ) -> bytes:
        """Return a peer's answer; `NoLeaderError` if it certainly did not take it."""
        if len(self._asked) >= QUESTIONS_MAX:
            raise NoLeaderError(TOO_MANY_QUESTIONS)
        self._last_id += 1
        question_id = self._last_id
        if not self._send(peer_id, Question(question_id, body, kind)):
            raise NoLeaderError(NO_LEADER)
        asked = self._asked[question_id] = _Asked(peer_id)
        timer = self._clock.call_later(deadline_s, asked.expire)
        try:
            return await asked.answer
        finally:
            timer.cancel()
            del self._asked[question_id]

    async def answer_here(
        self, body: bytes, *, deadline_s: float, kind: int = SERVICES
    ) -> bytes:
        """Return this server's own answer."""
        if kind not in self._answerers:
            raise NoLeaderError(NO_LEADER)
        try:
            async with asyncio.timeout(deadline_s):
                return await self._answerers[kind](body)
        except TimeoutError as error:
            raise OutcomeUnknownError(
                "outcome unknown: no answer before the deadline"
            ) from error

    def on_question(self, peer_id: str, question: Question, *, is_leader: bool) -> None:
        """Answer a peer in a task of its own, or say at once why not."""
        is_answered = is_leader and question.kind in self._answerers
        reason = "" if is_answered else NO_LEADER
        if self._answering_count >= QUESTIONS_MAX:
            reason = TOO_MANY_QUESTIONS
        if reason:
            self._send(peer_id, Answer(question.question_id, b"", reason))
            return
        self._answering_count += 1
        self._spawner.spawn(self._answer(peer_id, question), name="answer")

    async def _answer(self, peer_id: str, question: Question) -> None:
        try:
            body = await self._answerers[question.kind](question.body)
        except NoLeaderError as error:
            self._send(peer_id, Answer(question.question_id, b"", str(error)))
        except NodestateError:
            # It may have had an effect: saying nothing is what "unknown" looks like.
            return
        else:
            self._send(peer_id, Answer(question.question_id, body, ""))
        finally:
            self._answering_count -= 1

    def on_answer(self, peer_id: str, answer: Answer) -> None:
        """Give an answer to whoever asked."""
        asked = self._asked.get(answer.question_id)
        if asked is None or asked.peer_id != peer_id or asked.answer.done():
            return
        if answer.reason:
            asked.fail(NoLeaderError(answer.reason))
        else:
            asked.answer.set_result(answer.body)

    def on_disconnected(self, peer_id: str) -> None:
        """Tell whoever asked that peer that no answer is to be expected."""
        for asked in self._asked.values():
            if asked.peer_id == peer_id:
                asked.fail(
                    OutcomeUnknownError(
                        "outcome unknown: the leader's connection broke"
                    )
                )
