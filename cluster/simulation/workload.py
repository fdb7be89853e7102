"""Clients: what they ask which server, and the record of what they were told.

A client outlives every server. It knows of a server what it would know over a socket:
an answer, an error, or that the connection broke.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from cluster.simulation.checkers import table_index
from cluster.simulation.history import Call, History, Status, Watched
from cluster.simulation.judge import ENDINGS, NO_SURPRISE, OP, WATCHERS
from cluster.simulation.loop import Process
from cluster.simulation.schedule import (
    FOLLOWER,
    LEADER,
    Add,
    ClientStep,
    Follow,
    OperatorStep,
    Read,
    Remove,
    SaveSnapshot,
    Transfer,
    Write,
)
from cluster.simulation.servers import SimulatedCluster, SimulatedServer
from nodestate.api import blocking
from nodestate.api.parameters import ReadOptions
from nodestate.errors import NodestateError, NoLeaderError, OutcomeUnknownError
from nodestate.fsm.state import NODES, State
from nodestate.model.command import (
    Command,
    MissHeartbeats,
    PurgeNodes,
    RegisterNodes,
    Registration,
    SetDrain,
    SetEligibility,
    UpdateNodeStatus,
)
from nodestate.model.node import (
    ELIGIBLE,
    INELIGIBLE,
    DrainStrategy,
    Node,
    NodeKey,
    NodeStatus,
)
from nodestate.model.outcome import Outcome
from nodestate.model.request import IdempotencyKey
from nodestate.ports import ServerAddress
from nodestate.watch import record_key, table_key

T = TypeVar("T")

MISS: Final = "miss"
"""What the leader alone proposes: that a node has missed its heartbeat."""
VERBS: Final = (
    "register",
    "down",
    "close",
    "open",
    "drain",
    "undrain",
    "purge",
    MISS,
)
SECRET: Final = bytes(32)
GRACE_S: Final = 0.1
ATTEMPTS_MAX: Final = 4
_BROKEN: Final = "the connection broke"


class Workload:
    """The clients of one simulation."""

    def __init__(self, cluster: SimulatedCluster, *, deadline_s: float) -> None:
        self.history = History()
        self._cluster = cluster
        self._judge = cluster.judge
        self._deadline_s = deadline_s
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    def start(self, step: ClientStep | OperatorStep) -> None:
        """Let a client or an operator do it, whatever comes of it."""
        match step:
            case Transfer() | SaveSnapshot() | Remove() | Add():
                self._begin(self._administer(step))
            case Write():
                self._begin(self._write(step))
            case Read():
                self._begin(self._read(step))
            case Follow():
                self._begin(self._follow(step))

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        loop = self._cluster.loop
        context = self._cluster.context.copy()
        guarded = self._guard(coroutine)
        self._tasks.append(loop.create_task(guarded, context=context))

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001  it is judged
            self._judge.blame(NO_SURPRISE, f"a client was told {error!r}")

    async def finish(self) -> None:
        """Return when every call has ended; followers give up."""
        self._is_over = True
        for task in self._tasks:
            await task

    # Writes

    async def _write(self, step: Write) -> None:
        server = self.find(step.server)
        if server is None:
            return
        command = command_of(step.op, step.verb, step.node, at_ns=server.clock.now_ns())
        await self.write(command, step, server)

    async def write(
        self, command: Command, step: Write, server: SimulatedServer
    ) -> Call:
        """Propose, and again with the same key while nobody knows what became of it."""
        call = self._call(step.op, step.verb, step.node, server)
        names = sorted(self._cluster.configs)
        for attempt in range(ATTEMPTS_MAX if step.is_retried else 1):
            if attempt > 0:
                await asyncio.sleep(GRACE_S)
                name = names[(names.index(call.server) + attempt) % len(names)]
                other = self.find(name)
                if other is None:
                    continue
                server = other
                self._judge.count("retries")
            proposing = propose(server, command, call, self._deadline_s)
            try:
                call.outcome = await self._ask(call, server, proposing)
                call.status = Status.DONE
                break
            except NoLeaderError:
                if attempt == 0:
                    call.status = Status.NOT_SENT
                    break
            except OutcomeUnknownError:
                call.status = Status.UNKNOWN
        call.returned_at = self._now()
        self._judge.count(f"writes {call.status}")
        return call

    # Reads

    async def _read(self, step: Read) -> None:
        server = self.find(step.server)
        if server is None:
            return
        call = self._call(step.op, "read", step.node, server)
        call.is_consistent = step.is_consistent
        key = NodeKey(step.node)
        try:
            if step.is_consistent:
                reading = _read_consistently(server, key, self._deadline_s)
                call.index, call.seen = await self._ask(call, server, reading)
            else:
                call.index, call.seen = _read_now(server, key)
            call.status = Status.DONE
        except (NoLeaderError, OutcomeUnknownError):
            call.status = Status.NOT_SENT
        call.returned_at = self._now()
        kind = "consistent" if step.is_consistent else "stale"
        self._judge.count(f"{kind} reads {call.status}")

    # Followers

    async def _follow(self, step: Follow) -> None:
        server = self.find(step.server)
        if server is None:
            return
        following = server.process.spawn(self._watch(step, server))
        while not (following.done() or server.process.is_dead):
            await _wait_for_one(following, server.process, GRACE_S)
            if self._is_over and not following.done():
                # It is parked, and rightly so, or it would have been woken.
                self._check_parked(step, server)
                break
        if following.done():
            following.result()
        following.cancel()

    async def _watch(self, step: Follow, server: SimulatedServer) -> None:
        call = _BlockingCall(server)
        key = NodeKey(step.node) if step.node else None
        watched = table_key(NODES) if key is None else record_key(NODES, key)
        replica = server.replica

        def current_index(state: State) -> int:
            return table_index(state, key)

        asked = 1
        while not self._is_over:
            options = ReadOptions(
                index=asked, wait_s=step.wait_ms / 1000, is_stale=True
            )
            server.waiting[step.op] = (key, asked, server.process.active_s())
            await blocking.wait_until_past(call, options, watched, current_index)  # type: ignore[arg-type]
            _, _, since_s = server.waiting.pop(step.op)
            possible_s = server.possible_since(key, asked, since_s)
            index = current_index(replica.state())
            late_s = server.process.active_s() - possible_s if index > asked else 0.0
            self.history.watched.append(
                Watched(
                    op=f"{OP}{step.op}",
                    server=server.server_id,
                    node=step.node,
                    asked_index=asked,
                    index=index,
                    applied_index=replica.applied_index(),
                    seen=None if key is None else replica.state().node(key),
                    late_s=late_s,
                )
            )
            self._judge.count("watchers answered")
            asked = max(asked, index)

    def _check_parked(self, step: Follow, server: SimulatedServer) -> None:
        if step.op not in server.waiting:
            return
        key, asked, since_s = server.waiting[step.op]
        if table_index(server.replica.state(), key) <= asked:
            return
        possible_s = server.possible_since(key, asked, since_s)
        if server.process.active_s() - possible_s > GRACE_S:
            self._judge.blame(
                WATCHERS,
                f"{OP}{step.op} on {server.server_id} still waits for a change of"
                f" {step.node or 'any node'} behind {asked}",
            )

    # Operators

    async def _administer(self, step: OperatorStep) -> None:
        server = self.find(step.server)
        if server is None:
            return
        kind = str(step.__struct_config__.tag)
        call = self._call(0, kind, "", server, is_recorded=False)
        errand = self._errand(step, server)
        try:
            await self._ask(call, server, errand)
        except NodestateError:
            self._judge.count(f"{kind} in vain")
        else:
            self._judge.count(f"{kind} done")

    def _errand(
        self, step: OperatorStep, server: SimulatedServer
    ) -> Coroutine[Any, Any, object]:
        admin, deadline_s = server.administration, self._deadline_s
        match step:
            case Transfer():
                return admin.transfer_leadership(step.to or None, deadline_s=deadline_s)
            case SaveSnapshot():
                return admin.save_snapshot(deadline_s=deadline_s)
            case Remove():
                return admin.remove_server(step.member, deadline_s=deadline_s)
            case Add():
                config = self._cluster.configs[step.member]
                address = ServerAddress(step.member, config.peer, config.http)
                return admin.add_server(address, deadline_s=deadline_s)

    # All of them

    async def ask_once(
        self, what: str, server: SimulatedServer, asked: Coroutine[Any, Any, T]
    ) -> T:
        """Return what a server answers to something that nobody keeps a record of."""
        return await self._ask(
            self._call(0, what, "", server, is_recorded=False), server, asked
        )

    def find(self, name: str) -> SimulatedServer | None:
        """Return a running server by its name or its role."""
        running = [s for s in self._cluster.servers.values() if s.is_running]
        if name == LEADER:
            return next((s for s in running if s.replica.status().is_leader), None)
        if name == FOLLOWER:
            return next((s for s in running if not s.replica.status().is_leader), None)
        return next((s for s in running if s.server_id == name), None)

    def _call(
        self,
        op: int,
        verb: str,
        node: str,
        server: SimulatedServer,
        *,
        is_recorded: bool = True,
    ) -> Call:
        call = Call(
            op=f"{OP}{op}",
            verb=verb,
            node=node,
            server=server.server_id,
            called_at=self._now(),
        )
        if is_recorded:
            self.history.calls.append(call)
        return call

    def _now(self) -> int:
        return self._cluster.loop.callback_count

    async def _ask(
        self, call: Call, server: SimulatedServer, asked: Coroutine[Any, Any, T]
    ) -> T:
        """Return what a server answers; unknown if it dies, wrong if it never does."""
        process = server.process
        task = process.spawn(asked)
        give_up_at_s = process.active_s() + self._deadline_s + GRACE_S
        while not task.done():
            if process.is_dead:
                raise OutcomeUnknownError(_BROKEN)
            remaining_s = give_up_at_s - process.active_s()
            if remaining_s <= 0:
                self._judge.blame(ENDINGS, f"{call.op} on {call.server} has no end")
                raise OutcomeUnknownError(_BROKEN)
            await _wait_for_one(task, process, max(remaining_s, 0.001))
        return task.result()


async def _wait_for_one(
    task: asyncio.Task[Any], process: Process, timeout_s: float
) -> None:
    """Return when the task is done, or its process gone, or the time over."""
    ends: list[asyncio.Future[Any]] = [task, process.gone]
    await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _read_consistently(
    server: SimulatedServer, key: NodeKey, deadline_s: float
) -> tuple[int, Node | None]:
    await server.replica.wait_until_linearizable(deadline_s=deadline_s)
    return _read_now(server, key)


def _read_now(server: SimulatedServer, key: NodeKey) -> tuple[int, Node | None]:
    return server.replica.applied_index(), server.replica.state().node(key)


async def propose(
    server: SimulatedServer, command: Command, call: Call, deadline_s: float
) -> Outcome:
    """Have a server propose under the operation's key, or as the leader that it is."""
    if call.verb == MISS:
        term = server.replica.status().term
        return await server.proposer.propose_as_leader(
            command, term=term, deadline_s=deadline_s
        )
    key = IdempotencyKey(call.op, call.op.encode())
    return await server.proposer.propose(
        command, deadline_s=deadline_s, idempotency=key
    )


class _BlockingCall:
    """As much of a request as a blocking read looks at."""

    address = "127.0.0.1"

    def __init__(self, server: SimulatedServer) -> None:
        self.services = server.services
        self.request = SimpleNamespace(transport=self)
        self.on_lost: Callable[[], None] | None = None

    def connection(self) -> "_BlockingCall":
        """Return what is told when the client has gone."""
        return self


def command_of(op: int, verb: str, node: str, *, at_ns: int) -> Command:
    """Return the command of an operation: the same bytes for the same operation."""
    key, seed, asked_by = NodeKey(node), op.to_bytes(16, "big"), f"{OP}{op}"
    match verb:
        case "register":
            return registration(key, seed=seed, asked_by=asked_by, at_ns=at_ns)
        case "down":
            return UpdateNodeStatus(
                at_ns=at_ns,
                asked_by=asked_by,
                key=key,
                status=NodeStatus.DOWN,
                secret_sha256=SECRET,
                seed=seed,
            )
        case "miss":
            return MissHeartbeats(
                at_ns=at_ns, asked_by=asked_by, keys=(key,), seed=seed
            )
        case "open" | "close":
            return SetEligibility(
                at_ns=at_ns,
                asked_by=asked_by,
                key=key,
                eligibility=ELIGIBLE if verb == "open" else INELIGIBLE,
                seed=seed,
            )
        case "drain" | "undrain":
            return SetDrain(
                at_ns=at_ns,
                asked_by=asked_by,
                key=key,
                strategy=DrainStrategy(deadline=-1) if verb == "drain" else None,
                mark_eligible=verb == "undrain",
                seed=seed,
            )
        case "purge":
            return PurgeNodes(at_ns=at_ns, asked_by=asked_by, keys=(key,), seed=seed)
        case other:
            raise AssertionError(f"no such verb: {other}")


def registration(
    key: NodeKey, *, at_ns: int, seed: bytes = bytes(16), asked_by: str = "anonymous"
) -> Command:
    """Return a command that registers a node of that id."""
    node = Node(id=key, name=key, datacenter="dc1", status=NodeStatus.READY)
    return RegisterNodes(
        at_ns=at_ns,
        asked_by=asked_by,
        registrations=(Registration(key, node, SECRET),),
        seed=seed,
    )
