"""Search by prefix: what is found, of which kinds, by whom."""

import pytest

from nodestate.api.search import MATCHES_MAX
from tests.api.conftest import NODE_ID, OTHER_ID, Answer, Api, ApiFactory
from tests.api.guarding import KINDS, Guarded, guard
from tests.api.working import add_node, evaluations, schedule, submit

PATH = "/v1/search"
RECORDED = {"allocs", "jobs", "nodes", "evals", "deployment"}


async def search(api: Api, prefix: str, context: str, query: str = "") -> Answer:
    return await api.put(PATH + query, {"Prefix": prefix, "Context": context})


async def found(api: Api, prefix: str, context: str, query: str = "") -> list[str]:
    """Return what was found of the one kind that was looked for."""
    answer = await search(api, prefix, context, query)
    assert answer.status == 200, answer.text
    assert set(answer.json["Matches"]) == set(answer.json["Truncations"]) == {context}
    matches: list[str] | None = answer.json["Matches"][context]
    return matches or []


# Ids


@pytest.mark.parametrize(
    ("prefix", "ids"),
    [
        ("", [OTHER_ID, NODE_ID]),
        ("f7", [NODE_ID]),
        ("f", [NODE_ID]),
        ("f74764", [NODE_ID]),
        ("f7476465-", [NODE_ID]),
        ("f7476465-4", [NODE_ID]),
        ("f74764654", [NODE_ID]),
        ("F7476465-4D", [NODE_ID]),
        (NODE_ID, [NODE_ID]),
        ("f8", []),
        ("1", [OTHER_ID]),
    ],
)
async def test_nodes_are_found_by_as_much_of_an_id_as_was_typed(api, prefix, ids):
    await api.register()
    await api.register(OTHER_ID)

    assert await found(api, prefix, "nodes") == ids


@pytest.mark.parametrize("prefix", ["zz", "f7-4-7-6-4-6", "f" * 37, "f7 "])
async def test_what_begins_no_id_leaves_kinds_with_ids_out(api, prefix):
    await api.register()

    answer = await search(api, prefix, "all")

    assert answer.json["Matches"] == {"jobs": None}
    assert answer.json["Truncations"] == {"jobs": False}
    assert (await search(api, prefix, "nodes")).json["Matches"] == {}


async def test_work_is_found_by_its_ids(api):
    await add_node(api)
    await submit(api)
    schedule(api)
    (allocation,) = api.replica.state().allocations
    (evaluation,) = evaluations(api)

    # Ten digits and eleven: one of them would not be even without its last.
    for length in (10, 11, 36):
        assert await found(api, allocation[:length], "allocs") == [allocation]
        assert await found(api, evaluation.id[:length], "evals") == [evaluation.id]
    assert await found(api, allocation[:8], "deployment") == []


# Names


async def test_jobs_are_found_by_the_beginning_of_their_ids(api):
    for id_ in ("web", "web-2", "batch", "a/web"):
        await submit(api, id_)

    assert await found(api, "web", "jobs") == ["web", "web-2"]
    assert await found(api, "", "jobs") == ["a/web", "batch", "web", "web-2"]
    assert await found(api, "w eb", "jobs") == []


async def test_jobs_are_found_in_the_namespace_that_is_asked(api):
    await submit(api, "web")
    await api.put(
        "/v1/jobs?namespace=team",
        {
            "Job": {
                "ID": "web-team",
                "Datacenters": ["dc1"],
                "TaskGroups": [
                    {"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}
                ],
            }
        },
    )

    assert await found(api, "web", "jobs") == ["web"]
    assert await found(api, "web", "jobs", "?namespace=team") == ["web-team"]
    assert await found(api, "web", "jobs", "?namespace=*") == ["web", "web-team"]
    assert await found(api, "", "namespaces") == ["default", "team"]


async def test_later_kinds_show_in_a_search_of_all_where_there_is_anything(api):
    await api.register(NODE_ID, NodePool="gpu")

    assert set((await search(api, "ab", "all")).json["Matches"]) == RECORDED
    assert (await search(api, "gp", "all")).json["Matches"] == {
        "jobs": None,
        "node_pools": ["gpu"],
    }
    assert await found(api, "gp", "node_pools") == ["gpu"]
    assert await found(api, "gp", "plugins") == []
    assert await found(api, "gp", "volumes") == []


# The answer


@pytest.mark.parametrize("more", [0, 1])
async def test_at_most_so_many_are_shown(api, more):
    count = MATCHES_MAX + more
    for number in range(count):
        await api.register(f"ab{number:06x}-aaaa-bbbb-cccc-0123456789ab")
        await submit(api, f"job-{number:02}")

    answer = (await search(api, "", "all")).json

    for kind in ("nodes", "jobs", "evals"):
        assert len(answer["Matches"][kind]) == MATCHES_MAX
        assert answer["Matches"][kind] == sorted(answer["Matches"][kind])
        assert answer["Truncations"][kind] is bool(more)
    assert answer["Truncations"]["allocs"] is False


async def test_the_index_is_the_latest_of_what_was_looked_at(api):
    fresh = await search(api, "f7", "all")
    node_index = (await api.register()).index
    job_index = (await submit(api)).index

    assert fresh.index == fresh.json["Index"] == 1
    nodes = await search(api, "f7", "nodes")
    everything = await search(api, "f7", "all")

    assert nodes.index == nodes.json["Index"] == node_index
    assert everything.index == everything.json["Index"] == job_index
    assert everything.json["KnownLeader"] is True
    assert everything.json["LastContact"] == 0
    assert everything.nomad_headers() == {
        "x-nomad-index",
        "x-nomad-knownleader",
        "x-nomad-lastcontact",
    }


@pytest.mark.parametrize("context", ["bogus", "", "Nodes"])
async def test_another_kind_is_refused_in_nomads_words(api, context):
    answer = await search(api, "f7", context)

    assert (answer.status, answer.text) == (
        400,
        "context must be one of [allocs jobs nodes evals deployment] or 'all' for all "
        f'contexts; got "{context}"',
    )


@pytest.mark.parametrize("body", [None, "{", {"Prefix": 7, "Context": "nodes"}])
async def test_a_body_that_is_none_is_refused(api, body):
    assert (await api.put(PATH, body)).status == 400


async def test_it_is_asked_by_put_and_post_alone(api):
    posted = await api.ask("POST", PATH, {"Prefix": "", "Context": "nodes"})

    assert posted.status == 200
    assert (await api.get(PATH)).status == 405


# Who may


@pytest.fixture
async def guarded(make_api: ApiFactory) -> Guarded:
    return await guard(await make_api(acl_enabled=True))


async def kinds_of(guarded: Guarded, secret: str, context: str = "all") -> set[str]:
    body = {"Prefix": "", "Context": context}
    answer = await guarded.ask("PUT", PATH, secret, body)
    assert answer.status == 200, answer.text
    return set(answer.json["Matches"])


async def test_everybody_finds_what_they_may_see(guarded):
    nodes = guarded.may(nodes='node { policy = "read" }')
    work = guarded.may(work='namespace "default" { policy = "read" }')
    team = guarded.may(team='namespace "team" { policy = "read" }')

    assert await kinds_of(guarded, KINDS["management"]) >= RECORDED
    assert await kinds_of(guarded, nodes) == {"nodes"}
    of_work = {"allocs", "jobs", "evals", "deployment"}
    assert await kinds_of(guarded, work) == {*of_work, "namespaces"}
    assert await kinds_of(guarded, team) == {"namespaces"}


@pytest.mark.parametrize(
    ("rules", "context"),
    [
        ('node { policy = "read" }', "jobs"),
        ('node { policy = "read" }', "allocs"),
        ('namespace "default" { policy = "read" }', "nodes"),
        ('namespace "team" { policy = "read" }', "evals"),
    ],
)
async def test_who_asks_for_what_they_may_not_see_is_refused(guarded, rules, context):
    secret = guarded.may(rules=rules)

    answer = await guarded.ask("PUT", PATH, secret, {"Prefix": "", "Context": context})

    assert (answer.status, answer.text) == (403, "Permission denied")


async def test_of_all_namespaces_only_those_are_searched_that_are_seen(guarded):
    secret = guarded.may(team='namespace "team" { policy = "read" }')
    body = {"Prefix": "", "Context": "jobs"}

    everywhere = await guarded.ask("PUT", f"{PATH}?namespace=*", secret, body)
    all_of_them = await guarded.ask(
        "PUT", f"{PATH}?namespace=*", KINDS["management"], body
    )

    jobs = guarded.api.replica.state().jobs
    assert everywhere.json["Matches"]["jobs"] == [
        id_ for namespace, id_ in sorted(jobs) if namespace == "team"
    ]
    assert len(all_of_them.json["Matches"]["jobs"]) == len(jobs)


async def test_of_all_namespaces_only_that_work_is_found_that_is_seen(guarded):
    secret = guarded.may(team='namespace "team" { policy = "read" }')
    state = guarded.api.replica.state()

    for context, records in (
        ("evals", state.evaluations),
        ("allocs", state.allocations),
    ):
        body = {"Prefix": "", "Context": context}
        answer = await guarded.ask("PUT", f"{PATH}?namespace=*", secret, body)
        seen = {one.id for one in records.values() if one.namespace == "team"}
        assert seen < set(records)
        assert set(answer.json["Matches"][context] or ()) == seen
