"""Small fleets, jobs and allocations, and what drives a search to its end."""

from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from nodestate.fsm.state import State
from nodestate.model.allocation import (
    AllocatedResources,
    AllocatedShared,
    AllocatedTask,
    Allocation,
)
from nodestate.model.job import (
    Constraint,
    EphemeralDisk,
    Job,
    Resources,
    Task,
    TaskGroup,
)
from nodestate.model.node import (
    CpuResources,
    DiskResources,
    MemoryResources,
    NetworkResource,
    Node,
    NodeKey,
    NodeResources,
    NodeStatus,
    ReservedNetworks,
    ReservedResources,
)
from nodestate.planning.selection import Selection

T = TypeVar("T")
SEED = ("4d1ad0c1", 17)


def key(number: int) -> NodeKey:
    return NodeKey(f"{number:032x}")


def node(
    number: int = 1,
    *,
    total: tuple[int, int, int] = (4000, 8192, 100_000),
    reserved: tuple[int, int, int] = (0, 0, 0),
    cidr: str | None = None,
    mbits: int = 1000,
    ports: str = "",
    **fields: Any,
) -> Node:
    """A ready node with one network; amounts are MHz, MiB and MiB."""
    cidr = f"10.0.0.{number}/32" if cidr is None else cidr
    network = NetworkResource(device="eth0", cidr=cidr, mbits=mbits)
    default: dict[str, Any] = {
        "id": f"node-{number}",
        "name": f"n{number}",
        "datacenter": "dc1",
        "status": NodeStatus.READY,
        "attributes": {"kernel.name": "linux", "driver.exec": "1"},
    }
    return Node(
        node_resources=NodeResources(
            cpu=CpuResources(cpu_shares=total[0]),
            memory=MemoryResources(memory_mb=total[1]),
            disk=DiskResources(disk_mb=total[2]),
            networks=[network] if cidr else None,
        ),
        reserved_resources=ReservedResources(
            cpu=CpuResources(cpu_shares=reserved[0]),
            memory=MemoryResources(memory_mb=reserved[1]),
            disk=DiskResources(disk_mb=reserved[2]),
            networks=ReservedNetworks(reserved_host_ports=ports),
        ),
        **{**default, **fields},
    )


def group(
    name: str = "grp",
    *,
    count: int = 1,
    ask: tuple[int, int, int] = (100, 64, 300),
    network: NetworkResource | None = None,
    **fields: Any,
) -> TaskGroup:
    """A group of one task that asks for so many MHz, MiB and MiB."""
    task = Task(
        name="app",
        driver="exec",
        resources=Resources(
            cpu=ask[0], memory_mb=ask[1], networks=[network] if network else None
        ),
    )
    disk = EphemeralDisk(size_mb=ask[2])
    default: dict[str, Any] = {"tasks": (task,), "ephemeral_disk": disk}
    return TaskGroup(name=name, count=count, **{**default, **fields})


def job(*groups: TaskGroup, **fields: Any) -> Job:
    default: dict[str, Any] = {"id": "web", "datacenters": ("dc1",)}
    return Job(task_groups=groups, **{**default, **fields})


def allocation(
    id_: str,
    on: int = 1,
    *,
    takes: tuple[int, int, int] = (100, 64, 300),
    network: NetworkResource | None = None,
    **fields: Any,
) -> Allocation:
    """A running allocation of the job's group, unless told otherwise."""
    task = AllocatedTask(
        cpu=CpuResources(cpu_shares=takes[0]),
        memory=MemoryResources(memory_mb=takes[1]),
        networks=[network] if network else None,
    )
    default: dict[str, Any] = {
        "job_id": "web",
        "task_group": "grp",
        "client_status": "running",
    }
    return Allocation(
        id=id_,
        node_key=key(on),
        allocated_resources=AllocatedResources(
            tasks={"app": task}, shared=AllocatedShared(disk_mb=takes[2])
        ),
        **{**default, **fields},
    )


def constraint(left: str, operand: str, right: str = "") -> Constraint:
    return Constraint(l_target=left, operand=operand, r_target=right)


def state_of(nodes: Iterable[Node], allocations: Iterable[Allocation] = ()) -> State:
    """A state with the nodes under the keys 1, 2, …, in their order."""
    state = State()
    for number, each in enumerate(nodes, 1):
        state.put_node(key(number), each)
    for placed in allocations:
        state.put_allocation(placed)
    return state


def finish(steps: Generator[None, None, T]) -> T:
    """Do the work without pauses, and return what came of it."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def selection_of(state: State, for_job: Job, seed: Any = SEED) -> Selection:
    """A selection that has found its nodes."""
    selection = Selection(state, for_job, seed=seed)
    finish(selection.prepare())
    return selection
