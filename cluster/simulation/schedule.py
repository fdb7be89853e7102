"""A schedule: all that happens to a cluster from outside, as data.

A seed and a list of timed steps; the seed decides what nobody writes down (delays,
timeouts, what survives a power cut). Played twice it is the same run, and any part of it
is a schedule, too, which is what shrinking lives on.

A step that names a server may name a role instead: `leader`, or `follower`.
"""

from pathlib import Path
from typing import Final

import msgspec

LEADER: Final = "leader"
FOLLOWER: Final = "follower"
SYNCING: Final = "syncing"
LEADING: Final = "leading"
SNAPSHOTTING: Final = "snapshotting"


class _Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", gc=False):
    """What every step has: when, in virtual milliseconds from the start."""

    at_ms: int


# Servers


class Kill(_Step, frozen=True, kw_only=True, tag="kill"):
    """End a server between two callbacks, that many after `at_ms`; it stays down."""

    server: str
    has_power_loss: bool = False
    callbacks: int = 0


class KillWhen(_Step, frozen=True, kw_only=True, tag="kill_when"):
    """End a server the next time that it syncs, leads, or has a snapshot half on disk."""

    server: str
    moment: str
    has_power_loss: bool = False


class Start(_Step, frozen=True, kw_only=True, tag="start"):
    """Start every server that is down and may come back, on a disk that works again."""


class PowerOff(_Step, frozen=True, kw_only=True, tag="power_off"):
    """Cut the power of all servers at once."""


class Pause(_Step, frozen=True, kw_only=True, tag="pause"):
    """Let a server stand still for a while; then everything arrives at once."""

    server: str
    for_ms: int


class JumpClock(_Step, frozen=True, kw_only=True, tag="jump_clock"):
    """Move a server's wall clock."""

    server: str
    by_ms: int


# Links


class Cut(_Step, frozen=True, kw_only=True, tag="cut"):
    """Hold up what one server sends to another, until the next `heal`."""

    server: str
    other: str
    is_both_ways: bool = False


class Isolate(_Step, frozen=True, kw_only=True, tag="isolate"):
    """Hold up everything from a server, and to it too unless that `is_one_way`."""

    server: str
    is_one_way: bool = False


class Slow(_Step, frozen=True, kw_only=True, tag="slow"):
    """Let one direction take longer, until the next `heal`."""

    server: str
    other: str
    by_ms: int


class Break(_Step, frozen=True, kw_only=True, tag="break"):
    """Break the connections of two servers."""

    server: str
    other: str


class Linger(_Step, frozen=True, kw_only=True, tag="linger"):
    """Break what one server dialled; the other still gets what was sent on it, late."""

    server: str
    other: str
    lag_ms: int


class Heal(_Step, frozen=True, kw_only=True, tag="heal"):
    """Let everything through again."""


# Disks


class SlowDisk(_Step, frozen=True, kw_only=True, tag="slow_disk"):
    """Let every sync take longer; 0 ends it."""

    server: str
    by_ms: int


class FailDisk(_Step, frozen=True, kw_only=True, tag="fail_disk"):
    """Let an action ("write", "sync", "create") fail; the server has to stop itself."""

    server: str
    action: str


class FillDisk(_Step, frozen=True, kw_only=True, tag="fill_disk"):
    """Leave no room for another file."""

    server: str


class FlipBit(_Step, frozen=True, kw_only=True, tag="flip_bit"):
    """Stop a server, let one bit of one file rot, and start it again.

    `place` chooses the bit among those of what was written. The server must refuse to
    start, or have lost nothing.
    """

    server: str
    place: int


class Wipe(_Step, frozen=True, kw_only=True, tag="wipe"):
    """Stop a server and empty its directory: it comes back as one that never was."""

    server: str


# Operators


class Transfer(_Step, frozen=True, kw_only=True, tag="transfer"):
    """Ask a server for another leader, that one or, for "", whoever is best."""

    server: str
    to: str = ""


class SaveSnapshot(_Step, frozen=True, kw_only=True, tag="save_snapshot"):
    """Ask a server for a snapshot now."""

    server: str


class Remove(_Step, frozen=True, kw_only=True, tag="remove"):
    """Ask a server to take a member out."""

    server: str
    member: str


class Add(_Step, frozen=True, kw_only=True, tag="add"):
    """Ask a server to take a member in."""

    server: str
    member: str


# Clients


class Write(_Step, frozen=True, kw_only=True, tag="write"):
    """Have a server propose a command of operation `op` about one node."""

    op: int
    server: str
    verb: str
    node: str
    is_retried: bool = False


class Read(_Step, frozen=True, kw_only=True, tag="read"):
    """Read one node on a server."""

    op: int
    server: str
    node: str
    is_consistent: bool = True


class Follow(_Step, frozen=True, kw_only=True, tag="follow"):
    """Watch one node, or all for "", on a server by blocking reads, until it is gone."""

    op: int
    server: str
    node: str
    wait_ms: int


# Work, and the agents of nodes. Whoever asks asks once, on one server.


class Enlist(_Step, frozen=True, kw_only=True, tag="enlist"):
    """Start the agent of a node, which registers it, with room for so much work."""

    node: str
    cpu: int


class Hush(_Step, frozen=True, kw_only=True, tag="hush"):
    """Let an agent say nothing for a while; what it runs goes on."""

    node: str
    for_ms: int


class Perish(_Step, frozen=True, kw_only=True, tag="perish"):
    """End an agent and its node for good; nobody is told."""

    node: str


class FailTask(_Step, frozen=True, kw_only=True, tag="fail_task"):
    """Let what a node has been running for longest fail."""

    node: str


class RunJob(_Step, frozen=True, kw_only=True, tag="run_job"):
    """Register a job of one group, or another version of it."""

    op: int
    server: str
    job: str
    kind: str
    count: int
    max_parallel: int
    cpu: int


class StopJob(_Step, frozen=True, kw_only=True, tag="stop_job"):
    """Stop a job, or forget it."""

    op: int
    server: str
    job: str
    is_purge: bool = False


class DrainNode(_Step, frozen=True, kw_only=True, tag="drain_node"):
    """Drain a node; the deadline is -1 to force it at once, 0 for none."""

    op: int
    server: str
    node: str
    deadline_ms: int
    ignore_system_jobs: bool = False


class UndrainNode(_Step, frozen=True, kw_only=True, tag="undrain_node"):
    """Stop a node's drain."""

    op: int
    server: str
    node: str
    mark_eligible: bool = False


class OpenNode(_Step, frozen=True, kw_only=True, tag="open_node"):
    """Open a node for placements, or close it."""

    op: int
    server: str
    node: str
    is_open: bool


class EvaluateNode(_Step, frozen=True, kw_only=True, tag="evaluate_node"):
    """Have all looked at that concerns a node."""

    op: int
    server: str
    node: str


class PurgeNode(_Step, frozen=True, kw_only=True, tag="purge_node"):
    """Forget a node; its agent, if it lives, registers it again."""

    op: int
    server: str
    node: str


ServerStep = Kill | KillWhen | Start | PowerOff | Pause | JumpClock
LinkStep = Cut | Isolate | Slow | Break | Linger | Heal
DiskStep = SlowDisk | FailDisk | FillDisk | FlipBit | Wipe
OperatorStep = Transfer | SaveSnapshot | Remove | Add
ClientStep = Write | Read | Follow
AgentStep = Enlist | Hush | Perish | FailTask
OrderStep = (
    RunJob | StopJob | DrainNode | UndrainNode | OpenNode | EvaluateNode | PurgeNode
)
WorkStep = AgentStep | OrderStep
Step = ServerStep | LinkStep | DiskStep | OperatorStep | ClientStep | WorkStep


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """What is played: how many servers, with which settings, and the steps in order.

    Delays, syncs and wall clocks are drawn up to what is said here; snapshots travel in
    pieces of `chunk_bytes`. With `has_work` the servers run the leader's services, and
    are left alone for `quiet_ms` once all work is done.
    """

    seed: int
    server_count: int
    duration_ms: int
    delay_ms_max: float = 4.0
    sync_ms_max: float = 3.0
    clock_offset_ms_max: int = 0
    chunk_bytes: int = 256 << 10
    has_work: bool = False
    quiet_ms: int = 0
    settings: dict[str, int | float] = {}
    steps: tuple[Step, ...] = ()


def encode_schedule(schedule: Schedule) -> bytes:
    """Return a schedule as JSON, one step to a line."""
    return msgspec.json.format(msgspec.json.encode(schedule)) + b"\n"


def decode_schedule(content: bytes) -> Schedule:
    """Read one; raises `msgspec.ValidationError` if it is none."""
    return msgspec.json.decode(content, type=Schedule)


def read_schedule(path: Path) -> Schedule:
    """Read a file."""
    return decode_schedule(path.read_bytes())


def describe(step: Step) -> str:
    """Return a step in a line for people."""
    fields = msgspec.to_builtins(step)
    at_ms, kind = fields.pop("at_ms"), fields.pop("do")
    words = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{at_ms:6d} ms  {kind} {words}".rstrip()
