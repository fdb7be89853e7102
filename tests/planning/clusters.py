"""A state machine with a scheduler that runs when a test says so, and agents that obey."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.allocation import (
    Allocation,
    DeploymentStatus,
    ReportedAllocation,
    TaskState,
)
from nodestate.model.command import (
    AgentReport,
    ApplyPlan,
    Command,
    DeregisterJob,
    MarkAllocations,
    PurgeNodes,
    RegisterJob,
    RegisterNodes,
    Registration,
    ReportAllocations,
    SetDrain,
    SetEligibility,
    UpdateEvaluations,
    UpdateNodeStatus,
)
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobKey, JobType
from nodestate.model.node import (
    CpuResources,
    DiskResources,
    DrainStrategy,
    Driver,
    MemoryResources,
    Node,
    NodeKey,
    NodeResources,
    NodeStatus,
)
from nodestate.model.outcome import Accepted, Outcome
from nodestate.model.timestamp import Timestamp
from nodestate.planning.drains import drain_commands, plan_drains
from nodestate.planning.scheduling import Ending, Scheduling
from nodestate.planning.vacancies import find_vacancies
from tests.planning.works import NOW_NS, SECOND_NS, node, run

JOB = JobKey(("default", "job"))
SECRET = hashlib.sha256(b"secret").digest()


def roomy(number: int, cpu: int = 1000, **fields: Any) -> Node:
    """A node with room for so much."""
    resources = NodeResources(
        cpu=CpuResources(cpu_shares=cpu),
        memory=MemoryResources(memory_mb=10_000),
        disk=DiskResources(disk_mb=10_000),
    )
    drivers = {"exec": Driver(detected=True, healthy=True)}
    known: dict[str, Any] = {"node_resources": resources, "drivers": drivers}
    return node(number, **(known | fields))


@dataclass
class Cluster:
    """The state, and all that would be a log, a leader and agents in a real one."""

    state: State = field(default_factory=State)
    index: int = 10
    now_ns: int = NOW_NS
    entries: list[Command] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def apply(self, command: Command) -> Outcome:
        self.index += 1
        self.entries.append(command)
        machine.check(self.state, command)
        return machine.apply(self.state, self.index, command).outcome

    def _seed(self) -> bytes:
        return self.index.to_bytes(16, "big")

    def accept(self, command: Command) -> Accepted:
        outcome = self.apply(command)
        assert isinstance(outcome, Accepted), outcome
        return outcome

    # What others do

    def add(self, *nodes: Node) -> "Cluster":
        registrations = tuple(
            Registration(NodeKey(one.id.replace("-", "")), one, SECRET) for one in nodes
        )
        self.accept(
            RegisterNodes(
                at_ns=self.now_ns, registrations=registrations, seed=self._seed()
            )
        )
        return self

    def register(self, job: Job) -> "Cluster":
        bare = replace(
            job, create_index=0, modify_index=0, job_modify_index=0, version=0
        )
        self.accept(RegisterJob(at_ns=self.now_ns, job=bare, seed=self._seed()))
        return self

    def deregister(self, key: JobKey = JOB, *, is_purge: bool = False) -> "Cluster":
        self.accept(
            DeregisterJob(
                at_ns=self.now_ns, key=key, seed=self._seed(), is_purge=is_purge
            )
        )
        return self

    def set_status(self, number: int, status: NodeStatus) -> "Cluster":
        self.accept(
            UpdateNodeStatus(
                at_ns=self.now_ns,
                key=self.key(number),
                status=status,
                secret_sha256=SECRET,
                seed=self._seed(),
            )
        )
        return self

    def set_eligibility(self, number: int, word: str) -> "Cluster":
        self.accept(
            SetEligibility(
                at_ns=self.now_ns,
                key=self.key(number),
                eligibility=word,
                seed=self._seed(),
            )
        )
        return self

    def drain(self, number: int, deadline_s: float = 3600, **fields: Any) -> "Cluster":
        strategy = DrainStrategy(deadline=round(deadline_s * SECOND_NS), **fields)
        self.accept(
            SetDrain(
                at_ns=self.now_ns,
                key=self.key(number),
                strategy=strategy,
                seed=self._seed(),
            )
        )
        return self

    def stop_drain(self, number: int, *, mark_eligible: bool = False) -> "Cluster":
        self.accept(
            SetDrain(
                at_ns=self.now_ns,
                key=self.key(number),
                strategy=None,
                mark_eligible=mark_eligible,
                seed=self._seed(),
            )
        )
        return self

    def purge(self, *numbers: int) -> "Cluster":
        keys = tuple(self.key(number) for number in numbers)
        self.accept(PurgeNodes(at_ns=self.now_ns, keys=keys, seed=self._seed()))
        return self

    def report(self, *allocations: Allocation, **fields: Any) -> "Cluster":
        """Have agents say something of some allocations."""
        for one in allocations:
            self.apply(
                ReportAllocations(
                    at_ns=self.now_ns,
                    reports=(
                        AgentReport(
                            one.node_key,
                            SECRET,
                            (ReportedAllocation(id=one.id, **fields),),
                        ),
                    ),
                    seed=self._seed(),
                )
            )
        return self

    def obey(self) -> "Cluster":
        """Have every agent do what it is told, and say that all is well."""
        for one in list(self.state.allocations.values()):
            home = self.state.node(one.node_key)
            if home is None or home.status is not NodeStatus.READY:
                continue
            if one.is_server_terminal and not one.is_client_terminal:
                self.report(one, client_status="complete")
            elif not one.is_terminal and one.client_status == "pending":
                healthy = DeploymentStatus(healthy=True)
                self.report(one, client_status="running", deployment_status=healthy)
        return self

    def mark(self, *allocations: Allocation) -> "Cluster":
        """Have allocations moved off a node whose drain is forced."""
        ids = tuple(one.id for one in allocations)
        self.accept(
            MarkAllocations(
                at_ns=self.now_ns, ids=ids, seed=self._seed(), is_drain=True
            )
        )
        return self

    def fail(self, *allocations: Allocation) -> "Cluster":
        state = TaskState(state="dead", failed=True, finished_at=Timestamp(self.now_ns))
        return self.report(
            *allocations, client_status="failed", task_states={"app": state}
        )

    # What the leader does

    def pending(self) -> list[Evaluation]:
        """The evaluations that a scheduler may look at now, the oldest first."""
        return sorted(
            (
                one
                for one in self.state.evaluations.values()
                if one.status == "pending" and one.wait_until.ns <= self.now_ns
            ),
            key=lambda one: (one.create_index, one.id),
        )

    def evaluate(self, evaluation: Evaluation) -> Ending:
        """Do what the leader's loop does with one evaluation."""
        scheduling = Scheduling(evaluation)
        while scheduling.is_open:
            view = self.state.shallow_copy()
            command = run(scheduling.look(view, self.index, self.now_ns))
            if command is not None:
                self.propose(scheduling, command)
        ending = scheduling.end(self.state, self.now_ns)
        if ending.changes:
            self.accept(
                UpdateEvaluations(
                    at_ns=self.now_ns, changes=ending.changes, is_atomic=True
                )
            )
        return ending

    def propose(self, scheduling: Scheduling, command: ApplyPlan) -> None:
        result = self.accept(command).plan
        assert result is not None
        scheduling.take(result)

    def settle(self, *, rounds_max: int = 100) -> "Cluster":
        """Look at all that is to be looked at, until there is nothing left."""
        for _ in range(rounds_max):
            pending = self.pending()
            if not pending:
                return self
            self.evaluate(pending[0])
        raise AssertionError("evaluations make evaluations")

    def move(self) -> bool:
        """Do what the drainer does in one pass; say whether there was anything to do."""
        plan = run(plan_drains(self.state, self.now_ns))
        commands = list(drain_commands(plan, self.now_ns, self._seed))
        for command in commands:
            self.accept(command)
        return bool(commands)

    def unblock(self) -> bool:
        """Look again at what waits for room, if there may be some; say whether so."""
        is_any = False
        for evaluation in self.evaluations("blocked"):
            seen = self.seen.get(evaluation.id, evaluation.snapshot_index)
            vacancies = run(find_vacancies(self.state, seen))
            newest = vacancies.newest_index
            if evaluation.type is JobType.SYSTEM:
                newest = vacancies.by_node_id.get(evaluation.node_id, 0)
            stored = self.state.evaluations[evaluation.id]
            if newest > seen and not stored.is_terminal:
                ending = self.evaluate(stored)
                is_any = True
                if ending.blocked is not None:
                    self.seen[evaluation.id] = ending.blocked.snapshot_index
        return is_any

    def lead(self, *, rounds_max: int = 50) -> "Cluster":
        """Do all that a leader has to do, until there is nothing left."""
        for _ in range(rounds_max):
            self.settle()
            if not (self.move() or self.unblock()):
                return self
        raise AssertionError("a leader never comes to rest")

    def rest(self, *, rounds_max: int = 100) -> "Cluster":
        """Let leader and agents go on until nothing happens any more."""
        for _ in range(rounds_max):
            before = len(self.entries)
            self.lead().obey()
            if len(self.entries) == before:
                return self
        raise AssertionError("leader and agents never come to rest")

    # What there is

    def key(self, number: int) -> NodeKey:
        return key_of_id(node(number).id)

    def live(self, job_key: JobKey = JOB) -> list[Allocation]:
        return [
            one for one in self.state.allocations_of(job_key) if not one.is_terminal
        ]

    def on(self, number: int) -> list[Allocation]:
        return self.state.allocations_on(self.key(number))

    def evaluations(self, status: str | None = None) -> list[Evaluation]:
        return sorted(
            (
                one
                for one in self.state.evaluations.values()
                if status in {None, one.status}
            ),
            key=lambda one: (one.create_index, one.id),
        )


def key_of_id(id_: str) -> NodeKey:
    return NodeKey(id_.replace("-", ""))
