"""The followers of a leader in one term: what each has, and sending what it lacks.

Nobody is sent anything twice, nobody's silence holds up another, and a follower whose
next entry is no longer in the log is left to whoever sends snapshots.
"""

from collections.abc import Callable, Iterable, Mapping

from nodestate.replication.disarmed import Journal, Send
from nodestate.replication.frames import AppendEntries, AppendReply
from nodestate.replication.progress import Progress
from nodestate.replication.records import Entry
from nodestate.replication.rules import ConflictHint, is_ack_within_bounds


class Followers:
    """Empty while this server does not lead."""

    def __init__(
        self,
        journal: Journal,
        send: Send,
        is_connected: Callable[[str], bool],
        need_snapshot: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._send = send
        self._is_connected = is_connected
        self._need_snapshot = need_snapshot
        self._progress: dict[str, Progress] = {}
        self._incarnations: dict[str, str] = {}
        self._last_sequence = 0

    def clear(self) -> None:
        """Forget everyone: this server leads no more, or begins to."""
        self._progress.clear()
        self._incarnations.clear()

    def set_members(self, incarnations: Mapping[str, str], now_s: float) -> None:
        """Serve exactly these, by id; another data directory begins from nothing."""
        for peer_id in list(self._progress):
            if self._incarnations[peer_id] != incarnations.get(peer_id):
                del self._progress[peer_id], self._incarnations[peer_id]
        last_index = self._journal.last_index()
        for peer_id, incarnation in incarnations.items():
            if peer_id not in self._progress:
                progress = Progress(last_index=last_index, now_s=now_s)
                self._progress[peer_id] = progress
                self._incarnations[peer_id] = incarnation

    def get(self, peer_id: str) -> Progress | None:
        """Return what is known of one, `None` if it is not served."""
        return self._progress.get(peer_id)

    def of(self, peer_ids: Iterable[str]) -> list[Progress]:
        """Return what is known of those that are served among these."""
        return [self._progress[one] for one in peer_ids if one in self._progress]

    def next_sequence(self) -> int:
        """Return the number that the next message will have."""
        return self._last_sequence + 1

    # Sending

    def send(
        self, term: int, commit_index: int, *, is_heartbeat_due: bool, is_round: bool
    ) -> None:
        """Send what each lacks; to everyone if a heartbeat is due, or a round of reads."""
        for peer_id, progress in self._progress.items():
            if not self._is_connected(peer_id):
                continue
            if progress.next_index <= self._journal.base_index():
                progress.install()
            if progress.is_installing:
                if is_heartbeat_due or is_round:
                    self._send_sign_of_life(peer_id, term, commit_index)
                if is_heartbeat_due:
                    self._need_snapshot(peer_id)
                continue
            if is_round:
                self._send_sign_of_life(peer_id, term, commit_index)
            self._serve(peer_id, progress, term, commit_index, is_due=is_heartbeat_due)

    def _serve(
        self,
        peer_id: str,
        progress: Progress,
        term: int,
        commit_index: int,
        *,
        is_due: bool,
    ) -> None:
        is_due = is_due or progress.lacks_commit(commit_index)
        while is_due or progress.may_send(self._journal.last_index()):
            if not self._send_entries(peer_id, progress, term, commit_index):
                return
            is_due = False

    def _send_entries(
        self, peer_id: str, progress: Progress, term: int, commit_index: int
    ) -> bool:
        first, last_index = progress.next_index, self._journal.last_index()
        batch: tuple[Entry, ...] = ()
        if first <= last_index and progress.may_send(last_index):
            batch = self._journal.entries_from(first, progress.batch_bytes_max())
        prev_term = self._journal.term_at(first - 1)
        self._last_sequence += 1
        message = AppendEntries(
            term, first - 1, prev_term, commit_index, self._last_sequence, batch
        )
        if not self._send(peer_id, message):
            return False
        progress.on_sent(
            self._last_sequence,
            last_sent_index=first - 1 + len(batch),
            commit_index=commit_index,
            byte_count=sum(len(entry.body) for entry in batch),
        )
        return True

    def _send_sign_of_life(self, peer_id: str, term: int, commit_index: int) -> None:
        """Send what every log agrees to, so that the answer waits for no disk."""
        self._last_sequence += 1
        message = AppendEntries(term, 0, 0, commit_index, self._last_sequence, ())
        self._send(peer_id, message)

    # Answers

    def on_reply(self, peer_id: str, reply: AppendReply, now_s: float) -> bool:
        """Take an answer in this term into account; `False` if it cannot be true (F12)."""
        progress = self._progress.get(peer_id)
        if progress is None:
            return True
        last_index = self._journal.last_index()
        if reply.sequence > self._last_sequence or not is_ack_within_bounds(
            reply.match_index, last_index=last_index
        ):
            return False
        progress.on_answer(reply.sequence, now_s)
        if reply.is_success:
            progress.on_match(reply.match_index)
        else:
            hint = ConflictHint(reply.conflict_index, reply.conflict_term)
            progress.on_rejection(
                reply.sequence,
                hint,
                self._journal.term_at,
                self._journal.base_index(),
            )
        return True
