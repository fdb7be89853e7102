"""Reads that wait: the rows B, as changed on purpose. Time is stepped, never waited for."""

import asyncio

import pytest

from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.fsm.keys import node_allocations_key
from nodestate.fsm.state import ALLOCATIONS
from nodestate.model.node_id import node_key
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    SECRET,
    UNKNOWN_ID,
    Answer,
    Api,
)
from tests.conformance.rows import case, rows

OTHER_PATH = f"/v1/node/{OTHER_ID}"


async def close(api: Api, path: str = NODE_PATH) -> int:
    answer = await api.put(f"{path}/eligibility", {"Eligibility": "ineligible"})
    assert answer.status == 200
    return answer.index


async def emit(api: Api) -> int:
    body = {"SecretID": SECRET, "NodeEvents": [{"Message": "x"}]}
    return (await api.put(f"{NODE_PATH}/events", body)).index


async def go_down(api: Api) -> int:
    body = {"SecretID": SECRET, "Status": "down"}
    return (await api.put(f"{NODE_PATH}/heartbeat", body)).index


async def drain(api: Api) -> int:
    return (await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}})).index


async def purge(api: Api) -> int:
    return (await api.put(f"{NODE_PATH}/purge")).index


@rows("B1", "C16")
async def test_the_list_wakes_on_a_new_node(api: Api):
    index = (await api.get("/v1/nodes")).index

    answer = await api.read_during(f"/v1/nodes?index={index}", api.register)

    assert [stub["ID"] for stub in answer.json] == [NODE_ID]
    assert answer.index == answer.json[0]["ModifyIndex"] > index


@pytest.mark.parametrize(
    "write",
    [case("B2", drain), case("B3", go_down), case("B4", purge), case("B10", emit)],
)
async def test_the_list_wakes_on_any_change(api: Api, write):
    index = (await api.register()).index
    written = []

    async def act() -> None:
        written.append(await write(api))

    answer = await api.read_during(f"/v1/nodes?index={index}", act)

    assert answer.index == written[0] > index
    assert len(answer.json) == (0 if write is purge else 1)


@pytest.mark.parametrize(
    "write", [case("B6", go_down), case("B9", emit), case("B16", purge)]
)
async def test_a_read_wakes_on_its_nodes_change(api: Api, write):
    index = (await api.register()).index
    written = []

    async def act() -> None:
        written.append(await write(api))

    answer = await api.read_during(f"{NODE_PATH}?index={index}", act)

    assert answer.index == written[0] > index
    if write is purge:
        assert (answer.status, answer.text) == (404, "node not found")
        assert answer.headers["x-nomad-knownleader"] == "true"
    else:
        assert answer.json["ModifyIndex"] == answer.index


@rows("B5", "C57")
async def test_a_read_wakes_when_its_node_arrives(api: Api):
    index = (await api.register(OTHER_ID)).index

    answer = await api.read_during(f"{NODE_PATH}?index={index}", api.register)

    assert (answer.status, answer.json["ID"]) == (200, NODE_ID)


@rows("B8")
async def test_a_read_does_not_wake_on_another_nodes_change(api: Api):
    await api.register(OTHER_ID)
    index = (await api.register()).index
    reading = asyncio.create_task(api.get(f"{NODE_PATH}?index={index}&wait=1s"))
    await api.until_waiting()

    await close(api, OTHER_PATH)
    await api.clock.step(1.02)
    assert not reading.done()
    await api.pass_time(reading, 0.1)

    assert (await reading).index == index


@rows("B11", "V46")
async def test_a_prefix_list_wakes_on_its_own_nodes_alone(api: Api):
    await api.register(OTHER_ID)
    index = (await api.register()).index
    path = f"/v1/nodes?prefix={NODE_ID[:8]}&index={index}&wait=1s"
    reading = asyncio.create_task(api.get(path))
    await api.until_waiting()

    elsewhere = await close(api, OTHER_PATH)
    assert api.gauge("nodestate_api_waiters") == 1
    await api.pass_time(reading, 2)

    answer = await reading
    assert [stub["ID"] for stub in answer.json] == [NODE_ID]
    assert answer.index == elsewhere
    path = path.replace(f"index={index}", f"index={elsewhere}")
    woken = await api.read_during(path, lambda: close(api))
    assert woken.json[0]["SchedulingEligibility"] == "ineligible"


@rows("C56")
async def test_a_filtered_list_that_is_woken_has_moved_on(api: Api):
    await api.register(OTHER_ID)
    index = (await api.register()).index
    path = f"/v1/nodes?filter=Name+==+alpha&per_page=1&index={index}"

    answer = await api.read_during(path, lambda: close(api, OTHER_PATH))

    assert answer.index > index


@rows("B12")
async def test_a_wait_for_a_missing_node_ends_in_404(api: Api):
    index = (await api.register()).index

    answer = await api.read_while_time_passes(
        f"/v1/node/{UNKNOWN_ID}?index={index}&wait=1s", 2
    )

    assert (answer.status, answer.index) == (404, index)


@rows("B13")
async def test_an_index_from_the_future_waits_and_shows_what_is(api: Api):
    index = (await api.register()).index
    reading = asyncio.create_task(api.get(f"/v1/nodes?index={index + 1000}&wait=1s"))
    await api.until_waiting()

    closed = await close(api)
    assert not reading.done()
    await api.pass_time(reading, 2)

    answer = await reading
    assert answer.index == closed
    assert answer.json[0]["SchedulingEligibility"] == "ineligible"


@pytest.mark.parametrize(
    "query",
    [case("B14", query) for query in ("index=0&wait=10s", "wait=10s", "index=1")],
)
async def test_without_an_index_to_pass_nothing_waits(api: Api, query):
    await api.register()

    assert (await api.get(f"/v1/nodes?{query}")).status == 200


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        case("B15", "1s", 1),
        case("C53", "1500ms", 1.5),
        case("C53", "0.5s", 0.5),
        case("C53", "0s", 300),
        case("C53", "-1s", 300),
        case("C53", "1h", 300),
        case("C53", "", 300),
    ],
)
async def test_a_wait_lasts_as_asked_and_a_little_longer(api: Api, wait, seconds):
    """The fake jitter is a half, of at most a sixteenth of the wait."""
    index = (await api.register()).index
    reading = asyncio.create_task(api.get(f"/v1/nodes?index={index}&wait={wait}"))
    await api.until_waiting()

    await api.clock.step(seconds * (1 + 0.5 / 16) - 0.001)
    assert api.gauge("nodestate_api_waiters") == 1
    await api.clock.step(0.002)

    assert (await reading).index == index


@rows("C05")
async def test_a_change_between_waking_and_reading_is_not_lost(api: Api):
    """Woken by one write, the reader sees that one or a later one, and its body."""
    index = (await api.register()).index
    reading = asyncio.create_task(api.get(f"{NODE_PATH}?index={index}"))
    await api.until_waiting()

    await asyncio.gather(close(api), emit(api))

    answer = await reading
    assert answer.index == answer.json["ModifyIndex"] > index


async def test_allocations_of_a_node_wait_for_their_own_key(api: Api):
    async def touch() -> None:
        api.replica.state().indexes[ALLOCATIONS] = 77
        api.replica.watch.wake([node_allocations_key(node_key(NODE_ID))])

    answer = await api.read_during(f"{NODE_PATH}/allocations?index=1", touch)

    assert (answer.body, answer.index) == (b"[]", 77)


@rows("C95")
async def test_one_reader_too_many_is_told_so(make_api):
    api = await make_api(watchers_max=2)
    index = (await api.register()).index
    path = f"/v1/nodes?index={index}"
    waiting = [asyncio.create_task(api.get(path)) for _ in range(2)]
    await api.until_waiting(2)

    refused = await api.get(path)

    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "watchers_max" in refused.text
    assert (await api.get("/v1/nodes?index=1")).status == 200
    await close(api)
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_reader_that_goes_away_is_forgotten(api: Api):
    index = (await api.register()).index
    async with api.connected() as (_, writer):
        writer.write(
            f"GET {NODE_PATH}?index={index} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        await api.until_waiting()

    await api.until_waiting(0)

    assert api.replica.watch.waiter_count() == 0


async def test_a_server_that_stops_answers_who_waits(api: Api):
    index = (await api.register()).index
    reading = asyncio.create_task(api.get(f"/v1/nodes?index={index}"))
    await api.until_waiting()

    await api.server.shutdown(timeout=1)

    answer = await reading
    assert (answer.status, answer.index) == (200, index)


async def test_a_thousand_readers_of_one_list_share_one_encoding(make_api):
    api = await make_api()
    index = (await api.register()).index
    waiting = [
        asyncio.create_task(
            api.get(f"/v1/nodes?index={index}", {"Accept-Encoding": "gzip"})
        )
        for _ in range(50)
    ]
    await api.until_waiting(50)

    await close(api)

    bodies = {answer.body for answer in await asyncio.gather(*waiting)}
    assert len(bodies) == 1


# Consistent reads

KNOWN_NOW = ("true", "0")


def contact(answer: Answer) -> tuple[str, str]:
    """Return what an answer says of the leader."""
    headers = answer.headers
    return headers["x-nomad-knownleader"], headers["x-nomad-lastcontact"]


@pytest.mark.parametrize(
    "path", ["/v1/nodes", "/v1/nodes?os=true", NODE_PATH, f"{NODE_PATH}/allocations"]
)
async def test_a_consistent_read_asks_once_and_is_as_fresh_as_the_leaders(
    api: Api, path
):
    await api.register()
    api.leadership.lose("server2")
    api.leadership.last_contact_s = 3.5
    mark = "&" if "?" in path else "?"

    plain, consistent = await api.get(path), await api.get(f"{path}{mark}consistent")

    assert contact(plain) == ("true", "3500")
    assert contact(consistent) == KNOWN_NOW
    assert plain.body == consistent.body
    assert len(api.replica.linearizable_deadlines_s) == 1


async def test_a_consistent_read_needs_no_contact_of_its_own(api: Api):
    """A server whose leader was silent for too long refuses plain reads only."""
    await api.register()
    api.leadership.last_contact_s = 60.0

    assert (await api.get("/v1/nodes?consistent")).status == 200


async def test_a_consistent_read_shows_what_was_applied_while_it_asked(api: Api):
    await api.register()
    api.replica.read_gate.clear()
    reading = asyncio.create_task(api.get(f"{NODE_PATH}?consistent"))
    await api.until(lambda: len(api.replica.linearizable_deadlines_s) == 1)

    index = await close(api)
    api.replica.read_gate.set()

    answer = await reading
    assert answer.index == index
    assert answer.json["SchedulingEligibility"] == "ineligible"


@pytest.mark.parametrize("error", [NoLeaderError("x"), OutcomeUnknownError("x")])
async def test_a_consistent_read_that_cannot_be_known_has_no_leader(api: Api, error):
    await api.register()
    api.replica.read_errors.append(error)

    answer = await api.get("/v1/nodes?consistent")

    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert "x-nodestate-outcome" not in answer.headers


async def test_a_consistent_read_that_need_not_wait_asks_once(api: Api):
    index = (await api.register()).index

    answer = await api.get(f"/v1/nodes?consistent&index={index - 1}")

    assert answer.index == index
    assert len(api.replica.linearizable_deadlines_s) == 1


async def test_a_consistent_read_that_was_woken_asks_again(api: Api):
    """What was written between its waking and its answer is in the answer."""
    index = (await api.register()).index
    path = f"{NODE_PATH}?consistent&index={index}"
    reading = asyncio.create_task(api.get(path))
    await api.until_waiting()
    api.replica.read_gate.clear()

    await close(api)
    await api.until(lambda: len(api.replica.linearizable_deadlines_s) == 2)
    later = await emit(api)
    api.replica.read_gate.set()

    answer = await reading
    assert answer.index == answer.json["ModifyIndex"] == later
    assert contact(answer) == KNOWN_NOW


async def test_a_consistent_read_whose_wait_ran_out_has_time_to_ask_again(api: Api):
    index = (await api.register()).index
    path = f"/v1/nodes?consistent&index={index}&wait=60s"
    reading = asyncio.create_task(api.get(path))
    await api.until_waiting()

    await api.pass_time(reading, 64)

    assert (await reading).index == index
    assert api.replica.linearizable_deadlines_s == [4.0, 4.0]


async def test_a_consistent_wait_that_loses_its_leader_ends_without_an_answer(api: Api):
    index = (await api.register()).index
    path = f"/v1/nodes?consistent&index={index}&wait=1s"
    reading = asyncio.create_task(api.get(path))
    await api.until_waiting()

    api.leadership.lose(None)
    await api.pass_time(reading, 2)

    assert (await reading).status == 503
    assert api.replica.watch.waiter_count() == 0


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 1), ("?pretty", 1), ("?stale=false", 1), ("?stale", 0), ("?consistent=0", 0)],
)
async def test_reads_that_do_not_say_are_as_the_setting_says(make_api, query, count):
    api = await make_api(read_consistency="consistent")
    await api.register()

    for path in ("/v1/nodes", NODE_PATH, f"{NODE_PATH}/allocations"):
        assert (await api.get(f"{path}{query}")).status == 200

    assert len(api.replica.linearizable_deadlines_s) == 3 * count
