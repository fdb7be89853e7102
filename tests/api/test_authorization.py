"""ACLs over HTTP: who is asked, when, and what becomes of it."""

import asyncio
import ssl
from typing import Any

import aiohttp
import pytest

from nodestate.api.authorization import FRESH_S_MAX
from nodestate.errors import NoLeaderError
from nodestate.model.command import (
    ANONYMOUS,
    PurgeNodes,
    RegisterNodes,
    Registration,
    SetDrain,
)
from nodestate.model.node_id import node_key
from nodestate.tls import http_context
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    SECRET,
    UNKNOWN_ID,
    ApiFactory,
    node_body,
)
from tests.api.guarding import (
    KINDS,
    OTHER_SECRET,
    READS_ALL,
    Guarded,
    guard,
)
from tests.api.test_listener import config, trusting
from tests.api.test_restores import snapshot_of
from tests.api.working import group_body, job_body
from tests.authorities import make_authority, server_pair, write_authority, write_pair
from tests.fsm.acls import (
    change_token,
    delete_tokens,
    new_token,
    put_policies,
    put_tokens,
    secret_of,
    uuid,
)

KEY, OTHER_KEY = node_key(NODE_ID), node_key(OTHER_ID)
DENIED = (403, "Permission denied")
NOT_FOUND = (403, "ACL token not found")
READER, WRITER = KINDS["read"], KINDS["write"]
NODE_WRITER = 'node { policy = "write" }'
DRAIN = {"DrainSpec": {"Deadline": 3_600_000_000_000}}
IN_TEAM = 'namespace "team" { policy = "read" }'


@pytest.fixture
async def guarded(make_api: ApiFactory) -> Guarded:
    return await guard(await make_api(acl_enabled=True))


def told(answer: Any) -> tuple[int, str]:
    return answer.status, answer.text


# Who asks


async def test_without_acls_no_token_is_looked_at(api):
    await api.register()

    assert (await api.get("/v1/nodes", {"X-Nomad-Token": "nonsense"})).status == 200
    assert (await api.get(NODE_PATH, {"X-Nomad-Token": SECRET})).status == 200


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", DENIED),
        ("malformed", NOT_FOUND),
        ("unknown", NOT_FOUND),
        ("accessor", NOT_FOUND),
        ("expired", DENIED),
        ("deleted", NOT_FOUND),
        ("deny", DENIED),
        ("own agent", NOT_FOUND),
    ],
)
async def test_a_refusal_says_no_more_than_nomads(guarded, kind, expected):
    answer = await guarded.get("/v1/nodes", KINDS[kind])

    assert told(answer) == expected
    assert answer.nomad_headers() == set()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_who_shows_no_token_may_what_the_anonymous_policy_says(guarded):
    guarded.apply(put_policies(anonymous='node { policy = "read" }'))

    assert (await guarded.get("/v1/nodes", "")).status == 200
    assert told(await guarded.put(f"{NODE_PATH}/drain", "", DRAIN)) == DENIED
    # It is nobody else's.
    assert told(await guarded.get("/v1/nodes", KINDS["deny"])) == DENIED


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {READER}"}, 200),
        ({"Authorization": f"bearer  {READER} "}, 200),
        ({"Authorization": f"Basic {READER}"}, 403),
        ({"X-Nomad-Token": READER, "Authorization": "Bearer nonsense"}, 200),
        ({"X-Nomad-Token": "nonsense", "Authorization": f"Bearer {READER}"}, 403),
        ({"X-Nomad-Token": READER.upper()}, 200),
        ({"X-Nomad-Token": f" {READER} "}, 200),
    ],
)
async def test_a_token_comes_in_one_of_two_headers(guarded, headers, status):
    assert (await guarded.api.get("/v1/nodes", headers)).status == status


async def test_a_token_in_the_query_is_none(guarded):
    assert told(await guarded.get(f"/v1/nodes?token={READER}", "")) == DENIED


# When


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", f"/v1/node/{UNKNOWN_ID}/drain", DRAIN),
        ("PUT", "/v1/node/nonsense/purge", None),
        ("PUT", f"{NODE_PATH}/eligibility", "no JSON"),
        ("PUT", "/v1/jobs", "no JSON"),
        ("GET", "/v1/jobs?namespace=no,name", None),
        ("GET", "/v1/nodes?index=nonsense", None),
        ("GET", "/v1/nodes?region=elsewhere", None),
        ("GET", "/v1/operator/snapshot", None),
        ("PUT", "/v1/operator/snapshot", "no snapshot"),
    ],
)
async def test_who_may_not_ask_learns_nothing_of_what_is_wrong(
    guarded, method, path, body
):
    answer = await guarded.ask(method, path, KINDS["deny"], body)

    assert told(answer) == DENIED
    if method == "PUT":
        assert answer.headers["x-nodestate-outcome"] == "none"


async def test_a_body_that_never_comes_is_not_waited_for(guarded):
    async with guarded.api.connected() as (reader, writer):
        head = f"PUT {NODE_PATH}/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        writer.write(f"{head}\r\n".encode())

        assert b" 403 " in await reader.readline()


@pytest.mark.parametrize(
    "path", ["/v1/status/leader", "/v1/status/peers", "/v1/agent/health", "/v1/metrics"]
)
async def test_what_is_open_is_so_to_a_bad_token(guarded, path):
    assert (await guarded.get(path, "nonsense")).status == 200


async def test_who_waits_is_not_asked_again_but_the_next_time_is(guarded):
    index = (await guarded.get("/v1/nodes", READER)).index
    reading = asyncio.create_task(
        guarded.get(f"/v1/nodes?index={index}&wait=60s", READER)
    )
    await guarded.api.until_waiting()
    guarded.apply(delete_tokens(uuid(4)))
    await guarded.put(f"{NODE_PATH}/drain", WRITER, DRAIN)

    assert (await reading).status == 200
    assert told(await guarded.get("/v1/nodes", READER)) == NOT_FOUND


async def test_a_changed_policy_counts_at_once(guarded):
    assert (await guarded.put(f"{NODE_PATH}/drain", WRITER, DRAIN)).status == 200

    guarded.apply(put_policies(writing=READS_ALL))

    assert told(await guarded.put(f"{NODE_PATH}/drain", WRITER, DRAIN)) == DENIED
    assert (await guarded.get("/v1/nodes", WRITER)).status == 200


# While a change is on its way


async def put_while(
    guarded: Guarded,
    secret: str,
    *changes: Any,
    path: str = f"{NODE_PATH}/drain",
    body: object = DRAIN,
) -> Any:
    """Change something, and have more happen between the permission and the log."""
    api = guarded.api
    api.proposer.gate.clear()
    asking = asyncio.create_task(guarded.put(path, secret, body, Idempotency_Key="k"))
    await api.until(lambda: bool(api.proposer.gate._waiters))
    for change in changes:
        guarded.apply(change)
    api.proposer.gate.set()
    return await asking


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (delete_tokens(uuid(5)), NOT_FOUND),
        (put_policies(writing=READS_ALL), DENIED),
        (change_token(5, policies=("reading",)), DENIED),
    ],
)
async def test_what_is_taken_away_meanwhile_permits_nothing(guarded, change, expected):
    assert told(await put_while(guarded, WRITER, change)) == expected
    node = guarded.api.replica.state().node(KEY)
    assert node is not None
    assert not node.drain


@pytest.mark.parametrize(
    ("secret", "change"),
    [
        (WRITER, put_policies(other=READS_ALL)),
        (WRITER, change_token(5, policies=("writing", "reading"))),
        (WRITER, delete_tokens(uuid(4))),
        (KINDS["management"], put_policies(writing=READS_ALL)),
        (SECRET, put_policies(writing=READS_ALL)),
    ],
)
async def test_what_is_still_permitted_is_done_once(guarded, secret, change):
    answer = await put_while(guarded, secret, change)

    assert answer.status == 200
    drains = [one for one in guarded.api.proposer.commands if isinstance(one, SetDrain)]
    outcomes = guarded.api.replica.state().node(KEY)
    assert outcomes is not None
    assert outcomes.modify_index == answer.index
    assert len({one.at_ns for one in drains}) == 1


# Where this server lags behind


def lagging(guarded: Guarded, *commands: Any) -> None:
    """Let what was done elsewhere come to be known here once the leader is asked."""
    replica = guarded.api.replica
    wait = replica.wait_until_linearizable

    async def catch_up(*, deadline_s: float) -> int:
        for command in commands:
            guarded.apply(command)
        replica.wait_until_linearizable = wait  # type: ignore[method-assign]
        return await wait(deadline_s=deadline_s)

    replica.wait_until_linearizable = catch_up  # type: ignore[method-assign]


NEW = put_tokens(new_token(9, policies=("writing",)))


async def test_a_token_made_elsewhere_is_good_here(guarded):
    lagging(guarded, NEW)

    assert (await guarded.put(f"{NODE_PATH}/drain", secret_of(9), DRAIN)).status == 200


async def test_a_stale_read_takes_what_is_known_here(guarded):
    lagging(guarded, NEW)

    assert told(await guarded.get("/v1/nodes?stale", secret_of(9))) == NOT_FOUND


async def test_a_token_deleted_elsewhere_permits_no_consistent_read(guarded):
    lagging(guarded, delete_tokens(uuid(4)))

    assert told(await guarded.get("/v1/nodes?consistent", READER)) == NOT_FOUND


async def test_nor_what_no_log_could_refuse(guarded):
    lagging(guarded, delete_tokens(uuid(6)))

    answer = await guarded.put(
        "/v1/operator/raft/transfer-leadership", KINDS["management"]
    )

    assert told(answer) == NOT_FOUND


async def test_nor_what_an_agent_does_whose_node_is_another_by_now(guarded):
    known = guarded.api.replica.state().node(KEY)
    assert known is not None
    other = Registration(key=KEY, node=known, secret_sha256=b"o" * 32)
    lagging(
        guarded,
        PurgeNodes(keys=(KEY,), at_ns=1, seed=b"s" * 16),
        RegisterNodes(registrations=(other,), at_ns=1, seed=b"s" * 16),
    )

    answer = await guarded.put(f"{NODE_PATH}/drain", SECRET, DRAIN)

    assert told(answer) == NOT_FOUND
    node = guarded.api.replica.state().node(KEY)
    assert node is not None
    assert not node.drain


@pytest.mark.parametrize("query", ["", "?stale=false"])
async def test_nor_a_read_that_is_not_to_be_stale(guarded, query):
    lagging(guarded, delete_tokens(uuid(6)))

    answer = await guarded.get(f"/v1/operator/snapshot{query}", KINDS["management"])

    assert told(answer) == NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/operator/snapshot"),
        ("GET", "/v1/operator/raft/configuration"),
        ("PUT", "/v1/operator/raft/transfer-leadership"),
    ],
)
async def test_nor_when_the_leader_first_does_not_answer(guarded, method, path):
    lagging(guarded, delete_tokens(uuid(6)))
    replica = guarded.api.replica
    catch_up, is_lost = replica.wait_until_linearizable, [True]

    async def lose_the_first(*, deadline_s: float) -> int:
        if is_lost:
            is_lost.clear()
            raise NoLeaderError("No cluster leader")
        index: int = await catch_up(deadline_s=deadline_s)
        return index

    replica.wait_until_linearizable = lose_the_first
    asking = asyncio.create_task(guarded.ask(method, path, KINDS["management"]))
    await guarded.api.pass_time(asking, 1)

    assert told(await asking) == NOT_FOUND


async def test_without_a_leader_a_refusal_is_not_waited_for(guarded):
    guarded.api.leadership.leader_id = None

    assert told(await guarded.get("/v1/nodes", KINDS["unknown"])) == NOT_FOUND
    assert (await guarded.get("/v1/nodes?stale", READER)).status == 200


async def test_a_leader_that_does_not_answer_is_not_waited_for_long(guarded):
    replica = guarded.api.replica
    replica.linearizable_deadlines_s.clear()
    replica.read_errors.append(NoLeaderError("No cluster leader"))

    assert told(await guarded.get("/v1/nodes", KINDS["unknown"])) == NOT_FOUND
    assert replica.linearizable_deadlines_s == [FRESH_S_MAX]


async def test_nonsense_costs_the_leader_nothing(guarded):
    guarded.api.replica.linearizable_deadlines_s.clear()

    await guarded.get("/v1/nodes", KINDS["malformed"])
    await guarded.get("/v1/nodes", READER)

    assert guarded.api.replica.linearizable_deadlines_s == []


# Who is said to have asked


@pytest.mark.parametrize(
    ("secret", "asked_by", "accessor"),
    [
        (WRITER, uuid(5), f"token:{uuid(5)}"),
        (KINDS["management"], uuid(6), f"token:{uuid(6)}"),
        (SECRET, f"client:{NODE_ID}", f"client:{NODE_ID}"),
        ("", ANONYMOUS, "token:anonymous"),
    ],
)
async def test_a_change_says_who_asked_for_it(guarded, secret, asked_by, accessor):
    guarded.apply(put_policies(anonymous=NODE_WRITER))

    await guarded.put(f"{NODE_PATH}/drain", secret, DRAIN)

    command = guarded.api.proposer.commands[-1]
    assert command.asked_by == asked_by
    node = (await guarded.get(NODE_PATH, KINDS["management"])).json
    assert node["LastDrain"]["AccessorID"] == accessor


async def test_without_acls_everybody_is_anonymous(api):
    await api.register()
    await api.put(f"{NODE_PATH}/drain", DRAIN)

    assert api.proposer.commands[-1].asked_by == ANONYMOUS
    assert api.proposer.commands[-1].permit is None
    assert (await api.read())["LastDrain"]["AccessorID"] == "token:acls-disabled"


async def test_the_leader_is_told_who_has_garbage_collected(guarded):
    await guarded.put("/v1/system/gc", KINDS["management"])

    assert guarded.api.questions[-1].asked_by == uuid(6)


async def test_a_key_is_its_callers_alone(guarded):
    first = await guarded.put(
        f"{NODE_PATH}/drain", WRITER, DRAIN, Idempotency_Key="key"
    )
    other = await guarded.put(
        f"{NODE_PATH}/drain", KINDS["management"], DRAIN, Idempotency_Key="key"
    )
    again = await guarded.put(
        f"{NODE_PATH}/drain", WRITER, DRAIN, Idempotency_Key="key"
    )

    assert (first.status, other.status, again.status) == (200, 200, 200)
    assert "idempotency-replayed" not in other.headers
    assert again.headers["idempotency-replayed"] == "true"


# Nodes


NEW_NODE = "aaaaaaaa-1111-2222-3333-444444444444"


def registration(node_id: str = NEW_NODE, secret: str = SECRET) -> dict[str, Any]:
    return {"Node": node_body(node_id, SecretID=secret)}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("none", 403),
        ("malformed", 403),
        ("unknown", 403),
        ("expired", 403),
        ("deny", 403),
        ("read", 403),
        ("own agent", 403),
        ("write", 200),
        ("management", 200),
    ],
)
async def test_a_node_is_added_by_who_may_write_nodes(guarded, kind, status):
    answer = await guarded.put("/v1/nodes", KINDS[kind], registration())

    assert answer.status == status
    if status == 403:
        assert answer.text == "Permission denied"
        assert answer.headers["x-nodestate-outcome"] == "none"


async def test_a_known_node_registers_by_its_secret_alone(guarded):
    answer = await guarded.put("/v1/nodes", "", registration(NODE_ID))
    wrong = await guarded.put("/v1/nodes", WRITER, registration(NODE_ID, OTHER_SECRET))

    assert answer.status == 200
    assert told(wrong) == (403, "node secret ID does not match. Not registering node.")


async def test_one_that_was_purged_elsewhere_is_new(guarded):
    api = guarded.api
    api.proposer.gate.clear()
    asking = asyncio.create_task(guarded.put("/v1/nodes", "", registration(NODE_ID)))
    await api.until(lambda: bool(api.proposer.gate._waiters))
    guarded.apply(PurgeNodes(keys=(KEY,), at_ns=1, seed=b"s" * 16))
    api.proposer.gate.set()

    assert told(await asking) == DENIED
    assert api.replica.state().node(KEY) is None


async def test_of_many_nodes_only_known_ones_are_taken(guarded):
    nodes = [node_body(NODE_ID), node_body(NEW_NODE)]
    answer = await guarded.put("/v1/nodes", "", {"Nodes": nodes})

    assert answer.status == 200
    assert [one["Error"] for one in answer.json["Results"]] == ["", "Permission denied"]
    assert guarded.api.replica.state().node(node_key(NEW_NODE)) is None


async def test_what_agents_do_takes_no_token(guarded):
    sent = {"SecretID": SECRET, "Status": "ready"}

    assert (await guarded.put(f"{NODE_PATH}/heartbeat", "", sent)).status == 200
    assert (await guarded.put(f"{NODE_PATH}/heartbeat", WRITER)).status == 400
    proof = await guarded.put(f"{NODE_PATH}/heartbeat", SECRET, {"Status": "ready"})
    assert proof.status == 200
    other = {"SecretID": OTHER_SECRET}
    assert (await guarded.put(f"{NODE_PATH}/heartbeat", WRITER, other)).status == 403


async def test_an_agent_reads_all_of_its_own_allocations(guarded):
    node_id, secret = guarded.busy_node()
    path = f"/v1/node/{node_id}/allocations"
    answer = await guarded.get(path, secret)
    (other,) = {SECRET, OTHER_SECRET} - {secret}

    on_node = guarded.api.replica.state().allocations_on(node_key(node_id))
    assert on_node
    assert {one["ID"] for one in answer.json} == {one.id for one in on_node}
    assert told(await guarded.get(path, other)) == NOT_FOUND


async def test_an_agent_drains_itself_and_no_other(guarded):
    assert (await guarded.put(f"{NODE_PATH}/drain", SECRET, DRAIN)).status == 200
    other = await guarded.put(f"/v1/node/{OTHER_ID}/drain", SECRET, DRAIN)

    assert told(other) == NOT_FOUND
    node = guarded.api.replica.state().node(OTHER_KEY)
    assert node is not None
    assert not node.drain


async def test_an_agent_may_be_asked_about_by_a_short_id_of_another(guarded):
    """The path names a node by all of its id, and nothing else is the agent's own."""
    short = await guarded.put(f"/v1/node/{NODE_ID[:8]}/drain", SECRET, DRAIN)
    nonsense = await guarded.put("/v1/node/x/drain", SECRET, DRAIN)

    assert told(short) == told(nonsense) == NOT_FOUND


# Namespaces


async def test_lists_of_all_namespaces_show_those_that_may_be_read(guarded):
    secret = guarded.may(team=IN_TEAM)

    for path in ("jobs", "allocations", "evaluations"):
        answer = await guarded.get(f"/v1/{path}?namespace=*", secret)
        found = {one["Namespace"] for one in answer.json}
        assert (answer.status, found) == (200, {"team"}), path
        all_of_it = await guarded.get(f"/v1/{path}?namespace=*", KINDS["management"])
        assert {one["Namespace"] for one in all_of_it.json} == {"default", "team"}
        assert told(await guarded.get(f"/v1/{path}", secret)) == DENIED
        team = await guarded.get(f"/v1/{path}?namespace=team", secret)
        assert len(team.json) == len(answer.json)


async def test_a_page_of_all_namespaces_is_full_of_what_may_be_read(guarded):
    for number in range(3):
        await guarded.run_job(f"team-{number}", "team")
        await guarded.run_job(f"default-{number}")
    secret = guarded.may(team=IN_TEAM)

    for path in ("jobs", "allocations", "evaluations"):
        query = "?namespace=*&per_page=2"
        first = await guarded.get(f"/v1/{path}{query}", secret)
        token = first.headers["x-nomad-nexttoken"]
        second = await guarded.get(f"/v1/{path}{query}&next_token={token}", secret)
        entries = first.json + second.json
        assert [one["Namespace"] for one in entries] == ["team"] * 4, path
        assert len({one["ID"] for one in entries}) == 4


async def test_who_waits_for_a_list_is_woken_by_what_is_not_shown(guarded):
    secret = guarded.may(team=IN_TEAM)
    before = await guarded.get("/v1/allocations?namespace=*", secret)
    path = f"/v1/allocations?namespace=*&index={before.index}&wait=60s"
    reading = asyncio.create_task(guarded.get(path, secret))
    await guarded.api.until_waiting()
    await guarded.run_job("other")

    after = await reading
    assert after.index > before.index
    assert after.json == before.json


async def test_allocations_of_a_node_are_those_that_may_be_read(guarded):
    secret = guarded.may(team=IN_TEAM, nodes='node { policy = "read" }')
    state = guarded.api.replica.state()
    for node_id in (NODE_ID, OTHER_ID):
        answer = await guarded.get(f"/v1/node/{node_id}/allocations", secret)
        on_node = state.allocations_on(node_key(node_id))
        seen = {one.id for one in on_node if one.namespace == "team"}
        assert {one["ID"] for one in answer.json} == seen
        if on_node:
            assert answer.index == max(one.modify_index for one in on_node)

    nothing = guarded.may(nodes='node { policy = "read" }')
    answer = await guarded.get(f"{NODE_PATH}/allocations", nothing)
    assert told(answer) == (200, "[]")
    jobs_only = guarded.may(team=IN_TEAM)
    assert told(await guarded.get(f"{NODE_PATH}/allocations", jobs_only)) == DENIED


async def test_an_allocation_that_may_not_be_read_is_as_if_not_there(guarded):
    secret = guarded.may(team=IN_TEAM)
    hidden = guarded.allocation_of("web")
    answer = await guarded.get(f"/v1/allocation/{hidden}", secret)
    missing = await guarded.get(f"/v1/allocation/{UNKNOWN_ID}", secret)

    assert told(answer) == told(missing) == (404, "alloc not found")
    assert answer.index == missing.index
    seen = guarded.allocation_of("team-web")
    assert (await guarded.get(f"/v1/allocation/{seen}", secret)).status == 200
    assert (await guarded.get(f"/v1/allocation/{hidden}", SECRET)).status == 200


async def test_nobody_learns_by_waiting_for_it_either(guarded):
    secret = guarded.may(team=IN_TEAM)
    hidden = guarded.allocation_of("web")
    index = (await guarded.get(f"/v1/allocation/{hidden}", secret)).index
    path = f"/v1/allocation/{hidden}?index={index}&wait=1s"
    reading = asyncio.create_task(guarded.get(path, secret))
    await guarded.api.until_waiting()
    stopped = await guarded.put(f"/v1/allocation/{hidden}/stop", WRITER)
    assert stopped.status == 200
    await asyncio.sleep(0)
    assert guarded.api.gauge("nodestate_api_waiters") == 1

    await guarded.api.pass_time(reading, 5)
    assert (await reading).status == 404


LIFECYCLE = 'namespace "team" { capabilities = ["alloc-lifecycle"] }'


async def test_an_allocation_is_stopped_by_who_may_in_its_namespace(guarded):
    secret = guarded.may(team=LIFECYCLE)
    reader = guarded.may(
        team=LIFECYCLE, default='namespace "default" { policy = "read" }'
    )
    hidden = guarded.allocation_of("web")
    seen = guarded.allocation_of("team-web")

    async def stop(id_: str, secret: str) -> Any:
        return await guarded.put(f"/v1/allocation/{id_}/stop", secret)

    assert told(await stop(hidden, READER)) == DENIED
    assert told(await stop(UNKNOWN_ID, READER)) == DENIED
    assert told(await stop(hidden, secret)) == (404, "alloc not found")
    assert told(await stop(UNKNOWN_ID, secret)) == (404, "alloc not found")
    assert told(await stop(hidden, reader)) == DENIED
    assert (await stop(seen, secret)).status == 200


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ('namespace "default" { policy = "read" }', DENIED),
        ('namespace "default" { policy = "deny" }', (404, "alloc not found")),
    ],
)
async def test_what_is_taken_away_meanwhile_in_its_namespace_stops_nothing(
    guarded, left, expected
):
    lifecycle = 'namespace "default" { capabilities = ["alloc-lifecycle"] }'
    guarded.apply(put_policies(team=LIFECYCLE, here=lifecycle))
    guarded.apply(put_tokens(new_token(9, policies=("team", "here"))))
    id_ = guarded.allocation_of("web")

    answer = await put_while(
        guarded,
        secret_of(9),
        put_policies(here=left),
        path=f"/v1/allocation/{id_}/stop",
        body=None,
    )

    assert told(answer) == expected
    marked = guarded.api.replica.state().allocations[id_].desired_transition
    assert not marked.migrate


async def test_one_that_is_not_known_here_yet_is_asked_for_first(guarded):
    secret = guarded.may(team=LIFECYCLE)
    guarded.api.replica.linearizable_deadlines_s.clear()

    answer = await guarded.put(f"/v1/allocation/{UNKNOWN_ID}/stop", secret)

    assert answer.status == 404
    assert len(guarded.api.replica.linearizable_deadlines_s) == 1


async def test_an_evaluation_is_read_in_its_own_namespace(guarded):
    evaluations = guarded.api.replica.state().evaluations.values()
    by_namespace = {one.namespace: one.id for one in evaluations}
    secret = guarded.may(default='namespace "default" { policy = "read" }')

    for tail in ("", "/allocations"):
        own = f"/v1/evaluation/{by_namespace['default']}{tail}"
        other = f"/v1/evaluation/{by_namespace['team']}{tail}"
        assert (await guarded.get(own, secret)).status == 200
        assert told(await guarded.get(other, secret)) == DENIED
        assert told(await guarded.get(f"{own}?namespace=team", secret)) == DENIED


async def test_a_drain_names_jobs_only_to_who_may_read_them(guarded):
    secret = guarded.may(team=IN_TEAM, nodes='node { policy = "read" }')
    for number in range(4):
        await guarded.run_job(f"more-{number}", "team" if number % 2 else "default")

    path = f"/v1/node/{guarded.busy_node()[0]}/drain"
    all_of_it = (await guarded.get(path, KINDS["management"])).json["Groups"]
    answer = await guarded.get(path, secret)
    groups = answer.json["Groups"]

    assert {one["Namespace"] for one in all_of_it} == {"default", "team"}
    assert len(groups) == len(all_of_it)
    for shown, whole in zip(groups, all_of_it, strict=True):
        if whole["Namespace"] == "team":
            assert shown == whole
            continue
        assert (shown["Namespace"], shown["JobID"], shown["TaskGroup"]) == ("", "", "")
        for name in ("Moving", "Next", "Waiting"):
            assert shown[name] == [""] * len(whole[name])
            assert not any(id_ in answer.text for id_ in whole[name])


@pytest.mark.parametrize(
    ("rule", "is_read_only", "status"),
    [
        (None, True, 403),
        ('host_volume "certs" { policy = "read" }', True, 200),
        ('host_volume "certs" { policy = "read" }', False, 403),
        ('host_volume "certs" { policy = "write" }', False, 200),
        ('host_volume "c*" { capabilities = ["mount-readwrite"] }', True, 200),
        ('host_volume "certs" { policy = "deny" }', True, 403),
    ],
)
async def test_a_job_mounts_what_its_author_may(guarded, rule, is_read_only, status):
    rules = {"submit": 'namespace "default" { policy = "write" }'}
    secret = guarded.may(**rules, **({"volume": rule} if rule else {}))
    volume = {"Name": "v", "Type": "host", "Source": "certs", "ReadOnly": is_read_only}
    group = group_body(Volumes={"v": volume})
    body = {"Job": job_body("mounting", TaskGroups=[group])}

    assert (await guarded.put("/v1/jobs", secret, body)).status == status


async def test_a_volume_that_is_taken_away_meanwhile_is_not_mounted(guarded):
    submit = 'namespace "default" { policy = "write" }'
    volume_rule = 'host_volume "certs" { policy = "write" }'
    guarded.apply(put_policies(submit=submit, volume=volume_rule))
    guarded.apply(put_tokens(new_token(9, policies=("submit", "volume"))))
    volume = {"Name": "v", "Type": "host", "Source": "certs"}
    job = job_body("mounting", TaskGroups=[group_body(Volumes={"v": volume})])

    answer = await put_while(
        guarded,
        secret_of(9),
        put_policies(volume=volume_rule.replace("write", "deny")),
        path="/v1/jobs",
        body={"Job": job},
    )

    assert told(answer) == DENIED
    assert ("default", "mounting") not in guarded.api.replica.state().jobs


# How long tokens live


async def test_the_life_of_a_token_is_within_what_is_set(make_api):
    guarded = await guard(
        await make_api(
            acl_enabled=True, acl_token_ttl_s_min=10.0, acl_token_ttl_s_max=20.0
        )
    )

    async def made(ttl: str) -> int:
        body = {"Type": "client", "Policies": ["reading"], "ExpirationTTL": ttl}
        return (await guarded.put("/v1/acl/token", KINDS["management"], body)).status

    assert [await made(ttl) for ttl in ("9s", "10s", "20s", "21s")] == [
        400,
        200,
        200,
        400,
    ]


# Certificates


async def test_a_certificate_does_for_a_node_that_is_new(guarded, tmp_path):
    authority = make_authority()
    trusted = write_authority(tmp_path, authority)
    accepting = http_context(config(tmp_path, authority, http_tls_client_ca=trusted))
    pair = server_pair(authority, is_server=False, dns_names=("client.global",))
    certificate, key = write_pair(tmp_path, "client", pair)
    shown = trusting(tmp_path, authority, client_cert=certificate, client_key=key)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        guarded.api.server, "127.0.0.1", 0, ssl=accepting
    )
    port = listener.sockets[0].getsockname()[1]

    async def register(context: ssl.SSLContext) -> int:
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.put(
                f"https://localhost:{port}/v1/nodes", json=registration()
            ) as answer,
        ):
            return answer.status

    try:
        assert await register(trusting(tmp_path, authority)) == 403
        assert await register(shown) == 200
        # It proves a machine of the cluster's, and is no token.
        assert guarded.api.proposer.commands[-1].asked_by == ANONYMOUS
    finally:
        listener.close()


async def test_all_steps_of_a_restore_say_who_asked(guarded):
    content = snapshot_of(guarded.api.replica.state())
    secret = KINDS["management"]
    before = len(guarded.api.proposer.commands)

    answer = await guarded.put("/v1/operator/snapshot", secret, content)

    assert answer.status == 200
    steps = guarded.api.proposer.commands[before:]
    assert {step.asked_by for step in steps} == {uuid(6)}
    # What is restored has the token too, with which it goes on.
    assert (await guarded.get("/v1/nodes", secret)).status == 200
