"""What operators ask for: the commands of a schedule's jobs and drains."""

from typing import Final

from cluster.simulation.judge import OP
from cluster.simulation.schedule import (
    DrainNode,
    EvaluateNode,
    OpenNode,
    OrderStep,
    PurgeNode,
    RunJob,
    StopJob,
    UndrainNode,
)
from nodestate.model import command as commands
from nodestate.model.command import Command
from nodestate.model.job import (
    DEFAULT_NAMESPACE,
    Job,
    JobKey,
    JobType,
    MigrateStrategy,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
)
from nodestate.model.node import ELIGIBLE, INELIGIBLE, DrainStrategy, NodeKey

DATACENTER: Final = "dc1"
GROUP: Final = "group"
NS_PER_MS: Final = 1_000_000
RESCHEDULE_DELAY_NS: Final = 2_000 * NS_PER_MS
MEMORY_MB: Final = 64


def order_of(step: OrderStep, *, at_ns: int) -> Command:
    """Return what a step asks for: the same bytes for the same step and time."""
    asked_by, seed = f"{OP}{step.op}", step.op.to_bytes(16, "big")
    match step:
        case RunJob():
            return commands.RegisterJob(
                at_ns=at_ns, asked_by=asked_by, seed=seed, job=_job(step)
            )
        case StopJob():
            return commands.DeregisterJob(
                at_ns=at_ns,
                asked_by=asked_by,
                seed=seed,
                key=job_key(step.job),
                is_purge=step.is_purge,
            )
        case DrainNode() | UndrainNode():
            return commands.SetDrain(
                at_ns=at_ns,
                asked_by=asked_by,
                seed=seed,
                key=NodeKey(step.node),
                strategy=_strategy(step),
                mark_eligible=isinstance(step, UndrainNode) and step.mark_eligible,
            )
        case OpenNode():
            return commands.SetEligibility(
                at_ns=at_ns,
                asked_by=asked_by,
                seed=seed,
                key=NodeKey(step.node),
                eligibility=ELIGIBLE if step.is_open else INELIGIBLE,
            )
        case EvaluateNode():
            return commands.EvaluateNode(
                at_ns=at_ns, asked_by=asked_by, seed=seed, key=NodeKey(step.node)
            )
        case PurgeNode():
            return commands.PurgeNodes(
                at_ns=at_ns, asked_by=asked_by, seed=seed, keys=(NodeKey(step.node),)
            )


def job_key(name: str) -> JobKey:
    """Return what a job of a schedule is known by."""
    return JobKey((DEFAULT_NAMESPACE, name))


def _strategy(step: DrainNode | UndrainNode) -> DrainStrategy | None:
    if isinstance(step, UndrainNode):
        return None
    deadline = -1 if step.deadline_ms < 0 else step.deadline_ms * NS_PER_MS
    return DrainStrategy(deadline=deadline, ignore_system_jobs=step.ignore_system_jobs)


def _job(step: RunJob) -> Job:
    """Return a job of one group; what fails is replaced after a while, for ever."""
    kind = JobType(step.kind)
    task = Task(
        name="task",
        driver="exec",
        resources=Resources(cpu=step.cpu, memory_mb=MEMORY_MB),
    )
    is_replaced = kind is not JobType.SYSTEM
    group = TaskGroup(
        name=GROUP,
        count=step.count,
        tasks=(task,),
        migrate=(
            MigrateStrategy(max_parallel=step.max_parallel)
            if kind is JobType.SERVICE
            else None
        ),
        reschedule_policy=(
            ReschedulePolicy(
                unlimited=True, delay=RESCHEDULE_DELAY_NS, delay_function="constant"
            )
            if is_replaced
            else None
        ),
    )
    return Job(
        id=step.job,
        name=step.job,
        type=kind,
        datacenters=(DATACENTER,),
        task_groups=(group,),
    )
