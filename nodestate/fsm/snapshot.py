"""State to bytes and back: the same bytes for the same state, on every server."""

import hashlib
from typing import Final

import msgspec

from nodestate.errors import SnapshotError
from nodestate.fsm.canonical import canonical
from nodestate.fsm.state import State
from nodestate.model.acl import ACLBootstrap, ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import Allocation
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobSummary
from nodestate.model.node import Node, NodeKey
from nodestate.model.request import KeptKey, Remembered, Session
from nodestate.secret import Secret

FORMAT_VERSION: Final = 1


class _SessionRow(msgspec.Struct, frozen=True, array_like=True):
    """A session; its outcomes sorted by sequence."""

    server_id: str
    boot_id: str
    floor: int
    last_index: int
    outcomes: list[tuple[int, Remembered]]


class _KeyRow(msgspec.Struct, frozen=True, array_like=True):
    asked_by: str
    key: str
    kept: KeptKey


class _Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a snapshot holds, each table sorted by key; keys of requests as they came.

    Tables that came later are left out while they are empty: then the bytes are those
    that an older server writes.
    """

    version: int
    indexes: dict[str, int]
    nodes: list[tuple[NodeKey, Node]]
    node_secrets: list[tuple[NodeKey, bytes]]
    jobs: list[Job]
    allocations: list[Allocation]
    evaluations: list[Evaluation]
    sessions: list[_SessionRow] = []
    idempotency_keys: list[_KeyRow] = []
    job_versions: list[Job] = []
    job_summaries: list[JobSummary] = []
    acl_policies: list[ACLPolicy] = []
    acl_tokens: list[ACLToken] = []
    acl_secrets: list[tuple[str, Secret]] = []
    acl_roles: list[ACLRole] = []
    acl_bootstrap: list[tuple[str, ACLBootstrap]] = []


_DECODER: Final = msgpack_decoder(_Image)


def encode_state(state: State) -> bytes:
    """Return the whole state as bytes."""
    return MSGPACK.encode(
        _Image(
            version=FORMAT_VERSION,
            indexes=state.indexes,
            nodes=[(key, state.nodes[key]) for key in state.node_keys],
            node_secrets=sorted(state.node_secrets.items()),
            jobs=[job for _, job in sorted(state.jobs.items())],
            allocations=[item for _, item in sorted(state.allocations.items())],
            evaluations=[item for _, item in sorted(state.evaluations.items())],
            sessions=[
                _SessionRow(
                    *id_,
                    session.floor,
                    session.last_index,
                    sorted(session.outcomes.items()),
                )
                for id_, session in sorted(state.sessions.items())
            ],
            idempotency_keys=[
                _KeyRow(*id_, kept) for id_, kept in state.idempotency_keys.items()
            ],
            job_versions=[job for _, job in sorted(state.job_versions.items())],
            job_summaries=[item for _, item in sorted(state.job_summaries.items())],
            acl_policies=[item for _, item in sorted(state.acl_policies.items())],
            acl_tokens=[item for _, item in sorted(state.acl_tokens.items())],
            acl_secrets=sorted(state.acl_secrets.items()),
            acl_roles=[item for _, item in sorted(state.acl_roles.items())],
            acl_bootstrap=sorted(state.acl_bootstrap.items()),
        )
    )


def decode_state(content: bytes) -> State:
    """Return the state that was written; `SnapshotError` if it cannot be read."""
    try:
        image = _DECODER.decode(content)
    except (msgspec.MsgspecError, ValueError) as error:
        # msgspec lets a text that is no UTF-8 through as Python's own error.
        raise SnapshotError(f"snapshot cannot be read: {error}") from error
    if image.version != FORMAT_VERSION:
        raise SnapshotError(
            f"snapshot has format {image.version}, this server reads {FORMAT_VERSION}"
        )
    state = State()
    state.indexes.update(image.indexes)
    for key, node in image.nodes:
        state.put_node(key, canonical(node))
    for key, secret_sha256 in image.node_secrets:
        state.put_node_secret(key, secret_sha256)
    _put_work(state, image)
    _put_acl(state, image)
    for row in image.sessions:
        state.sessions[row.server_id, row.boot_id] = Session(
            row.floor, row.last_index, dict(row.outcomes)
        )
    for keyed in image.idempotency_keys:
        state.put_idempotency_key((keyed.asked_by, keyed.key), keyed.kept)
    return state


def _put_work(state: State, image: _Image) -> None:
    for job in image.jobs:
        state.put_job(job)
    for job in image.job_versions:
        state.put_job_version(job)
    for summary in image.job_summaries:
        state.job_summaries[JobKey((summary.namespace, summary.job_id))] = summary
    for allocation in image.allocations:
        state.put_allocation(allocation)
    for evaluation in image.evaluations:
        state.put_evaluation(evaluation)


def _put_acl(state: State, image: _Image) -> None:
    for policy in image.acl_policies:
        state.acl_policies[policy.name] = policy
    for token in image.acl_tokens:
        state.acl_tokens[token.accessor_id] = token
    for accessor_id, secret in image.acl_secrets:
        state.put_acl_secret(accessor_id, secret)
    for role in image.acl_roles:
        state.put_acl_role(role)
    state.acl_bootstrap.update(image.acl_bootstrap)


def digest(state: State) -> str:
    """Return the SHA-256 of the state's bytes, in hex."""
    return hashlib.sha256(encode_state(state)).hexdigest()
