"""The agents of nodes, in virtual time: they register, beat, run what is placed, report.

An agent lives outside of every server and talks to whichever answers it. It looks at its
allocations where it happens to be connected, never at an older state than it has seen,
and reports whatever the state does not show yet, so that nothing hangs on one report.
"""

import asyncio
import math
import random
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import msgspec

from cluster.simulation.loop import START_NS
from cluster.simulation.orders import DATACENTER
from cluster.simulation.schedule import AgentStep, Enlist, FailTask, Hush, Perish
from cluster.simulation.servers import SimulatedCluster, SimulatedServer
from cluster.simulation.workload import SECRET, Workload
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.allocation import (
    COMPLETE,
    FAILED,
    LOST,
    PENDING,
    RUNNING,
    Allocation,
    DeploymentStatus,
    ReportedAllocation,
    TaskState,
)
from nodestate.model.command import (
    AgentReport,
    Command,
    RegisterNodes,
    Registration,
    ReportAllocations,
)
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.job import JobType
from nodestate.model.node import (
    CpuResources,
    DiskResources,
    Driver,
    MemoryResources,
    Node,
    NodeKey,
    NodeResources,
    NodeStatus,
)
from nodestate.model.outcome import Accepted, Outcome, Refused
from nodestate.model.question import Answer, Heartbeat, HeartbeatAnswer
from nodestate.model.timestamp import Timestamp

T = TypeVar("T")

PASS_S: Final = 0.25
DEADLINE_S: Final = 1.0
AGENT: Final = "agent"
START_S_MAX: Final = 0.3
HEALTHY_S_MAX: Final = 0.5
STOP_S_MAX: Final = 0.6
BATCH_S_MAX: Final = 4.0
PLENTY: Final = 100_000

# mypy knows no type of which a union is a value.
_ANSWER: Final[msgspec.msgpack.Decoder[Answer]] = msgpack_decoder(Answer)  # type: ignore[arg-type]


class Fleet:
    """The agents of one simulation."""

    def __init__(self, cluster: SimulatedCluster, workload: Workload) -> None:
        self.agents: dict[NodeKey, Agent] = {}
        self.cluster = cluster
        self.workload = workload
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    def take(self, step: AgentStep) -> None:
        """Do what a schedule says of an agent; nothing, if there is none."""
        key = NodeKey(step.node)
        if isinstance(step, Enlist):
            self.enlist(key, step.cpu)
            return
        agent = self.agents.get(key)
        if agent is None:
            return
        match step:
            case Hush():
                agent.silent_until_s = self.now_s() + step.for_ms / 1000
            case Perish():
                agent.is_gone = True
            case FailTask():
                agent.fail_one(self.now_s())

    def enlist(self, key: NodeKey, cpu: int) -> None:
        """Start a node's agent, unless there is one."""
        if key in self.agents:
            return
        seed = self.cluster.rng.random()
        agent = self.agents[key] = Agent(self, key, cpu, seed)
        loop, context = self.cluster.loop, self.cluster.context.copy()
        self._tasks.append(loop.create_task(self._live(agent), context=context))

    async def _live(self, agent: "Agent") -> None:
        while not (self._is_over or agent.is_gone):
            await asyncio.sleep(PASS_S * (0.5 + agent.rng.random()))
            if self.now_s() >= agent.silent_until_s and not agent.is_gone:
                await agent.make_pass()

    def calm_down(self) -> None:
        """Let every agent that lives speak again."""
        for agent in self.agents.values():
            agent.silent_until_s = 0.0

    async def finish(self) -> None:
        """Return when all have ended."""
        self._is_over = True
        for task in self._tasks:
            await task

    def now_s(self) -> float:
        """Return the virtual time."""
        return self.cluster.loop.time()


class Run(msgspec.Struct, gc=False, kw_only=True):
    """What an agent runs of an allocation, by the virtual time in seconds.

    It ends by itself at `ends_s` if nothing stops it before. One that does not `may_fail`
    is started again where it is, as agents do as a rule: nobody replaces a system job's.
    """

    begins_s: float
    healthy_s: float
    ends_s: float
    is_failing: bool = False
    may_fail: bool = True

    def status(self, now_s: float) -> str:
        """Return how it does."""
        if now_s >= self.ends_s:
            return FAILED if self.is_failing else COMPLETE
        return RUNNING if now_s >= self.begins_s else PENDING

    def is_healthy(self, now_s: float) -> bool:
        """Say whether its health is known, and good."""
        return self.healthy_s <= now_s < self.ends_s

    def stop(self, at_s: float) -> None:
        """Have it over by then."""
        if at_s < self.ends_s:
            self.ends_s, self.is_failing = at_s, False


class Agent:
    """One node's agent. `silent_until_s` is when it speaks again."""

    def __init__(self, fleet: Fleet, key: NodeKey, cpu: int, seed: float) -> None:
        self.key = key
        self.cpu = cpu
        self.rng = random.Random(seed)  # noqa: S311  it has to be repeatable
        self.is_gone = False
        self.silent_until_s = 0.0
        self._fleet = fleet
        self._is_registered = False
        self._runs: dict[str, Run] = {}
        self._stopping: set[str] = set()
        self._beats_at_s = 0.0
        self._seen_index = 0
        self._server_id = ""

    def fail_one(self, now_s: float) -> None:
        """Let what runs for longest fail now."""
        for run in self._runs.values():
            if run.may_fail and run.status(now_s) == RUNNING:
                run.ends_s, run.is_failing = now_s, True
                return

    async def make_pass(self) -> None:
        """Say what there is to say to one server; to another the next time if it fails."""
        server = self._server()
        if server is None:
            return
        try:
            if not self._is_registered:
                await self._register(server)
            elif self._fleet.now_s() >= self._beats_at_s:
                await self._beat(server)
            else:
                await self._work(server)
        except (NoLeaderError, OutcomeUnknownError):
            self._server_id = ""

    def _server(self) -> SimulatedServer | None:
        running = [
            one for one in self._fleet.cluster.servers.values() if one.is_running
        ]
        for server in running:
            if server.server_id == self._server_id:
                return server
        if not running:
            return None
        server = self.rng.choice(running)
        self._server_id = server.server_id
        return server

    # What it says

    async def _register(self, server: SimulatedServer) -> None:
        registration = Registration(self.key, _node(self.key, self.cpu), SECRET)
        outcome = await self._propose(
            server,
            RegisterNodes(
                at_ns=server.clock.now_ns(),
                asked_by=AGENT,
                registrations=(registration,),
                seed=self.rng.randbytes(16),
            ),
        )
        self._is_registered = isinstance(outcome, Accepted)
        self._beats_at_s = 0.0

    async def _beat(self, server: SimulatedServer) -> None:
        question = Heartbeat(
            key=self.key,
            status=NodeStatus.READY,
            secret_sha256=SECRET,
            at_ns=server.clock.now_ns(),
            asked_by=AGENT,
            seed=self.rng.randbytes(16),
        )
        asking = server.replica.ask_leader(
            MSGPACK.encode(question), deadline_s=DEADLINE_S
        )
        answer = _ANSWER.decode(await self._ask("heartbeat", server, asking))
        if not isinstance(answer, HeartbeatAnswer):
            raise NoLeaderError("not answered")
        if isinstance(answer.outcome, Refused):
            # It was purged: whatever it runs is nobody's any more.
            self._is_registered = False
            self._runs.clear()
            return
        self._beats_at_s = self._fleet.now_s() + answer.ttl_ns / 2e9

    async def _work(self, server: SimulatedServer) -> None:
        now_s = self._fleet.now_s()
        told = [told for one in self._look(server) for told in self._tell(one, now_s)]
        if not told:
            return
        command = ReportAllocations(
            at_ns=server.clock.now_ns(),
            asked_by=AGENT,
            reports=(AgentReport(self.key, SECRET, tuple(told)),),
            seed=self.rng.randbytes(16),
        )
        outcome = await self._propose(server, command)
        if isinstance(outcome, Accepted):
            self._seen_index = max(self._seen_index, outcome.index)

    async def _propose(self, server: SimulatedServer, command: Command) -> Outcome:
        proposing = server.proposer.propose(command, deadline_s=DEADLINE_S)
        return await self._ask("agent's write", server, proposing)

    async def _ask(
        self, what: str, server: SimulatedServer, asked: Coroutine[Any, Any, T]
    ) -> T:
        return await self._fleet.workload.ask_once(what, server, asked)

    # What it runs

    def _look(self, server: SimulatedServer) -> list[Allocation]:
        """Return what is on the node; nothing, where the state is older than one before."""
        index = server.replica.applied_index()
        if index < self._seen_index:
            return []
        self._seen_index = index
        return server.replica.state().allocations_on(self.key)

    def _tell(self, allocation: Allocation, now_s: float) -> list[ReportedAllocation]:
        """Run or stop an allocation as it is wanted; return what is new about it."""
        run = self._runs.get(allocation.id)
        if run is None:
            if allocation.client_status in (COMPLETE, FAILED, LOST):
                return []
            run = self._runs[allocation.id] = self._begin(allocation, now_s)
        if allocation.is_server_terminal and allocation.id not in self._stopping:
            self._stopping.add(allocation.id)
            run.stop(now_s + self.rng.random() * STOP_S_MAX)
        return _news(allocation, run, now_s)

    def _begin(self, allocation: Allocation, now_s: float) -> Run:
        begins_s = now_s + self.rng.random() * START_S_MAX
        is_batch = allocation.job_type is JobType.BATCH
        lasts_s = self.rng.random() * BATCH_S_MAX if is_batch else math.inf
        return Run(
            begins_s=begins_s,
            healthy_s=begins_s + self.rng.random() * HEALTHY_S_MAX,
            ends_s=begins_s + lasts_s,
            may_fail=allocation.job_type is not JobType.SYSTEM,
        )


def _news(allocation: Allocation, run: Run, now_s: float) -> list[ReportedAllocation]:
    """Return what an agent has to say of an allocation; nothing, if the state shows it."""
    status, known = run.status(now_s), allocation.client_status
    is_over = status in (COMPLETE, FAILED)
    if known in (COMPLETE, FAILED) or (known == LOST and not is_over):
        return []
    is_healthy = run.is_healthy(now_s) and allocation.job_type is not JobType.BATCH
    if status == known and (allocation.is_healthy or not is_healthy):
        return []
    finished_at = Timestamp(START_NS + round(min(run.ends_s, now_s) * 1e9))
    dead = TaskState(state="dead", failed=status == FAILED, finished_at=finished_at)
    return [
        ReportedAllocation(
            id=allocation.id,
            client_status=status,
            task_states={"task": dead} if is_over else None,
            deployment_status=DeploymentStatus(healthy=True) if is_healthy else None,
        )
    ]


def _node(key: NodeKey, cpu: int) -> Node:
    return Node(
        id=key,
        name=key,
        datacenter=DATACENTER,
        status=NodeStatus.READY,
        drivers={"exec": Driver(detected=True, healthy=True)},
        node_resources=NodeResources(
            cpu=CpuResources(cpu_shares=cpu),
            memory=MemoryResources(memory_mb=PLENTY),
            disk=DiskResources(disk_mb=PLENTY),
        ),
    )
