"""A job and what there is of it, as schedulers find it; and what they want changed."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec.structs import replace

from nodestate.model.allocation import (
    Allocation,
    DesiredTransition,
    RescheduleEvent,
    RescheduleTracker,
    TaskState,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import (
    EphemeralDisk,
    Job,
    JobType,
    JobVersionKey,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
    version_key,
)
from nodestate.model.node import DrainStrategy, Node, NodeKey, NodeStatus
from nodestate.model.timestamp import Timestamp
from nodestate.planning.generic import reconcile_generic
from nodestate.planning.reconcile import Reconciled, Subject

T = TypeVar("T")

NOW_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
NEVER = ReschedulePolicy(attempts=0, interval=86_400 * SECOND_NS)
ALWAYS = ReschedulePolicy(
    unlimited=True, delay=5 * SECOND_NS, delay_function="constant"
)
MARK = DesiredTransition(migrate=True)


def run(work: Generator[None, None, T]) -> T:
    """Do all steps of a piece of work at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def key_of(number: int) -> NodeKey:
    return NodeKey(f"{number:032x}")


def node(number: int, **fields: Any) -> Node:
    ready = Node(
        id=f"{number:08x}-0000-4000-8000-000000000000",
        name=f"node-{number}",
        datacenter="dc1",
        status=NodeStatus.READY,
    )
    return replace(ready, **fields)


def draining(number: int, **strategy: Any) -> Node:
    return node(
        number,
        drain=True,
        drain_strategy=DrainStrategy(**strategy),
        scheduling_eligibility="ineligible",
    )


def group(name: str = "web", count: int = 10, **fields: Any) -> TaskGroup:
    made = TaskGroup(
        name=name,
        count=count,
        tasks=(
            Task(
                name="app",
                driver="exec",
                config={"command": "/bin/sleep"},
                resources=Resources(cpu=100, memory_mb=100),
            ),
        ),
        migrate=MigrateStrategy(max_parallel=1),
        reschedule_policy=ALWAYS,
        ephemeral_disk=EphemeralDisk(size_mb=10),
    )
    return replace(made, **fields)


def job(
    *groups: TaskGroup, kind: JobType = JobType.SERVICE, version: int = 0, **fields: Any
) -> Job:
    made = Job(
        id="job",
        name="job",
        type=kind,
        datacenters=("dc1",),
        task_groups=groups or (group(),),
        create_index=100,
        modify_index=100 + version,
        job_modify_index=100 + version,
        version=version,
    )
    return replace(made, **fields)


def with_count(wanted: Job, count: int) -> Job:
    groups = tuple(replace(one, count=count) for one in wanted.task_groups)
    return replace(wanted, task_groups=groups)


def changed(wanted: Job, **fields: Any) -> Job:
    """The next version of a job."""
    index = wanted.job_modify_index + 1
    return replace(
        wanted,
        version=wanted.version + 1,
        modify_index=index,
        job_modify_index=index,
        **fields,
    )


def with_command(wanted: Job, command: str = "/bin/true") -> Job:
    """The next version of a job, that runs something else."""
    groups = tuple(
        replace(
            one,
            tasks=tuple(
                replace(task, config={"command": command}) for task in one.tasks
            ),
        )
        for one in wanted.task_groups
    )
    return changed(wanted, task_groups=groups)


CHANGES: tuple[Callable[[Job], Job], ...] = (changed, with_command)


@dataclass
class Work:
    """A job's allocations, and the nodes that they are on: one node each, all ready."""

    job: Job | None
    nodes: dict[NodeKey, Node] = field(default_factory=dict)
    allocations: list[Allocation] = field(default_factory=list)
    versions: dict[JobVersionKey, Job] = field(default_factory=dict)
    evaluation: Evaluation = field(
        default_factory=lambda: Evaluation(
            id="eval", job_id="job", triggered_by="job-register"
        )
    )
    now_ns: int = NOW_NS

    def node(self, key: NodeKey) -> Node | None:
        return self.nodes.get(key)

    def job_of(self, allocation: Allocation) -> Job | None:
        return self.versions.get(allocation.version_key)

    def runs(
        self,
        numbers: Iterable[int],
        of: Job | None = None,
        *,
        group_name: str = "web",
        **fields: Any,
    ) -> "Work":
        """Add allocations with these numbers, of the job or of an older version of it."""
        version = of or self.job
        assert version is not None
        self.versions[version_key(version)] = version
        for number in numbers:
            self.nodes.setdefault(key_of(number), node(number))
            made = Allocation(
                id=f"a{len(self.allocations):03}",
                job_id="job",
                job_type=version.type,
                node_key=key_of(number),
                name=f"job.{group_name}[{number}]",
                node_id=self.nodes[key_of(number)].id,
                task_group=group_name,
                job_create_index=version.create_index,
                job_version=version.version,
                job_modify_index=version.job_modify_index,
                client_status="running",
                create_index=200 + len(self.allocations),
            )
            self.allocations.append(replace(made, **fields))
        return self

    def change(self, number: int, **fields: Any) -> "Work":
        """Change the allocations with that number."""
        self.allocations = [
            replace(one, **fields) if one.index == number else one
            for one in self.allocations
        ]
        return self

    def set_nodes(self, *numbers: int, **fields: Any) -> "Work":
        for number in numbers:
            self.nodes[key_of(number)] = replace(self.nodes[key_of(number)], **fields)
        return self

    def set_down(self, *numbers: int) -> "Work":
        return self.set_nodes(*numbers, status=NodeStatus.DOWN)

    def subject(self) -> Subject:
        return Subject(
            evaluation=self.evaluation,
            job=self.job,
            allocations=tuple(self.allocations),
            view=self,
            now_ns=self.now_ns,
        )

    def reconcile(self) -> "Found":
        return Found(self, run(reconcile_generic(self.subject())))


@dataclass
class Found:
    """What is wanted, by the numbers in the names of allocations."""

    work: Work
    found: Reconciled

    def _number(self, id_: str) -> int:
        return next(one.index for one in self.work.allocations if one.id == id_)

    @property
    def placed(self) -> list[int]:
        return [number_of(wanted.name) for wanted in self.found.placements]

    @property
    def replaced(self) -> list[int]:
        return [number_of(wanted.name) for wanted in self.found.replacements]

    @property
    def updated(self) -> list[int]:
        return [update.allocation.index for update in self.found.updates]

    @property
    def stopped(self) -> list[int]:
        return sorted(self._number(stop.id) for stop in self.found.stops)

    @property
    def stopped_ids(self) -> list[str]:
        return sorted(stop.id for stop in self.found.stops)

    @property
    def lost(self) -> list[int]:
        stops = self.found.stops
        return sorted(self._number(stop.id) for stop in stops if stop.is_lost)

    @property
    def texts(self) -> set[str]:
        return {stop.description for stop in self.found.stops}

    @property
    def later(self) -> list[tuple[int, list[int]]]:
        return [
            (follower.due_at_ns, [one.index for one in follower.allocations])
            for follower in self.found.followers
        ]

    def is_nothing(self) -> bool:
        found = self.found
        return not (
            found.stops
            or found.placements
            or found.replacements
            or found.updates
            or found.followers
        )


def number_of(name: str) -> int:
    return Allocation(name=name).index


def failed(ago_s: float = 0.0) -> dict[str, Any]:
    """The fields of an allocation whose only task failed so long ago."""
    finished = Timestamp(NOW_NS - round(ago_s * SECOND_NS))
    return {
        "client_status": "failed",
        "task_states": {
            "app": TaskState(state="dead", failed=True, finished_at=finished)
        },
    }


def complete() -> dict[str, Any]:
    """The fields of an allocation whose only task has done its work."""
    return {
        "client_status": "complete",
        "task_states": {"app": TaskState(state="dead")},
    }


def tracker(*events: tuple[float, int]) -> RescheduleTracker:
    """Replacements: so many seconds ago, after a delay of so many."""
    return RescheduleTracker(
        events=tuple(
            RescheduleEvent(
                reschedule_time=NOW_NS - round(ago_s * SECOND_NS),
                delay=delay_s * SECOND_NS,
            )
            for ago_s, delay_s in events
        )
    )
