"""Jobs, plans and reports with everything filled in, and a log that keeps them going."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from nodestate.fsm.machine import Applied
from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
    AllocMetric,
    DeploymentStatus,
    DesiredTransition,
    ReportedAllocation,
    TaskState,
)
from nodestate.model.command import (
    AgentReport,
    ApplyPlan,
    CollectGarbage,
    Command,
    DeregisterJob,
    EvaluateJob,
    EvaluationChange,
    MarkAllocations,
    RegisterJob,
    ReportAllocations,
    SeenJob,
    SeenNode,
    UpdateEvaluations,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import (
    EphemeralDisk,
    Job,
    JobKey,
    JobSummary,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
    version_key,
)
from nodestate.model.node import (
    CpuResources,
    DiskResources,
    MemoryResources,
    NodeKey,
    NodeResources,
)
from nodestate.model.outcome import Accepted
from nodestate.model.plan import Placement, Plan, PlanResult, Stop
from tests.fsm.entries import (
    N1,
    N2,
    SECRET,
    SEED,
    START_NS,
    Log,
    key,
    register,
    registration,
)

WEB = JobKey(("default", "web"))
SECOND_NS = 1_000_000_000
LIMITED = ReschedulePolicy(attempts=1, interval=60 * SECOND_NS, delay=SECOND_NS)
UNLIMITED = ReschedulePolicy(delay=SECOND_NS, unlimited=True)
ROOM = NodeResources(
    cpu=CpuResources(cpu_shares=1000),
    memory=MemoryResources(memory_mb=1000),
    disk=DiskResources(disk_mb=1000),
)


def group(name: str = "g", **fields: Any) -> TaskGroup:
    task = Task(name="t", driver="exec", resources=Resources(cpu=100, memory_mb=64))
    known = TaskGroup(
        name=name,
        count=2,
        tasks=(task,),
        migrate=MigrateStrategy(max_parallel=1),
        reschedule_policy=UNLIMITED,
        ephemeral_disk=EphemeralDisk(size_mb=10),
    )
    return replace(known, **fields)


def job(id_: str = "web", *groups: TaskGroup, **fields: Any) -> Job:
    known = Job(
        id=id_, name=id_, datacenters=("dc1",), task_groups=groups or (group(),)
    )
    return replace(known, **fields)


def register_job(sent: Job | None = None, **fields: Any) -> RegisterJob:
    return RegisterJob(at_ns=START_NS, job=sent or job(), seed=SEED, **fields)


def stop_job(of: JobKey = WEB, *, is_purge: bool = False) -> DeregisterJob:
    return DeregisterJob(at_ns=START_NS, key=of, seed=SEED, is_purge=is_purge)


def evaluate_job(of: JobKey = WEB, *, is_forced: bool = False) -> EvaluateJob:
    return EvaluateJob(at_ns=START_NS, key=of, seed=SEED, force_reschedule=is_forced)


def resources(cpu: int = 100, **fields: Any) -> AllocatedResources:
    task = AllocatedTask(
        cpu=CpuResources(cpu_shares=cpu), memory=MemoryResources(memory_mb=64)
    )
    return AllocatedResources(
        tasks={"t": replace(task, **fields)}, shared=AllocatedShared(disk_mb=10)
    )


def placement(id_: str, node_key: NodeKey = N1, **fields: Any) -> Placement:
    known = Placement(
        id=id_,
        name=f"web.g[{id_[-1]}]",
        task_group="g",
        node_key=node_key,
        resources=resources(),
    )
    return replace(known, **fields)


def stop(id_: str, node_key: NodeKey = N1, **fields: Any) -> Stop:
    return replace(Stop(id=id_, node_key=node_key, description="enough"), **fields)


def reported(id_: str, client_status: str = "running", **fields: Any) -> Any:
    return ReportedAllocation(id=id_, client_status=client_status, **fields)


def report(
    *items: ReportedAllocation,
    node_key: NodeKey = N1,
    secret: bytes = SECRET,
    at_ns: int = START_NS,
) -> ReportAllocations:
    reports = (AgentReport(node_key, secret, items),)
    return ReportAllocations(at_ns=at_ns, reports=reports, seed=SEED)


def healthy(id_: str, node_key: NodeKey = N1) -> ReportAllocations:
    status = DeploymentStatus(healthy=True)
    return report(reported(id_, deployment_status=status), node_key=node_key)


def mark(*ids: str, **fields: Any) -> MarkAllocations:
    return replace(
        MarkAllocations(
            at_ns=START_NS,
            ids=ids,
            seed=SEED,
            transition=DesiredTransition(migrate=True),
        ),
        **fields,
    )


def collect(
    *ids: str,
    evaluations: tuple[str, ...] = (),
    jobs: tuple[SeenJob, ...] = (),
    nodes: tuple[SeenNode, ...] = (),
) -> CollectGarbage:
    return CollectGarbage(
        at_ns=START_NS,
        jobs=jobs,
        allocation_ids=ids,
        evaluation_ids=evaluations,
        nodes=nodes,
    )


class Working(Log):
    """A log, and what schedulers would do, in short."""

    def job(self, of: JobKey = WEB) -> Job:
        return self.state.jobs[of]

    def alloc(self, id_: str) -> Allocation:
        return self.state.allocations[id_]

    def summary(self, of: JobKey = WEB) -> JobSummary:
        return self.state.job_summaries[of]

    def evaluation(self, of: JobKey = WEB) -> Evaluation:
        """Return the job's newest evaluation that is not over."""
        found = [item for item in self.state.evaluations_of(of) if not item.is_terminal]
        return max(found, key=lambda item: (item.create_index, item.id))

    def plan(self, *parts: Any, of: JobKey = WEB, **fields: Any) -> ApplyPlan:
        """Return a plan of the job's newest evaluation, for its newest version."""
        evaluation = self.evaluation(of)
        found = self.state.job(of)
        plan = Plan(
            eval_id=evaluation.id,
            eval_modify_index=evaluation.modify_index,
            job_key=of,
            version=None if found is None else version_key(found),
            stops=tuple(part for part in parts if isinstance(part, Stop)),
            placements=tuple(part for part in parts if isinstance(part, Placement)),
        )
        return ApplyPlan(at_ns=START_NS, plan=replace(plan, **fields))

    def carry_out(self, *parts: Any, of: JobKey = WEB, **fields: Any) -> PlanResult:
        """Apply such a plan."""
        outcome = self.accept(self.plan(*parts, of=of, **fields))
        assert outcome.plan is not None
        return outcome.plan

    def end(self, *, of: JobKey = WEB, **fields: Any) -> Accepted:
        """Have the job's newest evaluation end."""
        return self.accept(self.ending(of=of, **fields))

    def ending(self, *, of: JobKey = WEB, **fields: Any) -> UpdateEvaluations:
        evaluation = self.evaluation(of)
        ended = replace(evaluation, **{"status": "complete", **fields})
        change = EvaluationChange(ended, evaluation.modify_index)
        return UpdateEvaluations(at_ns=START_NS, changes=(change,))

    def place(self, *placements: Placement, of: JobKey = WEB) -> None:
        """Place, and let the evaluation end."""
        result = self.carry_out(*placements, of=of)
        assert not result.dropped, result
        self.end(of=of)

    def followed(self, command: Command) -> list[str]:
        """Apply, and return the tags of what followed."""
        applied: Applied = self.apply(command)
        assert isinstance(applied.outcome, Accepted), applied.outcome
        return [str(event.__struct_config__.tag) for event in applied.events]


class WorkLog(Working):
    """Such a log with two nodes that have room."""

    def __init__(self, *commands: Command) -> None:
        super().__init__(
            register(
                registration(N1, node_resources=ROOM),
                registration(N2, node_resources=ROOM),
            )
        )
        for command in commands:
            self.accept(command)


W1, W2 = key(11), key(12)
FAILED_TASK = {"t": TaskState(state="dead", failed=True)}


def work(log: Working) -> Iterator[Command]:
    """Yield every kind of command about work; each must be applied before the next."""
    yield register(
        registration(W1, node_resources=ROOM), registration(W2, node_resources=ROOM)
    )
    yield register_job()
    yield register_job(is_index_enforced=True)
    yield log.plan(placement("a-1", W1), placement("a-2", W2), placement("a-3", W2))
    yield log.ending()
    yield healthy("a-1", W1)
    yield healthy("a-2", W2)
    yield report(reported("a-3", "failed", task_states=FAILED_TASK), node_key=W2)
    yield log.ending(failed_tg_allocs={"g": AllocMetric(nodes_evaluated=2)})
    yield evaluate_job(is_forced=True)
    yield mark("a-1")
    yield log.plan(stop("a-1", W1), placement("a-4", W2, previous_allocation="a-1"))
    yield report(reported("a-1", "complete"), node_key=W1)
    yield register_job(job("web", group(count=3)))
    yield collect("a-1")
    yield stop_job(JobKey(("default", "other")))
    yield register_job(job("off"))
    yield stop_job(JobKey(("default", "off")))
