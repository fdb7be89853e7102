"""What ACLs cost: the same loads with them and without, in turn.

Two clusters are up at once, the first one in one round being the second in the next. The
token is a client's, with policies of the usual size, since a management token needs none.
"""

import contextlib
import http.client
import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from cluster.bench_against import Turn
from cluster.bench_cluster import (
    BATCH_NODES,
    SERVING_S,
    BenchCluster,
    clients_text,
    eligibility_writes,
    laid_out_cluster,
    registration,
)
from cluster.fleet import make_fleet, node_id
from cluster.load import LoadFigures, LoadPlan, Request, run_client, run_for_a_time
from cluster.report import Figure
from cluster.servers import ServerFiles

OFF: Final = "off"
ON: Final = "on"
ENVIRONMENT: Final[Mapping[str, Mapping[str, str]]] = {
    OFF: {},
    ON: {"NODESTATE_ACL_ENABLED": "true"},
}
NODES_PER_RUN: Final = 100
CLIENTS: Final = 64
POLICIES: Final = {
    "nodes": 'node { policy = "write" } agent { policy = "read" }',
    "jobs": 'namespace "default" { policy = "write" } namespace "prod-*" '
    '{ policy = "read" } namespace "*" { capabilities = ["list-jobs"] }',
}


class AclSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How long each load is, how often each is repeated, and how many nodes there are."""

    load_s: float
    rounds: int
    nodes: int = 1000


FULL: Final = AclSizes(load_s=4.0, rounds=5)
QUICK: Final = AclSizes(load_s=2.0, rounds=3)


class Side(msgspec.Struct, frozen=True):
    """One cluster, and the token that its clients show."""

    cluster: BenchCluster
    token: str

    def ask(
        self, requests: Sequence[Request], load_s: float, where: str
    ) -> LoadFigures:
        """Put load on the leader, or on a follower."""
        leads = where == "leader"
        files = self.cluster.leader if leads else self.cluster.follower
        return run_for_a_time(
            LoadPlan(
                address=files.http,
                connections=CLIENTS,
                requests=requests,
                seconds=load_s,
                token=self.token,
            )
        )


def measure_acls(*, is_quick: bool) -> Iterator[Figure]:
    """Read and write with ACLs and without; yield rates, and what ACLs cost."""
    yield from measure_sizes(QUICK if is_quick else FULL)


def measure_sizes(sizes: AclSizes) -> Iterator[Figure]:
    """Do so, for as long as the sizes say."""
    with contextlib.ExitStack() as stack:
        sides = {
            name: _start(
                stack.enter_context(laid_out_cluster(environment=settings)),
                has_acls=name == ON,
            )
            for name, settings in ENVIRONMENT.items()
        }
        for side in sides.values():
            _register(side, sizes.nodes)
        read = [Request("GET", f"/v1/node/{node_id(sizes.nodes - 1)}")]
        numbers = itertools.cycle(range(0, sizes.nodes - NODES_PER_RUN, NODES_PER_RUN))
        for where in ("leader", "follower"):
            loads = itertools.repeat(read)
            yield from _compare(sides, sizes, "acl_reads", loads, where)
            writes = (
                eligibility_writes(range(first, first + NODES_PER_RUN))
                for first in numbers
            )
            yield from _compare(sides, sizes, "acl_writes", writes, where)


def _start(cluster: BenchCluster, *, has_acls: bool) -> Side:
    """Start a cluster; where ACLs are on, bootstrap, and make a client's token."""
    cluster.start()
    return Side(cluster, make_token(cluster.leader) if has_acls else "")


def make_token(files: ServerFiles) -> str:
    """Return the secret of a new token that may write nodes."""
    manager = put(files, "/v1/acl/bootstrap", None, "")["SecretID"]
    for name, rules in POLICIES.items():
        body = {"Name": name, "Rules": rules}
        put(files, f"/v1/acl/policy/{name}", body, manager)
    token = {"Name": "bench", "Type": "client", "Policies": list(POLICIES)}
    secret: str = put(files, "/v1/acl/token", token, manager)["SecretID"]
    return secret


def put(files: ServerFiles, path: str, body: object, token: str) -> dict[str, Any]:
    """Return what a write answers, which must be a good one."""
    connection = http.client.HTTPConnection(files.http, timeout=SERVING_S)
    with contextlib.closing(connection):
        content = None if body is None else json.dumps(body)
        connection.request("PUT", path, content, {"X-Nomad-Token": token})
        answer = connection.getresponse()
        text = answer.read()
    assert answer.status == 200, f"PUT {path}: {answer.status} {text!r}"
    return dict(json.loads(text)) if text else {}


def _register(side: Side, count: int) -> None:
    fleet = make_fleet(range(count))
    batches = [
        registration(fleet[first : first + BATCH_NODES])
        for first in range(0, count, BATCH_NODES)
    ]
    plan = LoadPlan(
        address=side.cluster.leader.http,
        connections=1,
        requests=batches,
        token=side.token,
    )
    load = run_client(plan)
    assert load.refused + load.broken == 0, "not every node was registered"


def _compare(
    sides: dict[str, Side],
    sizes: AclSizes,
    name: str,
    loads: Iterator[Sequence[Request]],
    where: str,
) -> Iterator[Figure]:
    """Yield both sides' medians, and the medians of the rounds' ratios.

    Processor time does not mind what else the machine does meanwhile.
    """
    rounds = [
        _take_turn(sides, sizes.load_s, next(loads), where, is_turned=number % 2 == 1)
        for number in range(sizes.rounds)
    ]
    what = "reads of one node" if name == "acl_reads" else "eligibility writes"
    title = f"{what}, {clients_text(CLIENTS)}"
    for setting in sides:
        found = [taken[setting].load for taken in rounds]
        yield Figure(
            name=f"{name}_{setting}",
            title=f"{title}, ACLs {setting}",
            value=statistics.median(load.per_second for load in found),
            unit="/s",
            where=where,
            p50_ms=statistics.median(load.p50_ms for load in found),
            p99_ms=statistics.median(load.p99_ms for load in found),
        )
    rates = [taken[OFF].load.per_second / taken[ON].load.per_second for taken in rounds]
    times = [taken[ON].cpu_ms_each / taken[OFF].cpu_ms_each for taken in rounds]
    for end, measured, ratios in (
        ("cost", "what ACLs cost, by the rate", rates),
        ("cpu_cost", "what ACLs cost, in processor time of all servers", times),
    ):
        yield Figure(
            name=f"{name}_{end}",
            title=f"{title}: {measured}",
            value=statistics.median(ratios),
            unit="x",
            where=where,
        )


def _take_turn(
    sides: dict[str, Side],
    load_s: float,
    requests: Sequence[Request],
    where: str,
    *,
    is_turned: bool,
) -> dict[str, Turn]:
    """Put the same load on both sides, one after the other."""
    turns: dict[str, Turn] = {}
    for setting in list(sides)[:: -1 if is_turned else 1]:
        side = sides[setting]
        # An election since the last load moves it to the new leader.
        side.cluster.find_leader()
        before_s = side.cluster.cpu_s()
        load = side.ask(requests, load_s, where)
        assert load.refused + load.broken == 0, "some requests failed"
        turns[setting] = Turn(load, side.cluster.cpu_s() - before_s)
    return turns
