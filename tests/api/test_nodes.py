"""Listing, reading and changing nodes: the rows L, R, E, D, P, G, as changed on purpose."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    OTHER_ID,
    UNKNOWN_ID,
    Api,
)
from tests.conformance.rows import case, rows

ZEROS = {"EvalCreateIndex": 0, "EvalIDs": None, "Index": 0, "NodeModifyIndex": 0}
LOOKUP = "node lookup failed: index error: "


async def ids(api: Api, query: str) -> list[str]:
    answer = await api.get(f"/v1/nodes?{query}")
    assert answer.status == 200, answer.text
    return [stub["ID"] for stub in answer.json]


# List


@rows("L1")
async def test_a_fresh_cluster_is_empty_and_never_at_index_0(api: Api):
    answer = await api.get("/v1/nodes")

    assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)


@rows("L2", "L12")
async def test_the_list_has_every_node_by_the_bytes_of_its_id(api: Api):
    for start in ("ffffffff", "0000000a", "AAAAAAAA", "99999999"):
        await api.register(start + NODE_ID[8:])

    starts = [id_[:8] for id_ in await ids(api, "")]

    assert starts == ["0000000a", "99999999", "AAAAAAAA", "ffffffff"]


@rows("L3", "L4", "L5", "L11")
async def test_prefixes(api: Api):
    await api.register("11110000" + NODE_ID[8:])
    await api.register("11220000" + NODE_ID[8:])
    index = (await api.register(OTHER_ID)).index

    assert len(await ids(api, "prefix=11")) == 2
    assert len(await ids(api, "prefix=1111")) == 1
    assert await ids(api, "prefix=12345678") == [OTHER_ID]
    assert await ids(api, "prefix=ff") == []
    assert (await api.get("/v1/nodes?prefix=1111")).index == index
    assert (await api.get("/v1/nodes?prefix=ff")).index == index


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        case("L6", "123", "Input (without hyphens) must be even length"),
        case("L7", "zz", "Invalid UUID: encoding/hex: invalid byte: U+007A 'z'"),
        case("L7", "%C3%A9", "Invalid UUID: encoding/hex: invalid byte: U+00C3 'Ã'"),
        case("L8", "1" * 37, "Invalid UUID length. UUID have 36 characters; got 37"),
        case("L9", "------", 'UUID should have maximum of 4 "-"; got 6'),
    ],
)
async def test_a_malformed_prefix_is_refused(api: Api, prefix, text):
    answer = await api.get(f"/v1/nodes?prefix={prefix}")

    assert (answer.status, answer.text) == (400, LOOKUP + text)


@pytest.mark.parametrize(
    "prefix",
    [
        case("L10", prefix)
        for prefix in (
            "F7476465",
            "f747-6465",
            NODE_ID,
            NODE_ID.replace("-", ""),
            "----",
        )
    ],
)
async def test_hyphens_and_case_do_not_matter(api: Api, prefix):
    await api.register()

    assert await ids(api, f"prefix={prefix}") == [NODE_ID]


@pytest.mark.parametrize(
    ("http_addr", "address"),
    [
        case("L13", "127.0.0.1:4646", "127.0.0.1"),
        case("L13", "[::1]:4646", "::1"),
        case("L13", "noport", ""),
        case("L13", "", ""),
    ],
)
async def test_the_address_is_the_host_of_the_http_address(
    api: Api, http_addr, address
):
    await api.register(HTTPAddr=http_addr)

    assert (await api.get("/v1/nodes")).json[0]["Address"] == address


@rows("L14", "L15", "L16")
async def test_a_stub_has_its_keys_and_no_others(api: Api):
    await api.register(
        Attributes={"nomad.version": "1.2.3"},
        Drivers={"docker": {"Detected": True}},
    )
    await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}, "Meta": {"a": "b"}})

    (stub,) = (await api.get("/v1/nodes")).json

    assert stub["Version"] == "1.2.3"
    assert stub["Drain"] is True
    assert stub["LastDrain"]["AccessorID"] == "token:acls-disabled"
    assert stub["LastDrain"]["Meta"] == {"a": "b"}
    assert stub["NodePool"] == "default"
    assert stub["Drivers"]["docker"]["UpdateTime"] is None
    assert [*stub] == sorted(stub)
    assert len(stub) == 16


@pytest.fixture
async def six(api: Api) -> list[str]:
    """Register six nodes, half of them in another state each way."""
    registered = []
    for number in range(6):
        registered.append(f"0000000{number}{NODE_ID[8:]}")
        await api.register(
            registered[-1],
            Datacenter="dc3" if number % 2 else "dc1",
            Status="down" if number < 3 else "ready",
            Meta={"foo": "bar"} if number == 4 else None,
        )
    return registered


@rows("L17")
async def test_pages_follow_their_tokens(api: Api, six):
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        answer = await api.get(f"/v1/nodes?per_page=2&next_token={token}")
        pages.append([stub["ID"] for stub in answer.json])
        token = answer.headers.get("x-nomad-nexttoken", "")

    assert pages == [six[0:2], six[2:4], six[4:6]]


@rows("L17")
async def test_a_page_goes_on_behind_a_slice_of_work(api: Api):
    """Reading is cut into slices; the page must not show where."""
    everyone = [f"{number:08x}{NODE_ID[8:]}" for number in range(300)]
    for start in range(0, 300, 100):
        nodes = [{**NODE, "ID": node_id} for node_id in everyone[start : start + 100]]
        assert (await api.put("/v1/nodes", {"Nodes": nodes})).status == 200

    answer = await api.get("/v1/nodes?per_page=200")
    rest = await api.get(
        f"/v1/nodes?per_page=200&next_token={answer.headers['x-nomad-nexttoken']}"
    )

    assert [stub["ID"] for stub in answer.json] == everyone[:200]
    assert [stub["ID"] for stub in rest.json] == everyone[200:]
    assert await ids(api, "") == everyone
    assert await ids(api, "pretty") == everyone


NODE: dict[str, Any] = {
    "SecretID": "6f8d9c11-0000-4000-8000-000000000001",
    "Datacenter": "dc1",
    "Name": "n",
    "Attributes": {"a": "b"},
}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        case("L18", 'Datacenter == "dc3"', [1, 3, 5]),
        case("L20", 'Meta["foo"] == "bar"', [4]),
        case("L19", 'Status != "ready"', [0, 1, 2]),
    ],
)
async def test_a_filter_looks_at_the_record(api: Api, six, expression, found):
    assert await ids(api, f"filter={quote(expression)}") == [six[n] for n in found]


@rows("L19")
async def test_a_page_is_full_of_matches(api: Api, six):
    expression = quote('Status != "ready"')

    answer = await api.get(f"/v1/nodes?filter={expression}&per_page=2")

    assert [stub["ID"] for stub in answer.json] == six[:2]
    assert answer.headers["x-nomad-nexttoken"] == six[2]


@pytest.mark.parametrize("expression", [case("L18", "Bogus ==x"), case("L18", "(")])
async def test_a_filter_that_cannot_be_read_is_refused(api: Api, expression):
    answer = await api.get(f"/v1/nodes?filter={quote(expression)}")

    assert answer.status == 400
    assert "failed to read filter expression: " in answer.text


@rows("L17")
async def test_a_page_size_that_is_none_is_refused(api: Api):
    answer = await api.get("/v1/nodes?per_page=x")

    assert answer.status == 400
    assert answer.text == "Expect a number for `per_page` query string parameter"


@rows("L21", "L22")
@pytest.mark.parametrize("word", [case("C79", word) for word in ("true", "True", "1")])
async def test_stubs_show_more_when_asked(api: Api, word):
    await api.register(Attributes={"os.name": "debian", "x": "y"})

    (with_os,) = (await api.get(f"/v1/nodes?os={word}")).json
    (with_resources,) = (await api.get(f"/v1/nodes?resources={word}")).json

    assert with_os["Attributes"] == {"os.name": "debian"}
    assert "NodeResources" not in with_os
    assert with_resources["NodeResources"]["Cpu"] == {"CpuShares": 0}
    assert with_resources["ReservedResources"]["Memory"] == {"MemoryMB": 0}
    assert "Attributes" not in with_resources


@rows("L21", "L22")
@pytest.mark.parametrize("word", [case("C79", word) for word in ("false", "0", "")])
async def test_stubs_are_short_otherwise(api: Api, word):
    await api.register()

    (stub,) = (await api.get(f"/v1/nodes?os={word}&resources={word}")).json

    assert not {"Attributes", "NodeResources", "ReservedResources"} & stub.keys()


@pytest.mark.parametrize("name", [case("C79", "os"), case("C79", "resources")])
async def test_a_field_flag_that_is_no_boolean_is_refused(api: Api, name):
    answer = await api.get(f"/v1/nodes?{name}=maybe")

    assert answer.status == 400
    assert f'"{name}" (maybe) as a bool' in answer.text


async def test_reverse_and_unknown_parameters_change_nothing(api: Api, six):
    assert await ids(api, "reverse=true&_filter=x") == six


async def test_one_changed_node_costs_one_encoding(api: Api, six):
    """The list shows the change, and the entries of the others are the same bytes."""
    before = (await api.get("/v1/nodes")).json

    await api.put(f"/v1/node/{six[2]}/eligibility", {"Eligibility": "ineligible"})
    after = (await api.get("/v1/nodes")).json

    assert [old == new for old, new in zip(before, after, strict=True)] == [
        number != 2 for number in range(6)
    ]
    assert after[2]["SchedulingEligibility"] == "ineligible"


# Read


@rows("R1", "R2", "R3", "R4", "R5")
async def test_a_node_is_read_as_registered(api: Api):
    written = await api.register()

    answer = await api.get(NODE_PATH)

    node = answer.json
    assert node["ID"] == NODE_ID
    assert node["Events"][0]["Message"] == "Node registered"
    assert node["SecretID"] == ""
    assert node["ComputedClass"].startswith("v1:")
    assert node["StatusUpdatedAt"] == api.clock.now_ns() // 1_000_000_000
    assert node["CreateIndex"] == node["ModifyIndex"] == answer.index == written.index


@rows("R6")
async def test_an_unknown_node_is_not_found_at_the_tables_index(api: Api):
    index = (await api.register()).index

    answer = await api.get(f"/v1/node/{UNKNOWN_ID}")

    assert (answer.status, answer.text, answer.index) == (404, "node not found", index)
    assert answer.headers["x-nomad-knownleader"] == "true"
    assert "x-nomad-lastcontact" in answer.headers


@rows("R7")
async def test_an_unknown_node_of_a_fresh_cluster_is_not_at_index_0(api: Api):
    answer = await api.get(f"/v1/node/{UNKNOWN_ID}")

    assert (answer.status, answer.index) == (404, 1)


@pytest.mark.parametrize(
    ("node_id", "text"),
    [
        case("R8", "12345678", "UUID must be 36 characters"),
        case("R8", "allocations", "UUID must be 36 characters"),
        case(
            "R10",
            "1234-5678-1234-5678-1234-56781234567",
            'UUID should have maximum of 4 "-"; got 5',
        ),
        case(
            "R11",
            "z1111111-2222-3333-4444-555555555555",
            "Invalid UUID: encoding/hex: invalid byte: U+007A 'z'",
        ),
    ],
)
async def test_a_malformed_id_is_refused(api: Api, node_id, text):
    answer = await api.get(f"/v1/node/{node_id}")

    assert (answer.status, answer.text) == (400, LOOKUP + text)
    assert answer.nomad_headers() == set()


@rows("R9")
async def test_an_id_may_be_written_otherwise(api: Api):
    await api.register()

    for other in (NODE_ID.upper(), f"{NODE_ID.replace('-', '')}----"):
        assert (await api.read(other))["ID"] == NODE_ID


@rows("R12", "V33")
async def test_what_was_not_registered_is_null_or_zero(api: Api):
    await api.register()

    node = await api.read()

    for key in ("Drivers", "Links", "Meta", "HostVolumes", "Reserved", "LastDrain"):
        assert node[key] is None
    assert node["Resources"]["CPU"] == 0
    assert node["NodeResources"]["Disk"] == {"DiskMB": 0}
    assert node["ReservedResources"]["Networks"] == {"ReservedHostPorts": ""}


@rows("R13", "V40")
async def test_empty_maps_are_null(api: Api):
    await api.register(Meta={}, Links={}, Drivers={"java": {"Attributes": {}}})

    node, (stub,) = await api.read(), (await api.get("/v1/nodes")).json

    assert (node["Meta"], node["Links"]) == (None, None)
    assert node["Drivers"]["java"]["Attributes"] is None
    assert stub["Drivers"] == node["Drivers"]


@rows("R14")
async def test_device_attributes_have_all_five_keys(api: Api):
    device = {"Vendor": "v", "Attributes": {"mem": {"Int": 4, "Unit": "MiB"}}}
    await api.register(NodeResources={"Devices": [device]})

    (shown,) = (await api.read())["NodeResources"]["Devices"]

    unset = dict.fromkeys(("Float", "Int", "String", "Bool"))
    assert shown["Attributes"] == {"mem": {**unset, "Int": 4, "Unit": "MiB"}}


# Evaluate and purge


@rows("V1")
@pytest.mark.parametrize(
    "tail",
    [
        case(name, tail)
        for name, tail in (
            ("E1", "evaluate"),
            ("D20", "drain"),
            ("P3", "purge"),
            ("G10", "eligibility"),
        )
    ],
)
async def test_a_write_to_a_missing_node_is_404(api: Api, tail):
    body = {"Eligibility": "eligible"}

    answer = await api.put(f"/v1/node/{UNKNOWN_ID}/{tail}", body)

    assert (answer.status, answer.text) == (404, "node not found")
    assert answer.headers["x-nodestate-outcome"] == "none"


@rows("V2")
@pytest.mark.parametrize(
    "tail",
    [
        case(name, tail)
        for name, tail in (
            ("E1", "evaluate"),
            ("D20", "drain"),
            ("P4", "purge"),
            ("G10", "eligibility"),
        )
    ],
)
async def test_a_write_to_a_malformed_id_is_400(api: Api, tail):
    answer = await api.put(f"/v1/node/12345678/{tail}", {"Eligibility": "eligible"})

    assert (answer.status, answer.text) == (400, f"{LOOKUP}UUID must be 36 characters")
    assert api.proposer.commands == []


@rows("E2", "E7")
@pytest.mark.parametrize("body", [case("E9", None), case("E9", "garbage")])
async def test_nothing_to_evaluate_writes_nothing(api: Api, body):
    await api.register()

    answer = await api.put(f"{NODE_PATH}/evaluate", body)

    assert answer.json == {
        **ZEROS,
        "HeartbeatTTL": 0,
        "KnownLeader": False,
        "LastContact": 0,
        "LeaderRPCAddr": "127.0.0.1:4647",
        "NumNodes": 1,
        "Servers": [
            {
                "Datacenter": "dc1",
                "RPCAdvertiseAddr": "127.0.0.1:4647",
                "RPCMajorVersion": 1,
                "RPCMinorVersion": 1,
            }
        ],
    }
    assert answer.index == 0


@rows("P1", "P2", "P5")
async def test_a_purged_node_is_gone(api: Api):
    await api.register()

    answer = await api.put(f"{NODE_PATH}/purge")

    assert answer.json == {
        **ZEROS,
        "Index": answer.index,
        "NodeModifyIndex": answer.index,
        "HeartbeatTTL": 0,
        "KnownLeader": False,
        "LastContact": 0,
        "LeaderRPCAddr": "",
        "NumNodes": 0,
        "Servers": None,
    }
    gone = await api.get(NODE_PATH)
    assert (gone.status, gone.index) == (404, answer.index)
    assert await ids(api, "") == []


# Drain


@rows("D2", "D3", "D4", "D21")
@pytest.mark.parametrize(
    "deadline", [case("D1", 10_000_000_000), case("D13", 0), case("D13", -1)]
)
async def test_a_drain_starts(api: Api, deadline):
    await api.register()

    answer = await api.put(
        f"{NODE_PATH}/drain",
        {"DrainSpec": {"Deadline": deadline, "IgnoreSystemJobs": True}},
    )

    node = await api.read()
    assert answer.json == {
        **ZEROS,
        "Index": answer.index,
        "NodeModifyIndex": answer.index,
    }
    assert node["ModifyIndex"] == answer.index
    assert (node["Drain"], node["SchedulingEligibility"]) == (True, "ineligible")
    strategy = node["DrainStrategy"]
    assert (strategy["Deadline"], strategy["IgnoreSystemJobs"]) == (deadline, True)
    assert strategy["StartedAt"] == "2023-11-14T22:13:20Z"
    forced_at = "2023-11-14T22:13:30Z" if deadline > 0 else None
    assert strategy["ForceDeadline"] == forced_at
    assert node["Events"][1]["Message"] == "Node drain strategy set"


@rows("D5")
async def test_a_repeated_drain_is_an_update(api: Api):
    await api.register()

    for _ in range(2):
        await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}})

    assert (await api.read())["Events"][2]["Message"] == "Node drain strategy updated"


@rows("D7")
@pytest.mark.parametrize(
    "body", [case("D6", '{"DrainSpec":null}'), case("D14", "null"), case("D10", "{}")]
)
async def test_a_drain_stops_and_the_node_stays_closed(api: Api, body):
    await api.register()
    await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}})

    await api.put(f"{NODE_PATH}/drain", body)

    node = await api.read()
    assert (node["Drain"], node["DrainStrategy"]) == (False, None)
    assert node["SchedulingEligibility"] == "ineligible"


@rows("D11", "D12")
async def test_mark_eligible_opens_when_stopping_alone(api: Api):
    await api.register()

    await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}, "MarkEligible": True})
    assert (await api.read())["SchedulingEligibility"] == "ineligible"
    await api.put(f"{NODE_PATH}/drain", {"MarkEligible": True})
    assert (await api.read())["SchedulingEligibility"] == "eligible"


@rows("V15")
@pytest.mark.parametrize("tail", [case("D15", "drain"), case("G9", "eligibility")])
@pytest.mark.parametrize("other", [OTHER_ID, "short"])
async def test_a_body_for_another_node_is_refused(api: Api, tail, other):
    await api.register()
    before = (await api.get(NODE_PATH)).body
    body = {"NodeID": other, "DrainSpec": {}, "Eligibility": "ineligible"}

    answer = await api.put(f"{NODE_PATH}/{tail}", body)

    assert (answer.status, "NodeID" in answer.text) == (400, True)
    assert (await api.get(NODE_PATH)).body == before


@rows("D15")
async def test_a_body_for_the_same_node_is_fine(api: Api):
    await api.register()
    body = {"NodeID": NODE_ID.upper(), "Eligibility": "ineligible"}

    assert (await api.put(f"{NODE_PATH}/eligibility", body)).status == 200


@pytest.mark.parametrize(
    ("word", "drains"),
    [
        *(case("D16", word, True) for word in ("true", "True", "1", "t")),
        *(case("D17", word, False) for word in ("false", "False", "0", "f")),
    ],
)
async def test_the_old_parameter_needs_no_body(api: Api, word, drains):
    await api.register()
    await api.put(f"{NODE_PATH}/eligibility", {"Eligibility": "ineligible"})

    answer = await api.put(f"{NODE_PATH}/drain?enable={word}", "not JSON")

    node = await api.read()
    assert (answer.status, node["Drain"]) == (200, drains)
    if drains:
        assert node["DrainStrategy"]["Deadline"] == -1_000_000_000
    else:
        assert node["SchedulingEligibility"] == "eligible"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        case("D18", "maybe", "invalid enable value"),
        case("D19", "", "Request body is empty"),
    ],
)
async def test_an_old_parameter_that_is_no_boolean_is_refused(api: Api, word, text):
    await api.register()

    answer = await api.put(f"{NODE_PATH}/drain?enable={word}")

    assert (answer.status, answer.text) == (400, text)


# Eligibility


@rows("G1", "G2", "G7", "V9")
async def test_a_node_is_closed_and_opened(api: Api):
    await api.register()

    for word in ("ineligible", "eligible"):
        answer = await api.put(f"{NODE_PATH}/eligibility", {"Eligibility": word})
        assert answer.json == {
            **ZEROS,
            "Index": answer.index,
            "NodeModifyIndex": answer.index,
        }
        node = await api.read()
        assert (node["SchedulingEligibility"], node["ModifyIndex"]) == (
            word,
            answer.index,
        )


@rows("V3")
@pytest.mark.parametrize(
    ("body", "word"),
    [
        case("G3", '{"Eligibility":"foo"}', '"foo"'),
        case("G3", '{"Eligibility":"a\\"b"}', '"a\\"b"'),
        case("G4", '{"Eligibility":"ELIGIBLE"}', '"ELIGIBLE"'),
        case("G4", '{"Eligibility":null}', '""'),
        case("G4", "{}", '""'),
        case("G4", "null", '""'),
    ],
)
async def test_a_word_that_is_none_is_refused(api: Api, body, word):
    await api.register()

    answer = await api.put(f"{NODE_PATH}/eligibility", body)

    assert answer.status == 400
    assert answer.text == f"invalid scheduling eligibility {word}"


@rows("G5", "V4")
async def test_a_draining_node_stays_closed(api: Api):
    await api.register()
    await api.put(f"{NODE_PATH}/drain", {"DrainSpec": {}})

    answer = await api.put(f"{NODE_PATH}/eligibility", {"Eligibility": "eligible"})

    assert answer.status == 409
    assert answer.text == (
        "can not set node's scheduling eligibility to eligible while it is draining"
    )
    assert answer.headers["x-nodestate-outcome"] == "none"


@rows("G6")
async def test_an_unchanged_word_writes_nothing(api: Api):
    await api.register()
    before = (await api.get(NODE_PATH)).body

    answer = await api.put(f"{NODE_PATH}/eligibility", {"Eligibility": "eligible"})

    assert (answer.status, answer.json, answer.index) == (200, ZEROS, 0)
    assert (await api.get(NODE_PATH)).body == before


@rows("G8")
async def test_a_node_event_in_the_body_is_refused(api: Api):
    await api.register()
    body = {"Eligibility": "ineligible", "NodeEvent": {}}

    answer = await api.put(f"{NODE_PATH}/eligibility", body)

    assert (answer.status, answer.text) == (400, "node event must not be set")
