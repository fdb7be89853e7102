"""Clients that write all sorts of things to any server, and judge every answer.

Each writer owns its nodes and writes to a node one thing at a time. What came of a write
that was not answered is found out by sending it again under the same idempotency key, to
whichever server, until it is answered: then the answer is the first one's. So every node
is known exactly at any time (`cluster.expected`), and any answer that cannot be is a
violation at once.

Heartbeats know no such keys. One that was not answered may still arrive, so its node is
left alone until it cannot any more; then a read says what came of it.
"""

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from cluster.expected import (
    DOWN,
    READY,
    ExpectedNode,
    Kind,
    SeenNode,
    Write,
    acceptance_complaint,
    after,
    find_differences,
    refusal_complaint,
    settle,
    to_seen,
)
from cluster.fleet import make_node, node_id, secret_id
from cluster.servers import ServerFiles
from nodestate.model.node import ELIGIBLE, INELIGIBLE

KEY_HEADER: Final = "Idempotency-Key"
NODES_PER_WRITER: Final = 40
ASK_S: Final = 6.0
RETRY_S: Final = 0.05
WATCH_S: Final = 3
TRAIL_LINES: Final = 24
# A server that was frozen serves what it had got by then, within its own deadline.
LATE_S_MAX: Final = 15.0
READ_SHARE: Final = 0.2
VIOLATIONS_MAX: Final = 100
# How often what is drawn, of a node that is there. A purged one is mostly registered.
WEIGHTS: Final[Mapping[Kind, int]] = {
    Kind.EVENT: 40,
    Kind.ELIGIBILITY: 20,
    Kind.STATUS: 15,
    Kind.REGISTER: 10,
    Kind.DRAIN: 6,
    Kind.UNDRAIN: 5,
    Kind.PURGE: 4,
}
GONE_WEIGHTS: Final[Mapping[Kind, int]] = {
    Kind.REGISTER: 8,
    Kind.EVENT: 1,
    Kind.ELIGIBILITY: 1,
}
DRAIN_NS: Final = 3_600_000_000_000


class Ledger:
    """What all clients of a run have seen together, and what was wrong with it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.highest_index = 0
        self._taken = bytearray()

    @property
    def acknowledged_count(self) -> int:
        """Return how many writes were acknowledged with an index of their own."""
        return self.counts["acknowledged"]

    def complain(self, text: str) -> None:
        """Take note of something that must not be; the first ones are shown at once."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(text)
            print(f"VIOLATION: {text}", flush=True)

    def take_index(self, index: int, *, floor: int) -> str:
        """Take an acknowledged write's index, and say what is wrong with it.

        `floor` is the highest index that was acknowledged when the write was first sent.
        """
        if index >= len(self._taken):
            self._taken += bytes(index + 1 - len(self._taken) + (1 << 16))
        is_taken, self._taken[index] = self._taken[index], 1
        self.highest_index = max(self.highest_index, index)
        if is_taken:
            return f"index {index} was given to another write before"
        if index <= floor:
            return f"index {index}, though {floor} was acknowledged before it was sent"
        return ""


class Answer(msgspec.Struct, frozen=True):
    """What a server said; `None` for an answer that never came."""

    status: int
    index: int
    body: bytes
    outcome: str


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    *,
    body: object = None,
    key: str | None = None,
) -> Answer | None:
    """Read, or write if there is a key; a POST, which aiohttp never sends twice."""
    try:
        headers = {} if key is None else {KEY_HEADER: key}
        method = "GET" if key is None else "POST"
        async with session.request(method, url, json=body, headers=headers) as answer:
            return Answer(
                answer.status,
                int(answer.headers.get("X-Nomad-Index", "0")),
                await answer.read(),
                answer.headers.get("X-Nodestate-Outcome", ""),
            )
    except (aiohttp.ClientError, TimeoutError):
        return None


class Stop:
    """When clients begin nothing more, and when they give up what they are at."""

    def __init__(self) -> None:
        self.is_set = False
        self._give_up_s = float("inf")

    def set(self, *, give_up_after_s: float) -> None:
        """Let clients end what they are at, and no longer than so many seconds."""
        self._give_up_s = asyncio.get_running_loop().time() + give_up_after_s
        self.is_set = True

    @property
    def is_over(self) -> bool:
        """Say whether it is too late even for what was begun."""
        return asyncio.get_running_loop().time() > self._give_up_s


class SoakWriter:
    """One client: it writes to nodes of its own through any server, and reads them."""

    def __init__(
        self, ledger: Ledger, servers: Sequence[ServerFiles], *, seed: int, number: int
    ) -> None:
        self._ledger = ledger
        self._servers = servers
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311  no secrets
        self._name = f"{seed}-{number}"
        self._keys = itertools.count()
        first = number * NODES_PER_WRITER
        self.expected: dict[int, ExpectedNode | None] = dict.fromkeys(
            range(first, first + NODES_PER_WRITER)
        )
        self.unresolved: set[int] = set()
        # Heartbeats that may still arrive, and when they cannot any more.
        self._late: dict[int, tuple[Write, float]] = {}
        self._trails: dict[int, deque[str]] = {
            number: deque(maxlen=TRAIL_LINES) for number in self.expected
        }

    async def run(self, stop: Stop) -> None:
        """Write and read until told to stop, and find out what came of the last write."""
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stop.is_set:
                await self._settle_late(session, stop)
                quiet = [one for one in self.expected if one not in self._late]
                if not quiet:
                    await asyncio.sleep(RETRY_S)
                    continue
                number = self._random.choice(quiet)
                if self._random.random() < READ_SHARE:
                    await self._check(session, number)
                elif not await self._write(session, self._draw(number), stop):
                    self.unresolved.add(number)
                    return
            while self._late:
                await self._settle_late(session, stop)
                await asyncio.sleep(RETRY_S)

    def trail(self, number: int) -> str:
        """Return the last things that happened to a node, as this writer saw them."""
        return "\n    ".join(self._trails[number])

    def complain(self, number: int, text: str) -> None:
        """Take note of a violation, with what led to it."""
        self._trails[number].append(f"!! {text}")
        self._ledger.complain(f"{node_id(number)}: {text}\n    {self.trail(number)}")

    # Writing

    def _draw(self, number: int) -> Write:
        node = self.expected[number]
        weights = GONE_WEIGHTS if node is None else WEIGHTS
        (kind,) = self._random.choices(list(weights), list(weights.values()))
        match kind:
            case Kind.ELIGIBILITY:
                word = self._random.choice((ELIGIBLE, INELIGIBLE))
            case Kind.STATUS:
                word = self._random.choice((READY, DOWN))
            case _:
                word = ""
        return Write(kind, number, word)

    async def _write(
        self, session: aiohttp.ClientSession, write: Write, stop: Stop
    ) -> bool:
        """Send a write until it is answered; `False` if that was given up."""
        key = f"{self._name}-{next(self._keys)}"
        if write.kind is Kind.EVENT:
            write = Write(write.kind, write.number, key)
        path, body = to_request(write)
        floor = self._ledger.highest_index
        for attempt in itertools.count():
            files = self._random.choice(self._servers)
            answer = await ask(session, files.url + path, body=body, key=key)
            told = "no answer" if answer is None else f"{answer.status} {answer.index}"
            self._trails[write.number].append(
                f"{key} {write.kind} {write.word} to {files.name}: {told}"
            )
            if answer is not None and self._is_last_word(answer):
                self._ledger.counts["resolved by a retry"] += attempt > 0
                self._judge(write, answer, floor)
                return True
            self._ledger.counts[_kind_of_failure(answer)] += 1
            may_be_late = answer is None or answer.outcome != "none"
            if write.kind is Kind.STATUS and may_be_late:
                due_s = asyncio.get_running_loop().time() + LATE_S_MAX
                self._late[write.number] = write, due_s
                return True
            if stop.is_over:
                self.complain(write.number, f"{key} is without an answer to the end")
                return False
            await asyncio.sleep(RETRY_S)
        raise AssertionError("a count has no end")

    def _is_last_word(self, answer: Answer) -> bool:
        """Say whether a retry could not be told anything else."""
        return answer.status not in {429, 503, 504}

    def _judge(self, write: Write, answer: Answer, floor: int) -> None:
        number, before = write.number, self.expected[write.number]
        if answer.status != 200:
            self._ledger.counts["refused"] += 1
            complaint = refusal_complaint(before, write, answer.status)
            if complaint:
                text = answer.body.decode(errors="replace")
                self.complain(number, f"{write.kind} {complaint}: {text}")
            return
        complaint = acceptance_complaint(before, write, answer.index)
        if answer.index:
            self.expected[number] = after(before, write, answer.index)
            self._ledger.counts["acknowledged"] += 1
            complaint = complaint or self._ledger.take_index(answer.index, floor=floor)
        else:
            self._ledger.counts["acknowledged, nothing to change"] += 1
        if complaint:
            self.complain(number, f"{write.kind} {complaint}")

    # Reading

    async def _check(self, session: aiohttp.ClientSession, number: int) -> None:
        """Read an own node anywhere: it must be as the last answer left it."""
        is_answered, seen = await self._read(session, number)
        if is_answered:
            self._compare(number, seen)

    async def _settle_late(self, session: aiohttp.ClientSession, stop: Stop) -> None:
        """Find out what came of heartbeats that cannot arrive any more."""
        now_s = asyncio.get_running_loop().time()
        for number, (write, due_s) in list(self._late.items()):
            if now_s < due_s:
                continue
            is_answered, seen = await self._read(session, number)
            if is_answered:
                del self._late[number]
                before = self.expected[number]
                assert before is not None, "only nodes that are there have a status"
                self.expected[number] = settle(before, write, seen)
                self._ledger.counts["heartbeats settled by a read"] += 1
                self._compare(number, seen)
            elif stop.is_over:
                del self._late[number]
                self.unresolved.add(number)
                self.complain(number, "cannot be read to the end")

    def _compare(self, number: int, seen: SeenNode | None) -> None:
        for difference in find_differences(self.expected[number], seen):
            self.complain(number, f"a consistent read: {difference}")

    async def _read(
        self, session: aiohttp.ClientSession, number: int
    ) -> tuple[bool, SeenNode | None]:
        """Read a node anywhere, `?consistent`; say whether that was answered at all."""
        files = self._random.choice(self._servers)
        url = f"{files.url}/v1/node/{node_id(number)}?consistent"
        answer = await ask(session, url)
        if answer is None or answer.status not in {200, 404}:
            self._ledger.counts["reads not answered"] += 1
            if answer is not None and answer.status not in {500, 503, 504}:
                self.complain(number, f"a read answered {answer.status}")
            return False, None
        self._ledger.counts["consistent reads"] += 1
        self._trails[number].append(f"read at {files.name}: {answer.status}")
        return True, to_seen(answer.body) if answer.status == 200 else None


def _kind_of_failure(answer: Answer | None) -> str:
    if answer is None:
        return "attempts without an answer"
    if answer.outcome == "none":
        return "attempts told that nothing was done"
    return "attempts told that the outcome is unknown"


def to_request(write: Write) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a write."""
    path = f"/v1/node/{node_id(write.number)}"
    secret = secret_id(write.number)
    match write.kind:
        case Kind.REGISTER:
            return "/v1/nodes", {"Node": make_node(write.number)}
        case Kind.ELIGIBILITY:
            return f"{path}/eligibility", {"Eligibility": write.word}
        case Kind.DRAIN:
            return f"{path}/drain", {"DrainSpec": {"Deadline": DRAIN_NS}}
        case Kind.UNDRAIN:
            return f"{path}/drain", {"MarkEligible": True}
        case Kind.STATUS:
            return f"{path}/heartbeat", {"SecretID": secret, "Status": write.word}
        case Kind.EVENT:
            event = {"Message": write.word, "Subsystem": "Soak"}
            return f"{path}/events", {"SecretID": secret, "NodeEvents": [event]}
        case Kind.PURGE:
            return f"{path}/purge", {}


class SoakReader:
    """One client of one server: what it reads never goes back, nor behind others."""

    def __init__(self, ledger: Ledger, files: ServerFiles) -> None:
        self._ledger = ledger
        self._files = files
        self._plain_index = 0
        self._watched_index = 1

    async def run(self, stop: Stop) -> None:
        """Read in three ways in turn until told to stop."""
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stop.is_set:
                await self._read_consistently(session)
                await self._read_plainly(session)
                await self._watch(session)
                await asyncio.sleep(RETRY_S)

    async def _list(self, session: aiohttp.ClientSession, query: str) -> int:
        """Return the index of the list, 0 if this server does not give it now."""
        url = f"{self._files.url}/v1/nodes?per_page=1{query}"
        answer = await ask(session, url)
        if answer is None or answer.status != 200:
            self._ledger.counts["reads not answered"] += 1
            return 0
        return answer.index

    async def _read_consistently(self, session: aiohttp.ClientSession) -> None:
        floor = self._ledger.highest_index
        index = await self._list(session, "&consistent")
        if index and index < floor:
            self._ledger.complain(
                f"{self._files.name}: a consistent read showed {index}, "
                f"though {floor} was acknowledged before it was sent"
            )
        self._ledger.counts["consistent reads"] += index > 0

    async def _read_plainly(self, session: aiohttp.ClientSession) -> None:
        index = await self._list(session, "")
        if index and index < self._plain_index:
            self._ledger.complain(
                f"{self._files.name}: a read showed {index} after {self._plain_index}"
            )
        self._plain_index = max(self._plain_index, index)
        self._ledger.counts["plain reads"] += index > 0

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        """Wait for whatever comes after what was seen last."""
        query = f"&index={self._watched_index}&wait={WATCH_S}s"
        index = await self._list(session, query)
        if index and index < self._watched_index:
            self._ledger.complain(
                f"{self._files.name}: a watch past {self._watched_index} ended at {index}"
            )
        self._watched_index = max(self._watched_index, index)
        self._ledger.counts["watches"] += index > 0
