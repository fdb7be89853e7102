"""What a leader knows of one follower's log, and what is on its way there.

A follower is probed, one small message at a time, until the place is found from which
its log is the leader's; from then on entries are sent without waiting for answers, and
nothing that is on its way is sent a second time.
"""

from collections import deque
from typing import Final

from nodestate.replication import rules
from nodestate.replication.rules import ConflictHint, TermAt

IN_FLIGHT_BYTES_MAX: Final = 8 << 20
IN_FLIGHT_MESSAGES_MAX: Final = 64
GATHERED_ENTRIES_MIN: Final = 128
SMALL_BYTES: Final = 64 << 10
"""While less than this is on its way, fewer entries than those wait for the answer and
then go together: under load that spares both sides most of what a message costs. A lone
entry never waits, and a stream of large ones keeps the way full."""
BATCH_BYTES_MAX: Final = 1 << 20
PROBE_BYTES_MAX: Final = 64 << 10


class Progress:
    """One follower, as a leader in one term sees it."""

    __slots__ = (
        "_floor_sequence",
        "_in_flight",
        "_in_flight_bytes",
        "_is_answer_due",
        "acked_sequence",
        "heard_at_s",
        "is_installing",
        "is_probing",
        "match_index",
        "next_index",
        "sent_commit_index",
    )

    def __init__(self, *, last_index: int, now_s: float) -> None:
        self.is_probing = True
        self.is_installing = False
        self.match_index = 0
        self.next_index = last_index + 1
        self.heard_at_s = now_s
        self.acked_sequence = 0
        self.sent_commit_index = 0
        self._floor_sequence: int | None = None
        self._is_answer_due = False
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0

    def may_send(self, last_index: int) -> bool:
        """Say whether entries should go out now; a heartbeat may always."""
        if self.is_installing:
            return False
        if self.is_probing:
            return not self._is_answer_due
        waiting_count = last_index - self.next_index + 1
        if waiting_count <= 0:
            return False
        is_little_on_its_way = 0 < self._in_flight_bytes < SMALL_BYTES
        if is_little_on_its_way and waiting_count < GATHERED_ENTRIES_MIN:
            return False
        if len(self._in_flight) >= IN_FLIGHT_MESSAGES_MAX:
            return False
        return self._in_flight_bytes < IN_FLIGHT_BYTES_MAX

    def lacks_commit(self, commit_index: int) -> bool:
        """Say whether it could apply more, but was not told so yet."""
        if self.is_probing or self.is_installing:
            return False
        return self.sent_commit_index < commit_index

    def batch_bytes_max(self) -> int:
        """Return how much may go into the next message."""
        return PROBE_BYTES_MAX if self.is_probing else BATCH_BYTES_MAX

    def on_sent(
        self, sequence: int, *, last_sent_index: int, commit_index: int, byte_count: int
    ) -> None:
        """Take note of a message that is on its way."""
        self.sent_commit_index = commit_index
        if self.is_probing:
            # The first message at this place: only answers to it and to later ones say
            # anything about it.
            if self._floor_sequence is None:
                self._floor_sequence = sequence
            self._is_answer_due = True
            return
        self.next_index = last_sent_index + 1
        if byte_count > 0:
            self._in_flight.append((sequence, byte_count))
            self._in_flight_bytes += byte_count

    def on_answer(self, sequence: int, now_s: float) -> None:
        """Take note of any answer in the leader's term."""
        self.heard_at_s = now_s
        self.acked_sequence = max(self.acked_sequence, sequence)
        while self._in_flight and self._in_flight[0][0] <= sequence:
            self._in_flight_bytes -= self._in_flight.popleft()[1]

    def on_match(self, match_index: int) -> None:
        """Take note of what the follower has durably.

        The next index never goes back here: what follows may be on its way already.
        """
        self.match_index = max(self.match_index, match_index)
        if self.is_probing and match_index >= self.next_index - 1:
            self.is_probing = False
        self.next_index = max(self.next_index, self.match_index + 1)

    def on_rejection(
        self, sequence: int, hint: ConflictHint, term_at: TermAt, base_index: int = 0
    ) -> None:
        """Probe further back, unless the answer is to a message that no longer counts."""
        if self._floor_sequence is None or sequence < self._floor_sequence:
            return
        if self.is_probing:
            self.next_index = rules.next_probe_index(
                hint,
                prev_index=self.next_index - 1,
                match_index=self.match_index,
                term_at=term_at,
                base_index=base_index,
            )
        self.probe()

    def install(self) -> None:
        """Send no entries any more: it lacks what is in a snapshot only."""
        self.probe()
        self.is_installing = True

    def on_installed(self, index: int) -> None:
        """Go on behind the snapshot, which the follower has durably."""
        self.match_index = max(self.match_index, index)
        self.next_index = self.match_index + 1
        self.probe()
        self.is_installing = False

    def probe(self) -> None:
        """Begin anew from what is known to match: what was on its way may be lost."""
        if not self.is_probing:
            self.next_index = self.match_index + 1
        self.is_probing = True
        self._is_answer_due = False
        self._floor_sequence = None
        self._in_flight.clear()
        self._in_flight_bytes = 0
