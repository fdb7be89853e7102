"""The tables, one line each: how its records are listed in order, and put back.

Snapshots and digests are made of what these lines give. A new table is a new line, and
its place in the list is for ever.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from nodestate.errors import SnapshotError
from nodestate.fsm.state import (
    ACL_BOOTSTRAP,
    ACL_POLICIES,
    ACL_ROLES,
    ACL_TOKENS,
    ALLOCATIONS,
    EVALUATIONS,
    JOBS,
    NODES,
    State,
)
from nodestate.model.acl import ACLBootstrap, ACLPolicy, ACLRole, ACLToken
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobSummary, JobVersionKey, version_key
from nodestate.model.node import Node, NodeKey
from nodestate.model.request import KeptKey, KeyId, Remembered, Session, SessionId
from nodestate.secret import Secret

RUN_KEYS: Final = 1024
"""How many keys are sorted at once: a whole table may take longer than others can wait."""

Item = tuple[Any, Any]
"""A record behind its key."""


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=_Ordered)


class Table(NamedTuple):
    """One table.

    `items` yields the records in an order that depends on nothing but the table, and
    `None` where others may have their turn. `put` writes some of them behind all that
    the table has. Where the keys ascend, `is_sorted` holds a snapshot to it.
    """

    name: str
    key: Any
    record: Any
    items: Callable[[State], Iterator[Item | None]]
    count: Callable[[State], int]
    put: Callable[[State, list[Item]], None]
    is_sorted: bool = True


def in_order(keys: Iterable[K]) -> Iterator[K | None]:
    """Yield the keys sorted, and before that `None` after each part of the work."""
    runs: list[list[K]] = []
    rest = iter(keys)
    while run := sorted(islice(rest, RUN_KEYS)):
        runs.append(run)
        yield None
    yield from merge(*runs)


def _sorted_items(table: dict[Any, Any]) -> Iterator[Item | None]:
    for key in in_order(table):
        yield None if key is None else (key, table[key])


def _node_items(state: State) -> Iterator[Item]:
    return ((key, state.nodes[key]) for key in state.node_keys)


def _put_nodes(state: State, items: list[Item]) -> None:
    """Append them, which takes no search for each one's place."""
    state.nodes.update(items)
    state.node_keys += [key for key, _ in items]
    state.draining_keys |= {key: None for key, node in items if node.is_draining}


def _secret_items(state: State) -> Iterator[Item]:
    """Yield each secret in its node's place: the nodes are in order already."""
    secrets = state.node_secrets
    return ((key, secrets[key]) for key in state.node_keys if key in secrets)


def _put_secrets(state: State, items: list[Item]) -> None:
    for key, secret_sha256 in items:
        state.put_node_secret(key, secret_sha256)


def _put_jobs(state: State, items: list[Item]) -> None:
    for _, job in items:
        state.put_job(job)


def _put_allocations(state: State, items: list[Item]) -> None:
    for _, allocation in items:
        state.put_allocation(allocation)


def _put_evaluations(state: State, items: list[Item]) -> None:
    for _, evaluation in items:
        state.put_evaluation(evaluation)


def _put_job_versions(state: State, items: list[Item]) -> None:
    for key, job in items:
        if version_key(job) != key:
            raise SnapshotError(f"a version of job {key.job_id!r} is not what it says")
        state.put_job_version(job)


def _session_items(state: State) -> Iterator[Item]:
    """Yield the sessions without their outcomes, of which there may be many."""
    for key in sorted(state.sessions):
        session = state.sessions[key]
        yield key, (session.floor, session.last_index)


def _put_sessions(state: State, items: list[Item]) -> None:
    for key, (floor, last_index) in items:
        state.sessions[key] = Session(floor, last_index)


def _outcome_items(state: State) -> Iterator[Item | None]:
    for server_id, boot_id in sorted(state.sessions):
        session = state.sessions[server_id, boot_id]
        for sequence in in_order(session.outcomes):
            if sequence is None:
                yield None
            else:
                yield (server_id, boot_id, sequence), session.outcomes[sequence]


def _put_outcomes(state: State, items: list[Item]) -> None:
    for (server_id, boot_id, sequence), remembered in items:
        session = state.sessions.get((server_id, boot_id))
        if session is None:
            raise SnapshotError(f"there is no session of server {server_id}")
        session.outcomes[sequence] = remembered


def _put_idempotency_keys(state: State, items: list[Item]) -> None:
    for key_id, kept in items:
        if key_id in state.idempotency_keys:
            raise SnapshotError(f"idempotency key {key_id[1]!r} is there twice")
        state.put_idempotency_key(key_id, kept)


def _put_acl_policies(state: State, items: list[Item]) -> None:
    for name, policy in items:
        _check_key(ACL_POLICIES, name, policy.name)
        state.acl_policies[name] = policy


def _put_acl_tokens(state: State, items: list[Item]) -> None:
    for accessor_id, token in items:
        _check_key(ACL_TOKENS, accessor_id, token.accessor_id)
        state.acl_tokens[accessor_id] = token


def _put_acl_secrets(state: State, items: list[Item]) -> None:
    for accessor_id, secret in items:
        if accessor_id not in state.acl_tokens:
            raise SnapshotError(f"there is no token {accessor_id}, but its secret")
        if state.acl_token_of(secret.reveal()) is not None:
            raise SnapshotError(f"the secret of token {accessor_id} is another's, too")
        state.put_acl_secret(accessor_id, secret)


def _put_acl_roles(state: State, items: list[Item]) -> None:
    for id_, role in items:
        _check_key(ACL_ROLES, id_, role.id)
        if role.name in state.acl_role_ids:
            raise SnapshotError(f"role {role.name!r} is there twice")
        state.put_acl_role(role)


def _check_key(table: str, key: str, id_: str) -> None:
    if key != id_:
        raise SnapshotError(f"{key!r} in table {table} is not what it says")


TABLES: Final = (
    Table(NODES, NodeKey, Node, _node_items,
          lambda state: len(state.nodes), _put_nodes),
    Table("node_secrets", NodeKey, bytes, _secret_items,
          lambda state: len(state.node_secrets), _put_secrets),
    Table(JOBS, JobKey, Job, lambda state: _sorted_items(state.jobs),
          lambda state: len(state.jobs), _put_jobs),
    Table(ALLOCATIONS, str, Allocation, lambda state: _sorted_items(state.allocations),
          lambda state: len(state.allocations), _put_allocations),
    Table(EVALUATIONS, str, Evaluation, lambda state: _sorted_items(state.evaluations),
          lambda state: len(state.evaluations),
          _put_evaluations),
    Table("sessions", SessionId, tuple[int, int], _session_items,
          lambda state: len(state.sessions), _put_sessions),
    Table("session_outcomes", tuple[str, str, int], Remembered, _outcome_items,
          lambda state: sum(len(session.outcomes) for session in state.sessions.values()),
          _put_outcomes),
    Table("idempotency_keys", KeyId, KeptKey,
          lambda state: iter(state.idempotency_keys.items()),
          lambda state: len(state.idempotency_keys),
          _put_idempotency_keys, is_sorted=False),
    Table("job_versions", JobVersionKey, Job,
          lambda state: _sorted_items(state.job_versions),
          lambda state: len(state.job_versions), _put_job_versions),
    Table("job_summaries", JobKey, JobSummary,
          lambda state: _sorted_items(state.job_summaries),
          lambda state: len(state.job_summaries),
          lambda state, items: state.job_summaries.update(items)),
    Table(ACL_POLICIES, str, ACLPolicy,
          lambda state: _sorted_items(state.acl_policies),
          lambda state: len(state.acl_policies),
          _put_acl_policies),
    Table(ACL_TOKENS, str, ACLToken, lambda state: _sorted_items(state.acl_tokens),
          lambda state: len(state.acl_tokens), _put_acl_tokens),
    Table("acl_secrets", str, Secret, lambda state: _sorted_items(state.acl_secrets),
          lambda state: len(state.acl_secrets), _put_acl_secrets),
    Table(ACL_ROLES, str, ACLRole, lambda state: _sorted_items(state.acl_roles),
          lambda state: len(state.acl_roles), _put_acl_roles),
    Table(ACL_BOOTSTRAP, str, ACLBootstrap,
          lambda state: _sorted_items(state.acl_bootstrap),
          lambda state: len(state.acl_bootstrap),
          lambda state, items: state.acl_bootstrap.update(items)),
)  # fmt: skip
