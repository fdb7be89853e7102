"""Restoring a saved state through the log, so that every server does, or none.

The pieces of a snapshot come as entries, and are put together beside the tables. The
last entry swaps the tables for what was put together, in one step. What requests were
told is kept: it belongs to the log that goes on, not to the state that is restored.

A restore under way is in no snapshot: a server that starts again finds its entries in
the log. So that the log can become shorter again, one that takes too long is dropped.

What makes a state is for the code to say, so all servers must be of one version while a
state is restored: else one may refuse what others accept, and is found out by its digest.
"""

from hashlib import sha256
from typing import Final, assert_never

from nodestate.errors import SnapshotError
from nodestate.fsm.pieces import StateLoader
from nodestate.fsm.state import State
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    FinishRestore,
    Restoring,
)
from nodestate.model.outcome import RefusalCode, Refused

RESTORE_ENTRIES_MAX: Final = 200_000
"""After so many entries a restore that is not finished is dropped."""
RESTORE_BYTES_MAX: Final = 4 << 30
RESTORE_ID_LENGTH_MAX: Final = 64

UNDER_WAY: Final = "another restore is under way"
UNKNOWN: Final = "no such restore is under way: it was finished, abandoned or dropped"

_UNKNOWN: Final = Refused(RefusalCode.NOT_FOUND, UNKNOWN)

RESTORED: Final = (
    "nodes",
    "node_keys",
    "draining_keys",
    "node_secrets",
    "nodes_by_secret",
    "jobs",
    "system_job_keys",
    "job_versions",
    "versions_by_job",
    "job_summaries",
    "work_by_job",
    "allocations",
    "usage_by_node",
    "allocations_by_node",
    "allocations_by_job",
    "allocations_by_version",
    "allocations_by_evaluation",
    "evaluations",
    "evaluations_by_job",
    "blocked_ids",
    "acl_policies",
    "acl_tokens",
    "acl_secrets",
    "accessors_by_secret",
    "acl_roles",
    "acl_role_ids",
    "acl_bootstrap",
)
"""What of a state is swapped."""


class StagedRestore:
    """What has come so far. It changes in place, and only with entries."""

    def __init__(self, command: BeginRestore, index: int) -> None:
        self.restore_id = command.restore_id
        self.begun_index = index
        self.byte_count = command.byte_count
        self.sha256 = command.sha256
        self.next_number = 0
        self.received_bytes = 0
        self.received_sha256 = sha256()
        self.loader = StateLoader()


def drop_if_late(state: State, index: int) -> None:
    """Let go of a restore that has taken too long; for every entry, before it is decided."""
    restore = state.restore
    if restore is not None and index - restore.begun_index > RESTORE_ENTRIES_MAX:
        state.restore = None


def decide_step(state: State, command: Restoring) -> Refused | None:
    """Refuse what cannot be the next step; `None` of one that can."""
    match command:
        case BeginRestore():
            return _decide_begin(state, command)
        case AddRestorePiece():
            return _decide_add_piece(state, command)
        case FinishRestore():
            return _decide_finish(state, command)
        case AbandonRestore():
            if _find(state, command.restore_id) is None:
                return _UNKNOWN
            return None
        case _:
            assert_never(command)


def evolve_step(state: State, command: Restoring, index: int) -> Refused | None:
    """Take a step that was not refused.

    Pieces that do not make a state are found out by putting them together: then the
    restore is dropped, and that is a refusal all the same.
    """
    try:
        match command:
            case BeginRestore():
                state.restore = StagedRestore(command, index)
            case AddRestorePiece():
                _add_piece(state, command, index)
            case FinishRestore():
                _finish(state, command, index)
            case AbandonRestore():
                state.restore = None
            case _:
                assert_never(command)
    except SnapshotError as error:
        state.restore = None
        return _invalid(f"the state cannot be restored: {error}")
    return None


def _decide_begin(state: State, command: BeginRestore) -> Refused | None:
    if state.restore is not None:
        return Refused(RefusalCode.CONFLICT, UNDER_WAY)
    if not 0 < len(command.restore_id) <= RESTORE_ID_LENGTH_MAX:
        return _invalid(f"an id of {len(command.restore_id)} characters")
    if not 0 < command.byte_count <= RESTORE_BYTES_MAX:
        return _invalid(
            f"a state of {command.byte_count} bytes, at most {RESTORE_BYTES_MAX} are taken"
        )
    if len(command.sha256) != sha256().digest_size:
        return _invalid(f"a SHA-256 of {len(command.sha256)} bytes")
    return None


def _decide_add_piece(state: State, command: AddRestorePiece) -> Refused | None:
    restore = _find(state, command.restore_id)
    if restore is None:
        return _UNKNOWN
    if command.number != restore.next_number:
        return Refused(
            RefusalCode.CONFLICT,
            f"piece {command.number} where {restore.next_number} comes next",
        )
    if restore.received_bytes + len(command.piece) > restore.byte_count:
        return _invalid(f"more than the {restore.byte_count} bytes that were announced")
    return None


def _add_piece(state: State, command: AddRestorePiece, index: int) -> None:
    """Put it to the others: `SnapshotError` if it does not fit."""
    restore = _find(state, command.restore_id)
    assert restore is not None
    restore.loader.feed(command.piece, index_max=index)
    restore.next_number += 1
    restore.received_bytes += len(command.piece)
    restore.received_sha256.update(command.piece)


def _decide_finish(state: State, command: FinishRestore) -> Refused | None:
    restore = _find(state, command.restore_id)
    if restore is None:
        return _UNKNOWN
    if restore.received_bytes != restore.byte_count:
        return _invalid(
            f"{restore.received_bytes} bytes of {restore.byte_count} have come"
        )
    if restore.received_sha256.digest() != restore.sha256:
        return _invalid("the pieces do not have the SHA-256 that was announced")
    return None


def _finish(state: State, command: FinishRestore, index: int) -> None:
    """Swap the tables: `SnapshotError` if the pieces are not a whole state."""
    restore = _find(state, command.restore_id)
    assert restore is not None
    restored = restore.loader.finish()
    for name in RESTORED:
        setattr(state, name, getattr(restored, name))
    for table in state.indexes:
        state.indexes[table] = index
    state.restore = None


def _find(state: State, restore_id: str) -> StagedRestore | None:
    restore = state.restore
    assert restore is None or isinstance(restore, StagedRestore)
    if restore is None or restore.restore_id != restore_id:
        return None
    return restore


def _invalid(reason: str) -> Refused:
    return Refused(RefusalCode.INVALID, reason)
