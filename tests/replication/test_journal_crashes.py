"""Whatever stops a server while its journal is shortened, nothing promised is lost."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import JournalError
from nodestate.replication.journal import Journal
from nodestate.replication.records import SEGMENT_BYTES_MIN, Entry, LogBase
from tests.replication.journals import flush, open_journal, writing

NOTHING = LogBase(0, 0)
# As small as can be, so that a story has many.
SEGMENT_BYTES = SEGMENT_BYTES_MIN + 100


class Kept(NamedTuple):
    """What a journal is there to keep, as of one change."""

    term: int
    voted_for: str | None
    base: LogBase
    entries: tuple[Entry, ...]

    def holds(self, position: LogBase) -> bool:
        offset = position.index - self.base.index
        if offset <= 0:
            return position == self.base
        held = self.entries[offset - 1 : offset]
        return [entry.term for entry in held] == [position.term]


class Act(NamedTuple):
    """One thing to do, and two numbers that say how."""

    what: str
    much: int
    how: int


@dataclass
class Story:
    """What a server does with its journal: every state of it, by position."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    snapshot: LogBase | None = None
    states: list[Kept] = field(default_factory=lambda: [Kept(0, None, NOTHING, ())])
    compacting: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def covered_index(self) -> int:
        return self.snapshot.index if self.snapshot else 0

    async def live(self, journal: Journal, acts: list[Act]) -> None:
        """Act, and stop in the middle of whatever is under way."""
        async with writing(journal):
            for act in acts:
                await getattr(self, act.what)(journal, act)
                assert_same(journal, self.states[-1])

    async def append(self, journal: Journal, act: Act) -> None:
        for _ in range(act.much):
            now = self.states[-1]
            term = max(now.term, journal.last_term(), 1)
            entry = Entry(bytes(act.how * 90), journal.last_index() + 1, term)
            journal.append([entry])
            self.states.append(now._replace(entries=(*now.entries, entry)))

    async def truncate(self, journal: Journal, act: Act) -> None:
        index = journal.last_index() + 1 - act.much
        if index > self.covered_index:
            journal.truncate_from(index)
            now = self.states[-1]
            kept = now.entries[: index - 1 - now.base.index]
            self.states.append(now._replace(entries=kept))
            await self.vote(journal, act)

    async def vote(self, journal: Journal, act: Act) -> None:
        now = self.states[-1]
        term = max(now.term, journal.last_term()) + 1
        vote = f"server{act.how}" if act.how else None
        journal.set_hard_state(term, vote)
        self.states.append(now._replace(term=term, voted_for=vote))

    async def compact(self, journal: Journal, act: Act) -> None:
        index = journal.last_index() - act.how
        if index > self.covered_index:
            self.snapshot = LogBase(index, journal.term_at(index))
        if self.snapshot is not None:
            keep_from = self.snapshot.index + 1 - act.much
            task = asyncio.create_task(journal.compact(keep_from))
            self.compacting.append(task)
            await asyncio.sleep(0)

    async def install(self, journal: Journal, act: Act) -> None:
        index = self.covered_index + act.much
        term = journal.last_term() + act.how
        if act.how == 0 and index <= journal.last_index():
            term = journal.term_at(index)
        self.snapshot = LogBase(index, max(term, 1))
        await self.wait(journal, act)
        journal.reset_to(self.snapshot)
        now = self.states[-1]
        if not now.holds(self.snapshot):
            self.states.append(now._replace(base=self.snapshot, entries=()))

    async def wait(self, journal: Journal, act: Act) -> None:
        for _ in range(act.much * act.how * 3):
            await asyncio.sleep(0)

    async def stop(self, seed: int) -> None:
        if seed % 3:
            self.disk.crash(random.Random(seed))
        else:
            self.disk.kill()
        self.disk.lock()
        for task in self.compacting:
            task.cancel()
        await asyncio.gather(*self.compacting, return_exceptions=True)
        for task in self.compacting:
            error = None if task.cancelled() else task.exception()
            assert error is None or isinstance(error, JournalError), error
        self.compacting.clear()

    def check(self, stopped: Journal) -> None:
        """Recover, and compare with the last moment that can have survived."""
        again = open_journal(self.disk, SEGMENT_BYTES, self.snapshot)
        assert again.durable_position() == again.position()
        assert again.durable_index() == again.last_index()
        assert again.base_index() <= self.covered_index
        found = again.position()
        if found == len(self.states) or not is_same(again, self.states[found]):
            # Recovery itself let the snapshot take the place of the log.
            found -= 1
            assert self.snapshot is not None
            before = self.states[found]
            assert not before.holds(self.snapshot)
            del self.states[found + 1 :]
            self.states.append(before._replace(base=self.snapshot, entries=()))
        assert stopped.durable_position() <= found <= stopped.position()
        assert_same(again, self.states[again.position()])
        del self.states[again.position() + 1 :]
        assert self.snapshot is None or self.states[-1].holds(self.snapshot)
        again.close()
        self.disk.kill()


def is_same(journal: Journal, kept: Kept) -> bool:
    """Compare what both hold; either may have let go of more at the beginning."""
    base_index = max(journal.base_index(), kept.base.index)
    last_index = kept.base.index + len(kept.entries)
    skipped = max(journal.base_index() - kept.base.index, 0)
    return (
        (journal.term(), journal.voted_for()) == (kept.term, kept.voted_for)
        and (journal.last_index() == last_index)
        and kept.base.index <= journal.base_index()
        and kept.holds(LogBase(base_index, journal.term_at(base_index)))
        and journal.entries_from(base_index + 1, 1 << 40) == kept.entries[skipped:]
    )


def assert_same(journal: Journal, kept: Kept) -> None:
    assert is_same(journal, kept), kept


ACTS = st.builds(
    Act,
    st.sampled_from(
        ["append"] * 5
        + ["wait"] * 3
        + ["compact"] * 3
        + ["truncate", "vote", "install"]
    ),
    st.integers(1, 6),
    st.integers(0, 4),
)
LIVES = st.lists(
    st.tuples(st.lists(ACTS, min_size=10, max_size=40), st.integers(0, 99)),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(lives=LIVES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_above_the_snapshot_is_ever_lost(lives):
    asyncio.run(tell(lives))


async def tell(lives: list[tuple[list[Act], int]]) -> None:
    story = Story()
    journal = open_journal(story.disk, SEGMENT_BYTES)
    async with writing(journal):
        # A server's term is durable before it has a snapshot.
        await story.vote(journal, Act("vote", 0, 0))
        await flush(journal)
    story.disk.kill()
    for acts, seed in lives:
        journal = open_journal(story.disk, SEGMENT_BYTES, story.snapshot)
        await story.live(journal, acts)
        await story.stop(seed)
        story.check(journal)
