"""Servers with one rule switched off, for showing that the judge notices."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from nodestate.api import blocking
from nodestate.fsm import machine
from nodestate.replication import rules
from nodestate.replication.engine import Engine
from nodestate.replication.frames import AppendReply, RequestVote, VoteReply
from nodestate.replication.installs import SnapshotReceiver
from nodestate.replication.outbox import Outbox

Mutant = Callable[[pytest.MonkeyPatch], None]


def _send_at_once(patch: pytest.MonkeyPatch, *kinds: type) -> None:
    post = Outbox.post

    def mutant(self: Any, peer_id: str, message: Any, *, position: int) -> None:
        post(self, peer_id, message, position=0 if type(message) in kinds else position)

    patch.setattr(Outbox, "post", mutant)


def acknowledges_before_sync(patch: pytest.MonkeyPatch) -> None:
    """A follower's word leaves before its entries are durable."""
    _send_at_once(patch, AppendReply)


def votes_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Term and vote are told before they are durable."""
    _send_at_once(patch, RequestVote, VoteReply)


def counts_itself_before_sync(patch: pytest.MonkeyPatch) -> None:
    """The leader counts what it has only in memory."""
    of_voters = Engine._of_voters

    def mutant(self: Any, own: float, others: Any) -> list[float]:
        if own == self._journal.durable_index():
            own = self._journal.last_index()
        return of_voters(self, own, others)

    patch.setattr(Engine, "_of_voters", mutant)


def takes_acks_of_any_term(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement of an earlier term counts like one of this term."""
    on_append_reply = Engine._on_append_reply

    def mutant(self: Any, peer_id: str, message: AppendReply) -> None:
        if message.term < self.term():
            message = replace(message, term=self.term())
        on_append_reply(self, peer_id, message)

    patch.setattr(Engine, "_on_append_reply", mutant)


def commits_old_terms_by_count(patch: pytest.MonkeyPatch) -> None:
    """An entry of an earlier term is committed by counting (figure 8)."""

    def mutant(
        durable_indexes: Any, *, commit_index: int, term: int, term_at: Any
    ) -> int:
        return max(commit_index, rules.majority_index(durable_indexes))

    patch.setattr(rules, "advanced_commit_index", mutant)


def cuts_what_matches(patch: pytest.MonkeyPatch) -> None:
    """What a message repeats is cut and written again, though it is the same."""

    def mutant(entries: Any, *, base_index: int, **_: Any) -> int:
        for position, entry in enumerate(entries):
            if entry.index > base_index:
                return position
        return len(entries)

    patch.setattr(rules, "first_new_entry", mutant)


def installs_before_verifying(patch: pytest.MonkeyPatch) -> None:
    """A snapshot is acknowledged when its last piece is here, whatever it is worth."""
    add = SnapshotReceiver._add

    async def mutant(self: Any, leader_id: str, chunk: Any) -> Any:
        received = await add(self, leader_id, chunk)
        if received is not None:
            self._answer_installed(leader_id, chunk)
        return received

    patch.setattr(SnapshotReceiver, "_add", mutant)


def forgets_requests(patch: pytest.MonkeyPatch) -> None:
    """Neither a proposal nor a caller's key is known again."""

    def mutant(state: Any, index: int, command: Any, request: Any = None) -> Any:
        return machine._apply_command(state, index, command)

    patch.setattr(machine, "apply", mutant)


def reads_before_its_own_entry(patch: pytest.MonkeyPatch) -> None:
    """A new leader answers reads before an entry of its own term is committed."""
    begin_read = Engine.begin_read

    def mutant(self: Any, done: Any) -> None:
        is_ready = self.is_ready_to_lead
        self.is_ready_to_lead = self.is_leader
        try:
            begin_read(self, done)
        finally:
            self.is_ready_to_lead = is_ready

    patch.setattr(Engine, "begin_read", mutant)


def watches_before_registering(patch: pytest.MonkeyPatch) -> None:
    """A blocking read looks at the state first, and registers a moment later."""

    async def mutant(call: Any, options: Any, key: Any, current_index: Any) -> None:
        services = call.services
        if current_index(services.view.state()) > options.index:
            return
        await asyncio.sleep(0.01)
        with services.watch.waiter(key) as waiter:
            await waiter.wait(options.wait_s)

    patch.setattr(blocking, "wait_until_past", mutant)


ALL: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        acknowledges_before_sync,
        counts_itself_before_sync,
        takes_acks_of_any_term,
        commits_old_terms_by_count,
        cuts_what_matches,
        votes_before_sync,
        installs_before_verifying,
        forgets_requests,
        reads_before_its_own_entry,
        watches_before_registering,
    )
}
