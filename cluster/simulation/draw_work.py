"""What of work a schedule has, drawn from its seed: agents, jobs, drains, and their ends.

A few small nodes and a few jobs, so that drains, updates and failures meet each other,
and there is sometimes no room.
"""

import random
from collections.abc import Callable
from typing import Final

from cluster.simulation.schedule import (
    LEADER,
    DrainNode,
    Enlist,
    EvaluateNode,
    FailTask,
    Hush,
    OpenNode,
    Perish,
    PurgeNode,
    RunJob,
    Step,
    StopJob,
    UndrainNode,
)
from nodestate.model.job import JobType

DURATION_MS: Final = 12_000
BEGINNING_MS: Final = 1_500
QUIET_MS: Final = (8_000, 8_000, 8_000, 70_000)
"""How long nothing may be written: sometimes longer than any loop of the leader's sleeps."""
SETTINGS: Final = {
    "raft_heartbeat_s": 0.25,
    "election_timeout_s_min": 0.75,
    "election_timeout_s_max": 1.5,
    "heartbeat_ttl_s_min": 1.5,
    "heartbeat_grace_s": 2.0,
    "failover_heartbeat_ttl_s": 3.0,
    "propose_timeout_s": 2.0,
}
NODE_CPU: Final = 1000
KINDS: Final = {"api": JobType.SERVICE, "web": JobType.SERVICE, "sums": JobType.BATCH, "logs": JobType.SYSTEM}  # fmt: skip


class WorkDrawing:
    """What the draws of one seed share."""

    def __init__(self, rng: random.Random, servers: list[str]) -> None:
        self.rng = rng
        self.steps: list[Step] = []
        self._servers = servers
        self._op = 0
        self._nodes = [f"n{number}" for number in range(1, rng.randrange(3, 7))]
        self._jobs = rng.sample(sorted(KINDS), rng.randrange(1, 5))
        self._at_ms = 0

    def draw(self) -> None:
        """Draw it all."""
        for node in self._nodes:
            self._at_ms = self.rng.randrange(100, BEGINNING_MS)
            self.steps.append(Enlist(at_ms=self._at_ms, node=node, cpu=NODE_CPU))
        for job in self._jobs:
            self._at_ms = self.rng.randrange(500, 2 * BEGINNING_MS)
            self._run(job)
        kinds = self.rng.sample(_EVENTS, self.rng.randrange(3, len(_EVENTS) + 1))
        weights = [weight * (0.5 + self.rng.random()) for _, weight in kinds]
        for _ in range(self.rng.choice((8, 16, 30))):
            self._at_ms = self.rng.randrange(BEGINNING_MS, DURATION_MS - 500)
            self.rng.choices([kind for kind, _ in kinds], weights)[0](self)

    def _asked(self) -> tuple[int, str]:
        """Return the number of the next operation, and whom it is asked of."""
        self._op += 1
        server = LEADER if self.rng.random() < 0.3 else self.rng.choice(self._servers)
        return self._op, server

    def _node(self) -> str:
        return self.rng.choice(self._nodes)

    def _run(self, job: str) -> None:
        op, server = self._asked()
        self.steps.append(
            RunJob(
                at_ms=self._at_ms,
                op=op,
                server=server,
                job=job,
                kind=KINDS[job],
                count=1 if job == "logs" else self.rng.randrange(1, 7),
                max_parallel=self.rng.choice((1, 1, 2, 3)),
                cpu=self.rng.choice((50, 100, 300)),
            )
        )

    def run_job(self) -> None:
        """Register a job, again as a rule."""
        self._run(self.rng.choice(self._jobs))

    def stop_job(self) -> None:
        """Stop a job, and let it come back or not."""
        op, server = self._asked()
        job = self.rng.choice(self._jobs)
        is_purge = self.rng.random() < 0.5
        self.steps.append(
            StopJob(at_ms=self._at_ms, op=op, server=server, job=job, is_purge=is_purge)
        )

    def drain(self) -> None:
        """Drain a node: in its time, by a deadline, or at once."""
        op, server = self._asked()
        self.steps.append(
            DrainNode(
                at_ms=self._at_ms,
                op=op,
                server=server,
                node=self._node(),
                deadline_ms=self.rng.choice((0, 0, 800, 3000, 60_000, -1)),
                ignore_system_jobs=self.rng.random() < 0.3,
            )
        )

    def undrain(self) -> None:
        """Stop a drain."""
        op, server = self._asked()
        mark_eligible = self.rng.random() < 0.6
        self.steps.append(
            UndrainNode(
                at_ms=self._at_ms,
                op=op,
                server=server,
                node=self._node(),
                mark_eligible=mark_eligible,
            )
        )

    def open(self) -> None:
        """Open a node or close it."""
        op, server = self._asked()
        is_open = self.rng.random() < 0.7
        self.steps.append(
            OpenNode(
                at_ms=self._at_ms,
                op=op,
                server=server,
                node=self._node(),
                is_open=is_open,
            )
        )

    def evaluate(self) -> None:
        """Have a node looked at."""
        op, server = self._asked()
        self.steps.append(
            EvaluateNode(at_ms=self._at_ms, op=op, server=server, node=self._node())
        )

    def purge(self) -> None:
        """Forget a node."""
        op, server = self._asked()
        self.steps.append(
            PurgeNode(at_ms=self._at_ms, op=op, server=server, node=self._node())
        )

    def hush(self) -> None:
        """Let an agent be silent, sometimes for too long."""
        for_ms = self.rng.choice((500, 2500, 8000))
        self.steps.append(Hush(at_ms=self._at_ms, node=self._node(), for_ms=for_ms))

    def perish(self) -> None:
        """End a node for good."""
        self.steps.append(Perish(at_ms=self._at_ms, node=self._node()))

    def fail_task(self) -> None:
        """Let something fail."""
        self.steps.append(FailTask(at_ms=self._at_ms, node=self._node()))


_EVENTS: Final[tuple[tuple[Callable[[WorkDrawing], None], float], ...]] = (
    (WorkDrawing.drain, 4.0),
    (WorkDrawing.run_job, 2.0),
    (WorkDrawing.stop_job, 0.5),
    (WorkDrawing.undrain, 1.0),
    (WorkDrawing.open, 1.5),
    (WorkDrawing.evaluate, 0.5),
    (WorkDrawing.purge, 0.5),
    (WorkDrawing.hush, 1.0),
    (WorkDrawing.perish, 0.4),
    (WorkDrawing.fail_task, 1.0),
)
