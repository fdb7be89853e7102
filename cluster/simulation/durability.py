"""What a server's disk would give back if its power went now, read from the disk itself.

Servers say what they have durably; the judge does not take their word for it.
"""

import re
from typing import Final

from nodestate.replication.records import (
    Fault,
    HardState,
    Kind,
    decode_entry,
    decode_hard_state,
    decode_record,
    decode_snapshot_mark,
    decode_truncation,
)

_SEGMENT: Final = re.compile(r"journal-(\d{8})\.log")


class DurableLog:
    """One disk's log and hard state, read record by record as its syncs make them so.

    `terms` has the term of each durable entry; what a snapshot replaced stays known.
    `base_index` is that of the last snapshot mark.
    """

    def __init__(self) -> None:
        self.terms: dict[int, int] = {}
        self.last_index = 0
        self.base_index = 0
        self.hard_state = HardState(0, None)
        self._number = 0
        self._offset = 0

    def holds(self, index: int, term: int) -> bool:
        """Say whether the disk has that entry, in the log or under a snapshot."""
        return self.terms.get(index) == term or index <= self.base_index

    def on_sync(self, name: str, durable: bytearray) -> None:
        """Take what one file holds now; files that are no segment do not matter."""
        match = _SEGMENT.fullmatch(name)
        if match is None:
            return
        number = int(match[1])
        if number < self._number:
            return
        offset = self._offset if number == self._number else 0
        while True:
            record = decode_record(durable, offset, number)  # type: ignore[arg-type]
            if isinstance(record, Fault) or record.kind == Kind.SYNCED:
                return
            self._take(record.kind, bytes(record.payload))
            # One that is made ahead, or made blank again, is not begun yet.
            self._number, self._offset = number, record.end
            offset = record.end

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == Kind.ENTRY:
            entry = decode_entry(payload)
            self.terms[entry.index] = entry.term
            self.last_index = entry.index
        elif kind == Kind.TRUNCATE:
            self._cut(decode_truncation(payload) - 1)
        elif kind == Kind.HARD_STATE:
            self.hard_state = decode_hard_state(payload)
        elif kind == Kind.SNAPSHOT:
            base = decode_snapshot_mark(payload)
            self._cut(base.index)
            self.terms[base.index] = base.term
            self.last_index = self.base_index = base.index

    def _cut(self, last_index: int) -> None:
        for index in range(last_index + 1, self.last_index + 1):
            self.terms.pop(index, None)
        self.last_index = min(self.last_index, last_index)
