"""Restoring a snapshot: received whole and checked, then put into the log piece by piece.

Nothing of the state changes before the last entry, and that one changes all of it. What
goes wrong before has changed nothing, whatever became of the entries.
"""

import base64
import contextlib
import hashlib
from typing import Final

from msgspec.structs import replace

from nodestate.api import blocking, bodies, parameters
from nodestate.api.calls import Call, index_line
from nodestate.api.problems import (
    OUTCOME_IS_UNKNOWN,
    Problem,
    ProblemError,
    refused,
    too_many,
)
from nodestate.api.replies import Body, Reply
from nodestate.errors import (
    NodestateError,
    OutcomeUnknownError,
    RequestError,
    SnapshotError,
)
from nodestate.fsm.restores import StagedRestore
from nodestate.model.command import (
    AbandonRestore,
    AddRestorePiece,
    BeginRestore,
    FinishRestore,
    Restoring,
)
from nodestate.model.outcome import Refused
from nodestate.ports import SnapshotUpload, UploadedSnapshot

RESTORES_MAX: Final = 1
"""Restores that one server takes part in at once; the cluster has one at a time too."""
UPLOAD_BYTES_MAX: Final = 4 << 30
WRONG_DIGEST: Final = "the body does not have the SHA-256 that Digest says"
MALFORMED_DIGEST: Final = (
    "Digest must be sha-256= and the SHA-256 of the body in base64"
)
NOT_RESTORED: Final = "not restored, and nothing was changed: the log could not take it"
FINISH_UNKNOWN: Final = (
    "outcome unknown: the state may still be replaced by the snapshot's; "
    "list the nodes to find out"
)

_SHA256: Final = "sha-256="


async def restore_snapshot(call: Call) -> Reply:
    """Answer `PUT /v1/operator/snapshot`.

    With `?force` a restore that was begun before and did not end is abandoned first.
    """
    await call.prepare_write()
    is_forced = parameters.read_flag(call.query, "force")
    services = call.services
    if services.restore_count >= RESTORES_MAX:
        raise too_many("restores under way", "RESTORES_MAX", RESTORES_MAX)
    services.restore_count += 1
    upload = services.receive_snapshot()
    try:
        await _receive(call, upload)
        uploaded = await upload.finish()
        if is_forced:
            await _abandon_other(call)
        index = await _restore(call, upload, uploaded)
    except SnapshotError as error:
        raise ProblemError(Problem(500, f"not restored: {error}")) from error
    finally:
        upload.close()
        services.restore_count -= 1
    return Reply(200, index_line(index), Body(b""))


async def _receive(call: Call, upload: SnapshotUpload) -> None:
    """Take the body, and hold it to its digest if it has one."""
    said = call.request.headers.get("Digest")
    wanted = None if said is None else _decode_digest(said)
    sha256 = hashlib.sha256()
    pieces = bodies.read_pieces(
        call.request, setting="UPLOAD_BYTES_MAX", limit=UPLOAD_BYTES_MAX
    )
    async for piece in pieces:
        sha256.update(piece)
        await upload.add(piece)
    if wanted not in (None, sha256.digest()):
        raise RequestError(WRONG_DIGEST)
    call.stand_for(sha256.digest())


def _decode_digest(text: str) -> bytes:
    try:
        if text.lower().startswith(_SHA256):
            return base64.b64decode(text[len(_SHA256) :], validate=True)
    except ValueError:
        pass
    raise RequestError(MALFORMED_DIGEST)


async def _restore(
    call: Call, upload: SnapshotUpload, uploaded: UploadedSnapshot
) -> int:
    """Return the index at which the state took the place of the one that was."""
    services = call.services
    restore_id, at_ns = services.ids.new_id(), services.clock.now_ns()
    try:
        await _propose(
            call,
            BeginRestore(
                restore_id=restore_id,
                byte_count=uploaded.byte_count,
                sha256=uploaded.sha256,
                at_ns=at_ns,
            ),
        )
        number = 0
        async for piece in upload.pieces():
            await _propose(
                call,
                AddRestorePiece(
                    restore_id=restore_id, number=number, piece=piece, at_ns=at_ns
                ),
            )
            number += 1
    except NodestateError:
        await _abandon(call, restore_id)
        raise
    return await _finish(call, restore_id, at_ns)


async def _finish(call: Call, restore_id: str, at_ns: int) -> int:
    call.restart_clock()
    try:
        accepted = await call.propose(FinishRestore(restore_id=restore_id, at_ns=at_ns))
    except OutcomeUnknownError:
        problem = Problem(504, FINISH_UNKNOWN, outcome=OUTCOME_IS_UNKNOWN)
        raise ProblemError(problem) from None
    except NodestateError:
        await _abandon(call, restore_id)
        raise
    if call.is_replayed:
        # The same request was granted before, and what came since then is not undone.
        await _abandon(call, restore_id)
    return accepted.index


async def _propose(call: Call, command: Restoring) -> None:
    """Take a step; one that may still happen changes nothing that can be read."""
    call.restart_clock()
    command = replace(command, asked_by=call.asked_by())
    try:
        outcome = await call.services.proposer.propose(
            command, deadline_s=call.remaining_s()
        )
    except OutcomeUnknownError:
        raise ProblemError(Problem(503, NOT_RESTORED)) from None
    if isinstance(outcome, Refused):
        raise refused(outcome)


async def _abandon_other(call: Call) -> None:
    """Abandon the restore that is under way, if there is one."""
    call.restart_clock()
    services = call.services
    await blocking.wait_until_linearizable(services, deadline_s=call.remaining_s())
    other = services.view.state().restore
    if isinstance(other, StagedRestore):
        await _abandon(call, other.restore_id)


async def _abandon(call: Call, restore_id: str) -> None:
    """Let the servers forget a restore; if that fails they do so by themselves, later."""
    command = AbandonRestore(restore_id=restore_id, at_ns=call.services.clock.now_ns())
    with contextlib.suppress(NodestateError):
        await _propose(call, command)
