"""Requests that were answered, so that the same one again gets its first outcome.

Two tables, read with `decide_*` and written with `evolve_*` as all others. `sessions`
(Raft thesis, section 6.3) has what each server has proposed since it started, as far as
it may still wait for it. `idempotency_keys` has the keys that callers gave. Both are
bounded by the log alone: by how much was asked since, and by the times in commands.

What may have been forgotten is refused, and never applied again.
"""

from typing import Final

from msgspec.structs import replace

from nodestate.fsm.state import State
from nodestate.model.command import Command
from nodestate.model.outcome import (
    KEY_REUSED,
    STALE_REQUEST,
    Accepted,
    Outcome,
    RefusalCode,
    Refused,
)
from nodestate.model.request import (
    IdempotencyKey,
    KeptKey,
    Origin,
    Remembered,
    Request,
    Session,
)

OUTCOMES_MAX: Final = 100_000
"""Outcomes kept of one session. A proposer does not get further ahead of what it waits
for, so that nothing that is waited for is forgotten."""
SESSIONS_MAX: Final = 64
SESSION_ENTRIES_MIN: Final = 100_000
"""For so many entries a session is kept whatever their number: longer than a proposer
waits for anything."""
KEYS_MAX: Final = 50_000
"""Keys kept; a batch counts for as many as it has registrations and evaluations more."""
KEY_AGE_NS: Final = 24 * 3600 * 1_000_000_000

_STALE: Final = Refused(RefusalCode.STALE_REQUEST, STALE_REQUEST)
_REUSED: Final = Refused(RefusalCode.KEY_REUSED, KEY_REUSED)


# The proposer's id


def find_remembered(state: State, origin: Origin) -> Remembered | None:
    """Return what a proposal was told, `None` if that is not or no longer known."""
    session = state.sessions.get((origin.server_id, origin.boot_id))
    return None if session is None else session.outcomes.get(origin.sequence)


def decide_request(state: State, request: Request) -> Outcome | None:
    """Return the outcome of a request that must not be applied now, `None` of a new one."""
    origin = request.origin
    session = state.sessions.get((origin.server_id, origin.boot_id))
    if session is None:
        # Whoever has forgotten sequences was there before, and may have been forgotten.
        is_new = request.floor == 1 <= origin.sequence
        return None if is_new else _STALE
    remembered = session.outcomes.get(origin.sequence)
    if remembered is not None:
        return remembered.outcome
    if origin.sequence < session.floor or origin.sequence < request.floor:
        return _STALE
    return None


def evolve_request_answered(
    state: State, request: Request, outcome: Outcome, index: int
) -> None:
    """Remember what a new request was told, and forget what nobody waits for."""
    origin = request.origin
    session = state.sessions.get((origin.server_id, origin.boot_id))
    if session is None:
        _forget_sessions(state, index)
        session = state.sessions[origin.server_id, origin.boot_id] = Session()
    if request.floor > session.floor:
        _forget_below(session, request.floor)
    session.last_index = index
    session.outcomes[origin.sequence] = Remembered(index, outcome)
    if len(session.outcomes) > OUTCOMES_MAX:
        # Many at a time, so that finding out which is not done for each.
        oldest = sorted(session.outcomes)[: OUTCOMES_MAX // 8]
        _forget_below(session, oldest[-1] + 1)


def _forget_below(session: Session, floor: int) -> None:
    outcomes = session.outcomes
    if floor - session.floor <= len(outcomes):
        for sequence in range(session.floor, floor):
            outcomes.pop(sequence, None)
    else:
        for sequence in [known for known in outcomes if known < floor]:
            del outcomes[sequence]
    session.floor = floor


def _forget_sessions(state: State, index: int) -> None:
    """Make room for one more session, if there are any that are old enough."""
    sessions = state.sessions
    while len(sessions) >= SESSIONS_MAX:
        oldest = min(sessions, key=lambda id_: sessions[id_].last_index)
        if sessions[oldest].last_index > index - SESSION_ENTRIES_MIN:
            return
        del sessions[oldest]


# The caller's key


def decide_key(state: State, key: IdempotencyKey, command: Command) -> Outcome | None:
    """Return what the key's first request was told, or that this is another request.

    `None` if the key is new, or its time is over.
    """
    kept = state.idempotency_keys.get((command.asked_by, key.key))
    if kept is None or _is_over(kept, _log_time_ns(state, command)):
        return None
    if kept.fingerprint != key.fingerprint:
        return _REUSED
    return replace(kept.outcome, is_replayed=True)


def evolve_key_used(
    state: State, key: IdempotencyKey, command: Command, outcome: Outcome, index: int
) -> None:
    """Keep what a key's first request was told, and drop keys over age and number."""
    at_ns = _log_time_ns(state, command)
    total = _latest_total(state) + _weight(outcome)
    while (oldest := state.oldest_idempotency_key()) is not None:
        if not _is_over(oldest, at_ns) and total - oldest.total < KEYS_MAX:
            break
        state.drop_oldest_idempotency_key()
    kept = KeptKey(key.fingerprint, index, outcome, at_ns, total)
    state.put_idempotency_key((command.asked_by, key.key), kept)


def _latest(state: State) -> KeptKey | None:
    order = state.idempotency_order
    return state.idempotency_keys[order[-1]] if order else None


def _latest_total(state: State) -> int:
    latest = _latest(state)
    return 0 if latest is None else latest.total


def _log_time_ns(state: State, command: Command) -> int:
    """Return the latest time that a request with a key came at, this one included.

    Servers' clocks differ, and time goes backwards between them; this does not.
    """
    latest = _latest(state)
    return command.at_ns if latest is None else max(command.at_ns, latest.at_ns)


def _is_over(kept: KeptKey, at_ns: int) -> bool:
    return at_ns - kept.at_ns > KEY_AGE_NS


def _weight(outcome: Outcome) -> int:
    if isinstance(outcome, Accepted):
        return 1 + len(outcome.registrations) + len(outcome.eval_ids)
    return 1
