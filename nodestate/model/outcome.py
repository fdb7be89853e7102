"""What a proposer is told: the same on every server, for the same entry."""

from enum import StrEnum
from typing import Final

import msgspec

from nodestate.model.plan import PlanResult


class RefusalCode(StrEnum):
    """Why the state machine refused; the API has one table from code to status."""

    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    KEY_REUSED = "key_reused"
    STALE_REQUEST = "stale_request"
    OUTDATED_PERMIT = "outdated_permit"


NODE_NOT_FOUND: Final = "node not found"
INVALID_ELIGIBILITY: Final = "invalid scheduling eligibility"
ELIGIBLE_WHILE_DRAINING: Final = (
    "can not set node's scheduling eligibility to eligible while it is draining"
)
NODE_SECRET_MISMATCH: Final = "node secret ID does not match"  # noqa: S105  a text
REGISTER_SECRET_MISMATCH: Final = "node secret ID does not match. Not registering node."  # noqa: S105  a text
KEY_REUSED: Final = (
    "Idempotency-Key was used for another request: a new request needs a new key"
)
STALE_REQUEST: Final = "request id is no longer remembered"
OUTDATED_PERMIT: Final = "the token or its policies have changed meanwhile"
PERMISSION_DENIED: Final = "Permission denied"


JOB_NOT_FOUND: Final = "job not found"
ALLOCATION_NOT_FOUND: Final = "alloc not found"
EVALUATION_NOT_FOUND: Final = "eval not found"
PLAN_IS_OLD: Final = "the evaluation has changed since the plan was made"
EVALUATION_IS_OLD: Final = "the evaluation has changed since"
ACL_POLICY_NOT_FOUND: Final = "ACL policy not found"
ACL_TOKEN_NOT_FOUND: Final = "ACL token not found"  # noqa: S105  a text
ACL_ROLE_NOT_FOUND: Final = "ACL role not found"
ACL_BOOTSTRAP_DONE: Final = "ACL bootstrap already done (reset index: {})"
ACL_BOOTSTRAP_WRONG_RESET: Final = (
    "Invalid bootstrap reset index (specified {}, reset index: {})"
)
ACL_SECRET_IN_USE: Final = "another token has this SecretID"  # noqa: S105  a text


class Refused(msgspec.Struct, frozen=True, gc=False, tag="refused", omit_defaults=True):
    """Nothing changed, and why. `is_replayed` is as for `Accepted`."""

    code: RefusalCode
    reason: str
    is_replayed: bool = False


class RegistrationResult(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True
):
    """What became of one node of a registration: accepted, or refused with a reason."""

    node_id: str
    refused: Refused | None = None
    node_modify_index: int = 0
    eval_ids: tuple[str, ...] = ()
    is_down: bool = False  # registered as down: it gets no TTL


class RefusedReport(msgspec.Struct, frozen=True, gc=False):
    """An agent's report that was refused, by its place among those of the entry."""

    number: int
    refused: Refused


class Accepted(
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    tag="accepted",
    omit_defaults=True,
):
    """Applied. `index` is the entry's, or 0 when it changed nothing.

    `node_count` is the number of registered nodes after the entry. Evaluations are made
    by the entry itself, so `eval_create_index` is `index` wherever there are any.
    `job_modify_index` is that of the job that was asked about, 0 if there is none.
    `written_ids` are the accessors of tokens, or the ids of roles, that were written: the
    records themselves, and secrets, are in no outcome, which is kept for a long time.
    `is_replayed` says that the entry was not applied: this is what was told to an earlier
    one with the same idempotency key.
    """

    index: int = 0
    node_modify_index: int = 0
    eval_ids: tuple[str, ...] = ()
    node_count: int = 0
    registrations: tuple[RegistrationResult, ...] = ()
    is_replayed: bool = False
    job_modify_index: int = 0
    refused_reports: tuple[RefusedReport, ...] = ()
    plan: PlanResult | None = None
    written_ids: tuple[str, ...] = ()

    @property
    def eval_create_index(self) -> int:
        """Return the index at which the evaluations were created, 0 without any."""
        return self.index if self.eval_ids else 0


Outcome = Accepted | Refused
