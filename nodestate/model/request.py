"""Who asked for an entry, so that whoever asks twice is answered once.

Two ids say that two entries are one request: the proposer's own, which all its attempts
carry, and the caller's key, which all the caller's requests carry.
"""

import msgspec

from nodestate.model.outcome import Outcome

SessionId = tuple[str, str]
"""A server's id, and its id since a certain start."""
KeyId = tuple[str, str]
"""Who asked, as commands have it, and the key: a key is its caller's alone."""


class Origin(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who proposed an entry: a server, since a certain start, its so-manieth proposal."""

    server_id: str
    boot_id: str
    sequence: int


class IdempotencyKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A caller's name for a request, and a digest of what the request says."""

    key: str
    fingerprint: bytes


class Request(msgspec.Struct, frozen=True, gc=False):
    """Whose request an entry is.

    `floor` is the lowest sequence of this origin that is still waited for: what is below
    need not be remembered. 0 is an entry from before requests were remembered, which is
    applied whatever its origin.
    """

    origin: Origin
    floor: int = 0
    idempotency: IdempotencyKey | None = None


class Remembered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a proposal was told, and the index of the entry with which it was."""

    index: int
    outcome: Outcome


class Session(msgspec.Struct, gc=False):
    """What is remembered of one server since a certain start.

    `outcomes` has the sequences from `floor` on; every entry adds one, so that this is
    changed in place, unlike all other records.
    """

    floor: int = 1
    last_index: int = 0
    outcomes: dict[int, Remembered] = msgspec.field(default_factory=dict)


class KeptKey(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The request that a key was first used for, and what it was told.

    `at_ns` is the latest time that the log had seen by then, and `total` how much was
    kept under all keys up to this one, since there are keys.
    """

    fingerprint: bytes
    index: int
    outcome: Outcome
    at_ns: int
    total: int
