"""What a server answers, as its clients read it: what it leaves out has a default."""

import msgspec

from nodestate.model.allocation import (
    AllocMetric,
    DeploymentStatus,
    DesiredTransition,
    RescheduleTracker,
    TaskState,
)
from nodestate.model.node import (
    Driver,
    HostVolume,
    LastDrain,
    NetworkResource,
    Record,
)
from nodestate.model.timestamp import NO_TIME, Timestamp
from nodestate.planning.differences import JobDiff


class NodeStub(Record, frozen=True, kw_only=True):
    """A node as the list shows it."""

    id: str
    name: str = ""
    datacenter: str = ""
    node_class: str = ""
    node_pool: str = ""
    address: str = ""
    version: str = ""
    drain: bool = False
    scheduling_eligibility: str = ""
    status: str = ""
    status_description: str = ""
    drivers: dict[str, Driver] | None = None
    host_volumes: dict[str, HostVolume] | None = None
    last_drain: LastDrain | None = None
    attributes: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class AllocationJob(Record, frozen=True, kw_only=True):
    """What a client needs to know about an allocation's job."""

    type: str = ""
    version: int = 0


class AllocationResources(Record, frozen=True, kw_only=True):
    """What an allocation takes."""

    cpu: int = msgspec.field(name="CPU", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    networks: list[NetworkResource] | None = None


class Allocation(Record, frozen=True, kw_only=True):
    """An allocation, in full or as the lists show it, as far as a client shows it.

    The full one has its `job`, the one of a list `job_version`; see `version`.
    """

    id: str
    eval_id: str = ""
    name: str = ""
    node_id: str = ""
    node_name: str = ""
    job_id: str = ""
    job_version: int = 0
    task_group: str = ""
    job: AllocationJob | None = None
    desired_status: str = ""
    desired_description: str = ""
    desired_transition: DesiredTransition | None = None
    client_status: str = ""
    client_description: str = ""
    task_states: dict[str, TaskState] | None = None
    deployment_status: DeploymentStatus | None = None
    reschedule_tracker: RescheduleTracker | None = None
    followup_eval_id: str = ""
    previous_allocation: str = ""
    next_allocation: str = ""
    resources: AllocationResources | None = None
    task_resources: dict[str, AllocationResources] | None = None
    metrics: AllocMetric | None = None
    create_time: int = 0
    modify_time: int = 0
    create_index: int = 0
    modify_index: int = 0

    @property
    def version(self) -> int:
        """Return which version of its job it runs."""
        return self.job_version if self.job is None else self.job.version


class JobStub(Record, frozen=True, kw_only=True):
    """A job as the list shows it."""

    id: str
    name: str = ""
    type: str = ""
    priority: int = 0
    stop: bool = False
    status: str = ""
    submit_time: int = 0
    job_modify_index: int = 0


class JobWritten(Record, frozen=True, kw_only=True):
    """The answer to a change of a job or of an allocation; `eval_id` is empty for none."""

    index: int = 0
    eval_id: str = ""
    eval_create_index: int = 0
    job_modify_index: int = 0
    warnings: str = ""


class DesiredUpdates(Record, frozen=True, kw_only=True):
    """How many allocations of a group a plan leaves alone, places, moves and so on."""

    ignore: int = 0
    place: int = 0
    migrate: int = 0
    stop: int = 0
    in_place_update: int = 0
    destructive_update: int = 0
    canary: int = 0
    preemptions: int = 0


class PlanAnnotations(Record, frozen=True, kw_only=True):
    """What a plan would do, by group."""

    desired_tg_updates: dict[str, DesiredUpdates] | None = msgspec.field(
        name="DesiredTGUpdates", default=None
    )


class JobPlan(Record, frozen=True, kw_only=True):
    """What would become of a job if it were registered now."""

    annotations: PlanAnnotations | None = None
    failed_tg_allocs: dict[str, AllocMetric] | None = msgspec.field(
        name="FailedTGAllocs", default=None
    )
    diff: JobDiff | None = None
    job_modify_index: int = 0
    warnings: str = ""


class DrainSpec(Record, frozen=True, kw_only=True):
    """How to drain: a deadline in ns, 0 for none, below 0 to force at once."""

    deadline: int = 0
    ignore_system_jobs: bool = False


class GroupDrain(Record, frozen=True, kw_only=True):
    """How the allocations of one group on a draining node do, or would do.

    `moving` are told to move or to stop and not over yet, `next` would be told now, and
    `waiting` wait, for `waits_for`. The numbers are the group's, on all nodes.
    """

    namespace: str = ""
    job_id: str = ""
    task_group: str = ""
    job_type: str = ""
    moving: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    waits_for: str = ""
    wanted: int = 0
    max_parallel: int = 0
    settled: int = 0
    finished: int = 0


class DrainView(Record, frozen=True, kw_only=True):
    """A drain as it is, or as it would be; `deadline` is when it is forced."""

    draining: bool = False
    done: bool = False
    deadline: Timestamp = NO_TIME
    ignore_system_jobs: bool = False
    groups: tuple[GroupDrain, ...] | None = None


class ServerInfo(Record, frozen=True, kw_only=True):
    """A server as an agent is told of it."""

    rpc_advertise_addr: str = msgspec.field(name="RPCAdvertiseAddr", default="")
    datacenter: str = ""


class Written(Record, frozen=True, kw_only=True):
    """The answer to a write: index 0 if nothing changed; `heartbeat_ttl` in ns."""

    index: int = 0
    node_modify_index: int = 0
    eval_create_index: int = 0
    eval_ids: tuple[str, ...] | None = None
    heartbeat_ttl: int = 0
    num_nodes: int = 0
    leader_rpc_addr: str = ""
    servers: tuple[ServerInfo, ...] | None = None


class Registered(Written, frozen=True, kw_only=True):
    """What became of one node of a batch: `error` is empty if it was accepted."""

    id: str = ""
    error: str = ""


class BatchRegistered(Record, frozen=True, kw_only=True):
    """The answer to a batch registration, one result per node, in order."""

    index: int = 0
    results: tuple[Registered, ...] = ()


class Member(Record, frozen=True, kw_only=True):
    """A server of the cluster, as any of them sees it."""

    name: str = ""
    addr: str = ""
    port: int = 0
    status: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    protocol_cur: int = 0


class Members(Record, frozen=True, kw_only=True):
    """All servers of the cluster."""

    server_name: str = ""
    server_region: str = ""
    server_dc: str = msgspec.field(name="ServerDC", default="")
    members: tuple[Member, ...] | None = None


class ServerHealth(msgspec.Struct, frozen=True):
    """Whether a server can do its work, and why not."""

    ok: bool
    message: str


class RaftServer(Record, frozen=True, kw_only=True):
    """A member of the cluster; one without a vote is a learner."""

    id: str
    address: str = ""
    leader: bool = False
    node: str = ""
    raft_protocol: str = ""
    voter: bool = False


class RaftConfiguration(Record, frozen=True, kw_only=True):
    """The members, and the index of the entry that says so."""

    index: int = 0
    servers: tuple[RaftServer, ...] = ()


class Peer(Record, frozen=True, kw_only=True):
    """A member, by id and address."""

    id: str = ""
    address: str = ""


class LeadershipTransferred(Record, frozen=True, kw_only=True):
    """Who led before and who leads now; `noop` if that is the same."""

    from_: Peer = msgspec.field(name="From")
    to: Peer
    noop: bool = False


class SnapshotSent(msgspec.Struct, frozen=True, kw_only=True):
    """What a server sent: up to which entry, how much, and its SHA-256 in hex."""

    index: int
    byte_count: int
    sha256: str


class Health(msgspec.Struct, frozen=True):
    """The health of what was asked for."""

    server: ServerHealth


class Indexed(Record, frozen=True, kw_only=True):
    """The index of the entry that was written."""

    index: int = 0
