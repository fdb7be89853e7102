"""ACLs on several servers: one bootstrap, the same tokens, and what was taken is taken."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster.fleet import make_node, node_id
from cluster.servers import ServerFiles
from tests.cluster.running import Answer, RunningCluster
from tests.conformance.rows import rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

TOKEN = "/v1/acl/token"
BOOTSTRAP = "/v1/acl/bootstrap"


@pytest.fixture(autouse=True)
def row() -> None:
    """Take what `rows` says, which is there to be read in the test's id."""


@pytest.fixture
async def guarded(
    make_cluster: Callable[..., RunningCluster],
) -> AsyncIterator[RunningCluster]:
    """Three servers with ACLs on."""
    async with make_cluster(acl_enabled=True) as cluster:
        yield cluster


async def ask(
    cluster: RunningCluster,
    files: ServerFiles,
    method: str,
    path: str,
    secret: str = "",
    body: object = None,
) -> Answer:
    headers = {"X-Nomad-Token": secret} if secret else {}
    async with cluster.session.request(
        method, files.url + path, json=body, headers=headers
    ) as answer:
        index = int(answer.headers.get("X-Nomad-Index", "0"))
        return Answer(answer.status, await answer.read(), index)


async def everywhere(
    cluster: RunningCluster,
    method: str,
    path: str,
    secret: str = "",
    body: object = None,
) -> list[Answer]:
    """Ask all servers at the same time."""
    asked = [
        ask(cluster, files, method, path, secret, body) for files in cluster.servers
    ]
    return await asyncio.gather(*asked)


@rows("ACL-9.1", "ACL-9.5", "ACL-9.6", "ACL-9.9")
async def test_who_may_do_what_is_one_thing_on_all_servers(
    guarded: RunningCluster,
) -> None:
    manager = await check_bootstrap(guarded)
    first, second, third = guarded.servers
    policy = {"Name": "p", "Rules": 'node { policy = "write" }'}
    path = "/v1/acl/policy/p"
    assert (await ask(guarded, first, "PUT", path, manager, policy)).status == 200
    body = {"Name": "n", "Type": "client", "Policies": ["p"]}
    token = (await ask(guarded, second, "PUT", TOKEN, manager, body)).json

    await check_token_is_one(guarded, manager, token)
    node = {"Node": make_node(0)}
    made = await ask(guarded, third, "PUT", "/v1/nodes", token["SecretID"], node)
    assert made.status == 200, made.body
    await check_policy_counts_at_once(guarded, manager, token["SecretID"])
    await check_deletion_counts_at_once(guarded, manager, token)
    await check_reset(guarded, manager)


async def check_bootstrap(cluster: RunningCluster) -> str:
    answers = await everywhere(cluster, "PUT", BOOTSTRAP)
    good = [answer for answer in answers if answer.status == 200]
    bad = [answer for answer in answers if answer.status == 400]

    assert (len(good), len(bad)) == (1, 2), answers
    text = f"ACL bootstrap already done (reset index: {good[0].index})"
    assert {answer.body.decode() for answer in bad} == {text}
    return str(good[0].json["SecretID"])


async def check_token_is_one(
    cluster: RunningCluster, manager: str, token: dict[str, Any]
) -> None:
    path = f"{TOKEN}/{token['AccessorID']}?consistent"
    read = await everywhere(cluster, "GET", path, manager)

    assert len({answer.body for answer in read}) == 1
    assert read[0].json == token


async def check_policy_counts_at_once(
    cluster: RunningCluster, manager: str, secret: str
) -> None:
    """A drain is refused by every server once a policy allows no more than reading."""
    drain = f"/v1/node/{node_id(0)}/drain"
    stop = {"DrainSpec": None}
    before = await everywhere(cluster, "PUT", drain, secret, stop)
    policy = {"Name": "p", "Rules": 'node { policy = "read" }'}
    first = cluster.servers[0]
    written = await ask(cluster, first, "PUT", "/v1/acl/policy/p", manager, policy)
    after = await everywhere(cluster, "PUT", drain, secret, stop)
    reads = await everywhere(cluster, "GET", "/v1/nodes", secret)

    assert [answer.status for answer in before] == [200] * 3
    assert written.status == 200
    assert [answer.status for answer in after] == [403] * 3
    assert [answer.status for answer in reads] == [200] * 3


async def check_deletion_counts_at_once(
    cluster: RunningCluster, manager: str, token: dict[str, Any]
) -> None:
    path = f"{TOKEN}/{token['AccessorID']}"
    deleted = await ask(cluster, cluster.servers[1], "DELETE", path, manager)
    reads = await everywhere(cluster, "GET", "/v1/nodes?consistent", token["SecretID"])

    assert deleted.status == 200
    assert {(answer.status, answer.body) for answer in reads} == {
        (403, b"ACL token not found")
    }


async def check_reset(cluster: RunningCluster, manager: str) -> None:
    """Only the leader's file counts, whichever server is asked."""
    leader = await cluster.wait_for_leader()
    followers = [files for files in cluster.servers if files.name != leader.name]
    refused = await ask(cluster, followers[0], "PUT", BOOTSTRAP)
    index = json.loads(refused.body.split()[-1].rstrip(b")"))

    (followers[0].data_dir / "acl-bootstrap-reset").write_text(f"{index}\n")
    still = await ask(cluster, followers[0], "PUT", BOOTSTRAP)
    (leader.data_dir / "acl-bootstrap-reset").write_text("soon")
    nonsense = await ask(cluster, followers[0], "PUT", BOOTSTRAP)
    (leader.data_dir / "acl-bootstrap-reset").write_text(f"{index}\n")
    again = await ask(cluster, followers[0], "PUT", BOOTSTRAP)

    assert [one.body for one in (still, nonsense)] == [refused.body] * 2
    assert again.status == 200, again.body
    for secret in (manager, again.json["SecretID"]):
        listed = await ask(cluster, leader, "GET", "/v1/acl/tokens", secret)
        assert listed.status == 200
        assert len(listed.json) == 2
