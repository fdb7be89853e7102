"""The tables, their secondary indexes, and the index at which each last changed."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from nodestate.fsm.capacity import Claim, claim_of, takes_room
from nodestate.fsm.indexes import GroupIndex
from nodestate.model.acl import (
    ACLBootstrap,
    ACLPolicy,
    ACLRole,
    ACLToken,
    secret_digest,
)
from nodestate.model.allocation import Allocation
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import (
    JOB_VERSIONS_MAX,
    Job,
    JobKey,
    JobSummary,
    JobType,
    JobVersionKey,
    version_key,
)
from nodestate.model.node import Node, NodeKey
from nodestate.model.request import KeptKey, KeyId, Session, SessionId
from nodestate.secret import Secret

NODES: Final = "nodes"
ALLOCATIONS: Final = "allocations"
EVALUATIONS: Final = "evaluations"
JOBS: Final = "jobs"
ACL_POLICIES: Final = "acl_policies"
ACL_TOKENS: Final = "acl_tokens"
ACL_ROLES: Final = "acl_roles"
ACL_BOOTSTRAP: Final = "acl_bootstrap"
TABLES: Final = (
    NODES,
    ALLOCATIONS,
    EVALUATIONS,
    JOBS,
    ACL_POLICIES,
    ACL_TOKENS,
    ACL_ROLES,
    ACL_BOOTSTRAP,
)
BOOTSTRAP_KEY: Final = "global"
"""Under what the only record of its table is."""


class Work(NamedTuple):
    """How much there is of a job: what neither side has ended, and what is not over."""

    live_allocations: int = 0
    open_evaluations: int = 0


NO_WORK: Final = Work()


class Usage(NamedTuple):
    """What the allocations of a node that take room take: MHz, MiB, MiB.

    `networked` is how many of them have networks, which no sum can say enough of.
    """

    cpu: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    networked: int = 0


NO_USAGE: Final = Usage()


class Restore(Protocol):
    """A state on its way here, piece by piece; `restores` knows what it is."""

    @property
    def begun_index(self) -> int:
        """Return the index of the entry that announced it."""


class State:
    """Everything that is replicated.

    Only `apply` changes it. The read side is the methods below; records are immutable,
    so what they return may be kept.
    """

    __slots__ = (
        "accessors_by_secret",
        "acl_bootstrap",
        "acl_policies",
        "acl_role_ids",
        "acl_roles",
        "acl_secrets",
        "acl_tokens",
        "allocations",
        "allocations_by_evaluation",
        "allocations_by_job",
        "allocations_by_node",
        "allocations_by_version",
        "blocked_ids",
        "draining_keys",
        "evaluations",
        "evaluations_by_job",
        "idempotency_keys",
        "idempotency_order",
        "indexes",
        "job_summaries",
        "job_versions",
        "jobs",
        "node_keys",
        "node_secrets",
        "nodes",
        "nodes_by_secret",
        "restore",
        "sessions",
        "system_job_keys",
        "usage_by_node",
        "versions_by_job",
        "work_by_job",
    )

    def __init__(self) -> None:
        self.nodes: dict[NodeKey, Node] = {}
        self.node_keys: list[NodeKey] = []  # sorted: the order of the id's bytes
        self.draining_keys: dict[NodeKey, None] = {}
        self.node_secrets: dict[NodeKey, bytes] = {}
        self.nodes_by_secret: GroupIndex[bytes, NodeKey] = GroupIndex()
        self.jobs: dict[JobKey, Job] = {}
        self.system_job_keys: dict[JobKey, None] = {}
        self.job_versions: dict[JobVersionKey, Job] = {}
        self.versions_by_job: GroupIndex[JobKey, JobVersionKey] = GroupIndex()
        self.job_summaries: dict[JobKey, JobSummary] = {}
        self.work_by_job: dict[JobKey, Work] = {}
        self.allocations: dict[str, Allocation] = {}
        self.usage_by_node: dict[NodeKey, Usage] = {}
        self.allocations_by_node: GroupIndex[NodeKey, str] = GroupIndex()
        self.allocations_by_job: GroupIndex[JobKey, str] = GroupIndex()
        self.allocations_by_version: GroupIndex[JobVersionKey, str] = GroupIndex()
        self.allocations_by_evaluation: GroupIndex[str, str] = GroupIndex()
        self.evaluations: dict[str, Evaluation] = {}
        self.evaluations_by_job: GroupIndex[JobKey, str] = GroupIndex()
        self.blocked_ids: dict[str, None] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.idempotency_keys: dict[KeyId, KeptKey] = {}  # the oldest first
        self.idempotency_order: deque[KeyId] = deque()
        self.acl_policies: dict[str, ACLPolicy] = {}
        self.acl_tokens: dict[str, ACLToken] = {}
        self.acl_secrets: dict[str, Secret] = {}
        self.accessors_by_secret: dict[bytes, str] = {}
        self.acl_roles: dict[str, ACLRole] = {}
        self.acl_role_ids: dict[str, str] = {}  # by name
        self.acl_bootstrap: dict[str, ACLBootstrap] = {}
        self.indexes: dict[str, int] = dict.fromkeys(TABLES, 0)
        self.restore: Restore | None = None  # in no snapshot and no digest

    def shallow_copy(self) -> "State":
        """Return a state that stays as it is now; it shares the records.

        Only for reading: sessions, which are changed in place, are copied for that.
        """
        copy = State()
        copy.nodes = self.nodes.copy()
        copy.node_keys = self.node_keys.copy()
        copy.draining_keys = self.draining_keys.copy()
        copy.node_secrets = self.node_secrets.copy()
        copy.nodes_by_secret = self.nodes_by_secret.copy()
        copy.jobs = self.jobs.copy()
        copy.system_job_keys = self.system_job_keys.copy()
        copy.job_versions = self.job_versions.copy()
        copy.versions_by_job = self.versions_by_job.copy()
        copy.job_summaries = self.job_summaries.copy()
        copy.work_by_job = self.work_by_job.copy()
        copy.allocations = self.allocations.copy()
        copy.usage_by_node = self.usage_by_node.copy()
        copy.allocations_by_node = self.allocations_by_node.copy()
        copy.allocations_by_job = self.allocations_by_job.copy()
        copy.allocations_by_version = self.allocations_by_version.copy()
        copy.allocations_by_evaluation = self.allocations_by_evaluation.copy()
        copy.evaluations = self.evaluations.copy()
        copy.evaluations_by_job = self.evaluations_by_job.copy()
        copy.blocked_ids = self.blocked_ids.copy()
        copy.sessions = {
            id_: replace(session, outcomes=session.outcomes.copy())
            for id_, session in self.sessions.items()
        }
        copy.idempotency_keys = self.idempotency_keys.copy()
        copy.idempotency_order = self.idempotency_order.copy()
        copy.acl_policies = self.acl_policies.copy()
        copy.acl_tokens = self.acl_tokens.copy()
        copy.acl_secrets = self.acl_secrets.copy()
        copy.accessors_by_secret = self.accessors_by_secret.copy()
        copy.acl_roles = self.acl_roles.copy()
        copy.acl_role_ids = self.acl_role_ids.copy()
        copy.acl_bootstrap = self.acl_bootstrap.copy()
        copy.indexes = self.indexes.copy()
        return copy

    @property
    def is_restoring(self) -> bool:
        """Say whether a restore is under way: a snapshot now would not have it."""
        return self.restore is not None

    def node(self, key: NodeKey) -> Node | None:
        """Return the node, `None` if there is none."""
        return self.nodes.get(key)

    def nodes_with_secret(self, secret_sha256: bytes) -> list[NodeKey]:
        """Return the nodes whose secret has this digest, sorted by key; mostly one."""
        return sorted(self.nodes_by_secret.group(secret_sha256))

    def table_index(self, table: str) -> int:
        """Return the index of the last entry that changed the table, 0 if none did."""
        return self.indexes[table]

    def nodes_under(self, prefix: str) -> Iterator[Node]:
        """Yield the nodes whose key starts with `prefix`, in order; all for `""`."""
        position = bisect_left(self.node_keys, prefix)
        while position < len(self.node_keys):
            key = self.node_keys[position]
            if not key.startswith(prefix):
                return
            yield self.nodes[key]
            position += 1

    def draining_nodes(self) -> list[tuple[NodeKey, Node]]:
        """Return the nodes that drain, sorted by key; most of the time there are none."""
        return [(key, self.nodes[key]) for key in sorted(self.draining_keys)]

    def job(self, key: JobKey) -> Job | None:
        """Return the job as it is wanted now, `None` if there is none."""
        return self.jobs.get(key)

    def job_of(self, allocation: Allocation) -> Job | None:
        """Return the job as the allocation runs it; every placed one has it."""
        return self.job_versions.get(allocation.version_key)

    def versions_of(self, key: JobKey) -> list[Job]:
        """Return the versions of a job that are kept, the newest first."""
        keys = sorted(self.versions_by_job.group(key), reverse=True)
        return [self.job_versions[version] for version in keys]

    def system_jobs(self) -> list[Job]:
        """Return the system jobs, sorted by key."""
        return [self.jobs[key] for key in sorted(self.system_job_keys)]

    def work_of(self, key: JobKey) -> Work:
        """Return how much there is of a job."""
        return self.work_by_job.get(key, NO_WORK)

    def usage_of(self, key: NodeKey) -> Usage:
        """Return what is taken on a node, be it there or not."""
        return self.usage_by_node.get(key, NO_USAGE)

    def allocations_on(self, key: NodeKey) -> list[Allocation]:
        """Return a node's allocations, sorted by id."""
        return self._allocations(self.allocations_by_node.group(key))

    def allocations_of(self, key: JobKey) -> list[Allocation]:
        """Return a job's allocations, of all its versions, sorted by id."""
        return self._allocations(self.allocations_by_job.group(key))

    def allocations_from(self, eval_id: str) -> list[Allocation]:
        """Return the allocations that an evaluation made or changed, sorted by id."""
        return self._allocations(self.allocations_by_evaluation.group(eval_id))

    def _allocations(self, ids: Iterable[str]) -> list[Allocation]:
        return [self.allocations[id_] for id_ in sorted(ids)]

    def evaluations_of(self, key: JobKey) -> list[Evaluation]:
        """Return a job's evaluations, sorted by id."""
        ids = sorted(self.evaluations_by_job.group(key))
        return [self.evaluations[id_] for id_ in ids]

    def blocked_evaluations(self) -> list[Evaluation]:
        """Return the evaluations that wait for room, sorted by id."""
        return [self.evaluations[id_] for id_ in sorted(self.blocked_ids)]

    def acl_token_of(self, secret: str) -> ACLToken | None:
        """Return the token with this secret, a UUID in lower case; `None` if none has it."""
        accessor_id = self.accessors_by_secret.get(secret_digest(secret))
        return None if accessor_id is None else self.acl_tokens[accessor_id]

    def acl_role_named(self, name: str) -> ACLRole | None:
        """Return the role, `None` if there is none of that name."""
        id_ = self.acl_role_ids.get(name)
        return None if id_ is None else self.acl_roles[id_]

    def put_node(self, key: NodeKey, node: Node) -> None:
        """Write a record; for `evolve_*` alone."""
        if key not in self.nodes:
            insort(self.node_keys, key)
        self.nodes[key] = node
        if node.is_draining:
            self.draining_keys[key] = None
        else:
            self.draining_keys.pop(key, None)

    def remove_node(self, key: NodeKey) -> None:
        """Remove a record and its secret; for `evolve_*` alone."""
        del self.nodes[key]
        del self.node_keys[bisect_left(self.node_keys, key)]
        self.draining_keys.pop(key, None)
        secret_sha256 = self.node_secrets.pop(key, None)
        if secret_sha256 is not None:
            self.nodes_by_secret.discard(secret_sha256, key)

    def put_node_secret(self, key: NodeKey, secret_sha256: bytes) -> None:
        """Write the digest of a node's secret; for `evolve_*` alone."""
        known = self.node_secrets.get(key)
        if known is not None:
            self.nodes_by_secret.discard(known, key)
        self.node_secrets[key] = secret_sha256
        self.nodes_by_secret.add(secret_sha256, key)

    def put_job(self, job: Job) -> None:
        """Write a record; for `evolve_*` alone."""
        self.jobs[job.key] = job
        if job.type is JobType.SYSTEM:
            self.system_job_keys[job.key] = None

    def remove_job(self, key: JobKey) -> None:
        """Remove a record; for `evolve_*` alone."""
        del self.jobs[key]
        self.system_job_keys.pop(key, None)
        self.job_summaries.pop(key, None)

    def put_job_version(self, job: Job) -> None:
        """Keep a version of a job; for `evolve_*` alone."""
        key = version_key(job)
        self.job_versions[key] = job
        self.versions_by_job.add(key.job_key, key)

    def prune_versions(self, key: JobKey) -> None:
        """Drop the versions that are neither recent nor run; for `evolve_*` alone."""
        job = self.jobs.get(key)
        for version in tuple(self.versions_by_job.group(key)):
            is_recent = (
                job is not None
                and version.create_index == job.create_index
                and version.version > job.version - JOB_VERSIONS_MAX
            )
            if not is_recent and not self.allocations_by_version.count(version):
                del self.job_versions[version]
                self.versions_by_job.discard(key, version)

    def put_allocation(self, allocation: Allocation) -> None:
        """Write a record and enter it in the indexes; for `evolve_*` alone."""
        known = self.allocations.get(allocation.id)
        self.allocations[allocation.id] = allocation
        self._count_work(
            allocation.job_key,
            allocations=_live(allocation) - (0 if known is None else _live(known)),
        )
        self._count_usage(known, allocation)
        if known is not None and _is_filed_alike(known, allocation):
            return
        if known is not None:
            self._unfile_allocation(known)
        self.allocations_by_node.add(allocation.node_key, allocation.id)
        self.allocations_by_job.add(allocation.job_key, allocation.id)
        self.allocations_by_version.add(allocation.version_key, allocation.id)
        self.allocations_by_evaluation.add(allocation.eval_id, allocation.id)

    def remove_allocation(self, id_: str) -> None:
        """Remove a record; for `evolve_*` alone."""
        allocation = self.allocations.pop(id_)
        self._count_work(allocation.job_key, allocations=-_live(allocation))
        self._count_usage(allocation, None)
        self._unfile_allocation(allocation)

    def _unfile_allocation(self, allocation: Allocation) -> None:
        self.allocations_by_node.discard(allocation.node_key, allocation.id)
        self.allocations_by_job.discard(allocation.job_key, allocation.id)
        self.allocations_by_version.discard(allocation.version_key, allocation.id)
        self.allocations_by_evaluation.discard(allocation.eval_id, allocation.id)

    def _count_usage(self, before: Allocation | None, after: Allocation | None) -> None:
        if before is not None and after is not None and _takes_alike(before, after):
            return
        for allocation, sign in ((before, -1), (after, 1)):
            if allocation is not None and takes_room(allocation):
                claim = claim_of(allocation.allocated_resources)
                self._add_usage(allocation.node_key, claim, sign)

    def _add_usage(self, key: NodeKey, claim: Claim, sign: int) -> None:
        cpu, memory_mb, disk_mb, networked = self.usage_of(key)
        now = Usage(
            cpu + sign * claim.cpu,
            memory_mb + sign * claim.memory_mb,
            disk_mb + sign * claim.disk_mb,
            networked + (sign if claim.networks else 0),
        )
        if now == NO_USAGE:
            self.usage_by_node.pop(key, None)
        else:
            self.usage_by_node[key] = now

    def put_evaluation(self, evaluation: Evaluation) -> None:
        """Write a record and enter it in the indexes; for `evolve_*` alone."""
        known = self.evaluations.get(evaluation.id)
        if known is not None:
            self._unfile_evaluation(known)
        self.evaluations[evaluation.id] = evaluation
        self.evaluations_by_job.add(evaluation.job_key, evaluation.id)
        if evaluation.is_blocked:
            self.blocked_ids[evaluation.id] = None
        self._count_work(evaluation.job_key, evaluations=_open(evaluation))

    def remove_evaluation(self, id_: str) -> None:
        """Remove a record; for `evolve_*` alone."""
        self._unfile_evaluation(self.evaluations.pop(id_))

    def _unfile_evaluation(self, evaluation: Evaluation) -> None:
        self.evaluations_by_job.discard(evaluation.job_key, evaluation.id)
        self.blocked_ids.pop(evaluation.id, None)
        self._count_work(evaluation.job_key, evaluations=-_open(evaluation))

    def _count_work(
        self, key: JobKey, *, allocations: int = 0, evaluations: int = 0
    ) -> None:
        if not allocations and not evaluations:
            return
        work = self.work_of(key)
        now = Work(
            work.live_allocations + allocations, work.open_evaluations + evaluations
        )
        if now == NO_WORK:
            del self.work_by_job[key]
        else:
            self.work_by_job[key] = now

    def put_acl_secret(self, accessor_id: str, secret: Secret) -> None:
        """Write a token's secret, and what it is found by; for `evolve_*` alone."""
        self.acl_secrets[accessor_id] = secret
        self.accessors_by_secret[secret_digest(secret.reveal())] = accessor_id

    def remove_acl_token(self, accessor_id: str) -> None:
        """Remove a record and its secret; for `evolve_*` alone."""
        del self.acl_tokens[accessor_id]
        secret = self.acl_secrets.pop(accessor_id, None)
        if secret is not None:
            del self.accessors_by_secret[secret_digest(secret.reveal())]

    def put_acl_role(self, role: ACLRole) -> None:
        """Write a record under its id and its name; for `evolve_*` alone."""
        known = self.acl_roles.get(role.id)
        if known is not None:
            del self.acl_role_ids[known.name]
        self.acl_roles[role.id] = role
        self.acl_role_ids[role.name] = role.id

    def remove_acl_role(self, id_: str) -> None:
        """Remove a record; for `evolve_*` alone."""
        del self.acl_role_ids[self.acl_roles.pop(id_).name]

    def put_idempotency_key(self, key_id: KeyId, kept: KeptKey) -> None:
        """Write a record behind all others; for `evolve_*` alone."""
        assert key_id not in self.idempotency_keys, "a key is kept until it is dropped"
        self.idempotency_keys[key_id] = kept
        self.idempotency_order.append(key_id)

    def oldest_idempotency_key(self) -> KeptKey | None:
        """Return the record that is dropped next, `None` if there is none.

        The order is kept beside the table: a map that loses its first record again and
        again takes longer and longer to find the next one.
        """
        order = self.idempotency_order
        return self.idempotency_keys[order[0]] if order else None

    def drop_oldest_idempotency_key(self) -> None:
        """Remove that record; for `evolve_*` alone."""
        del self.idempotency_keys[self.idempotency_order.popleft()]


def _live(allocation: Allocation) -> int:
    return 0 if allocation.is_terminal else 1


def _open(evaluation: Evaluation) -> int:
    return 0 if evaluation.is_terminal else 1


def _takes_alike(before: Allocation, after: Allocation) -> bool:
    return (
        before.allocated_resources is after.allocated_resources
        and before.node_key == after.node_key
        and takes_room(before) == takes_room(after)
    )


def _is_filed_alike(known: Allocation, allocation: Allocation) -> bool:
    return (
        known.node_key == allocation.node_key
        and known.eval_id == allocation.eval_id
        and known.version_key == allocation.version_key
    )
