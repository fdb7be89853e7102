"""Search by a part of a name: what is found, where, and in which order."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from nodestate.api.fuzzy_search import FUZZY_MATCHES_MAX, Best
from tests.api.conftest import NODE_ID, OTHER_ID, Answer, Api, ApiFactory
from tests.api.guarding import guard
from tests.api.working import add_node, schedule, submit

PATH = "/v1/search/fuzzy"


async def search(api: Api, text: str, context: str = "all") -> Answer:
    return await api.put(PATH, {"Text": text, "Context": context})


async def matches(api: Api, text: str, context: str = "all") -> dict[str, Any]:
    answer = await search(api, text, context)
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json["Matches"]
    return found


async def test_nodes_are_found_by_their_names(api):
    await api.register(NODE_ID, Name="front-alpha")
    await api.register(OTHER_ID, Name="ALPHA")

    assert await matches(api, "alph", "nodes") == {
        "nodes": [
            {"ID": "ALPHA", "Scope": [OTHER_ID]},
            {"ID": "front-alpha", "Scope": [NODE_ID]},
        ]
    }


async def test_a_job_is_found_by_what_is_in_it(api):
    docker = {"Name": "redis", "Driver": "docker", "Config": {"image": "redis:7"}}
    await submit(api, "cache", TaskGroups=[{"Name": "redis-group", "Tasks": [docker]}])
    await submit(api, "other")

    place = ["default", "cache", "redis-group"]
    assert await matches(api, "redis", "jobs") == {
        "groups": [{"ID": "redis-group", "Scope": ["default", "cache"]}],
        "images": [{"ID": "redis:7", "Scope": [*place, "redis"]}],
        "tasks": [{"ID": "redis", "Scope": place}],
    }
    assert await matches(api, "ach", "jobs") == {
        "jobs": [{"ID": "cache", "Scope": ["default", "cache"]}]
    }
    assert "commands" in await matches(api, "sleep", "jobs")


async def test_allocations_are_found_by_their_names_and_evaluations_by_their_ids(api):
    await add_node(api)
    await submit(api)
    schedule(api)
    (allocation,) = api.replica.state().allocations
    evaluation = next(iter(api.replica.state().evaluations))

    assert await matches(api, "grp[0", "allocs") == {
        "allocs": [{"ID": "web.grp[0]", "Scope": ["default", allocation]}]
    }
    assert (await matches(api, evaluation[:6]))["evals"] == [
        {"ID": evaluation, "Scope": None}
    ]
    # By themselves they are not looked for: what is no name has no parts.
    assert await matches(api, evaluation[:6], "evals") == {}


async def test_groups_of_things_are_found_too(api):
    await api.register(NODE_ID, NodePool="big-gpu")

    assert await matches(api, "gpu") == {
        "node_pools": [{"ID": "big-gpu", "Scope": None}]
    }
    assert (await matches(api, "faul"))["namespaces"] == [
        {"ID": "default", "Scope": None}
    ]


async def test_what_is_not_there_is_not_named(api):
    answer = await search(api, "nothing")

    assert answer.json["Matches"] == answer.json["Truncations"] == {}
    assert answer.index == answer.json["Index"] == 1


async def test_the_index_is_the_latest_of_what_was_looked_at(api):
    node_index = (await api.register()).index
    job_index = (await submit(api)).index

    assert (await search(api, "alpha", "nodes")).index == node_index
    assert (await search(api, "alpha")).index == job_index


@pytest.mark.parametrize(
    ("text", "status"), [("", 400), ("a", 400), ("ab", 200), ("a" * 257, 400)]
)
async def test_a_text_has_a_length(api, text, status):
    assert (await search(api, text)).status == status


async def test_a_text_that_is_too_short_is_refused_in_nomads_words(api):
    text = "fuzzy search query must be at least 2 characters, got 1"

    assert (await search(api, "a")).text == text


async def test_another_kind_is_refused(api):
    assert (await search(api, "abc", "bogus")).status == 400


async def test_everybody_finds_what_they_may_see(make_api: ApiFactory):
    guarded = await guard(await make_api(acl_enabled=True))
    nodes = guarded.may(nodes='node { policy = "read" }')
    team = guarded.may(team='namespace "team" { policy = "read" }')
    body = {"Text": "we", "Context": "jobs"}

    refused = await guarded.ask("PUT", PATH, nodes, body)
    seen = await guarded.ask("PUT", f"{PATH}?namespace=*", team, body)

    assert refused.status == 403
    found = [one for kind in seen.json["Matches"].values() for one in kind]
    assert {one["Scope"][0] for one in found} <= {"team"}


# The best


def names(best: Best) -> list[str]:
    return [match.id for match in best.matches()]


def test_what_is_nearest_to_the_beginning_comes_first_then_what_is_short():
    best = Best("ab")
    for name in ("xab", "abcd", "AB", "abc", "zzzab", "no"):
        best.consider(name)

    assert names(best) == ["AB", "abc", "abcd", "xab", "zzzab"]


@given(st.lists(st.text("ab", max_size=4), max_size=3000))
def test_the_best_are_the_same_however_many_there_are(given_names):
    best = Best("a")
    for name in given_names:
        best.consider(name)

    expected = sorted(
        (name for name in given_names if "a" in name),
        key=lambda name: (name.index("a"), len(name), name),
    )
    assert names(best) == expected[: FUZZY_MATCHES_MAX + 1]
