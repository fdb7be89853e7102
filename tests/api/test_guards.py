"""What stands before every route, and what is written down of what passes it."""

import json
from pathlib import Path
from typing import Any

import pytest

from nodestate.api.guards import PARAMETERS_MAX
from tests.api.aclworld import UNKNOWN_SECRET, bootstrapped
from tests.api.conftest import (
    NODE_ID,
    NODE_PATH,
    SECRET,
    Answer,
    Api,
    ApiFactory,
    node_body,
    read_answer,
    request_bytes,
)
from tests.fakes import settle

INELIGIBLE = {"Eligibility": "ineligible"}
KEY = "one-key-of-mine"


async def written(api: Api, path: Path, count: int) -> list[dict[str, Any]]:
    """Return the lines of an audit log once there are so many."""

    await api.until(lambda: len(lines_in(path)) >= count)
    lines = lines_in(path)
    assert len(lines) == count
    return lines


def lines_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("count", "status"), [(PARAMETERS_MAX, 200), (PARAMETERS_MAX + 1, 400), (5000, 400)]
)
async def test_parameters_have_a_limit(api: Api, count, status):
    query = "&".join(["a"] * count)

    answer = await api.get(f"/v1/nodes?{query}")

    assert answer.status == status
    if status == 400:
        assert answer.text == f"more than {PARAMETERS_MAX} query parameters"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/../v1/nodes",
            "/v1/./nodes",
            "/../v1/nodes",
            "/v1/nodes/..",
            "/v1//nodes",
        ),
        *("/v1/%2e%2e/nodes", "/v1/nodes%00", "/%2e/v1/nodes"),
        *("/v1/node/%2e%2e", "/v1/node/..%2fnodes", f"/v1/node/x%00{NODE_ID}"),
        *(
            f"{NODE_PATH}/../../nodes",
            f"{NODE_PATH}%2f..",
            f"{NODE_PATH}\\\\..\\\\drain",
        ),
        *(
            f"{NODE_PATH}/%64rain/..",
            "/v1/" + "../" * 3000 + "nodes",
            "/" + "a" * 15_000,
        ),
        *("/v1/node/" + "a" * 15_000, "/v1/nodes;x=y", "//evil.example/v1/nodes"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_path_leads_where_it_says_or_nowhere(api: Api, path, method):
    await api.register()
    before = len(api.proposer.commands)

    answer = await api.ask(method, path, "{}" if method == "PUT" else None)

    assert answer.status in {400, 404, 405}
    assert len(answer.body) < 1000
    assert len(api.proposer.commands) == before


@pytest.mark.parametrize(
    "query",
    [
        *("prefix=" + "f" * 15_000, "filter=" + "(" * 15_000, "filter=" + "a" * 15_000),
        "filter=Name+matches+`" + "(" * 1000 + "`",
        "filter=Name+matches+`(a{1,1000}){1,1000}`",
        "filter=" + "+or+".join(["Name+matches+`(x%2Bx%2B)%2By`"] * 9),
        *(
            "next_token=" + "a" * 15_000,
            "index=" + "9" * 15_000,
            "wait=" + "9" * 15_000,
        ),
        *("per_page=" + "9" * 15_000, "namespace=" + "a" * 15_000),
    ],
)
@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/jobs", "/v1/allocations"])
async def test_a_parameter_that_asks_too_much_is_refused_in_few_words(
    api: Api, path, query
):
    answer = await api.get(f"{path}?{query}")

    # An expression may be shown, and has a length.
    assert len(answer.body) < 3000
    if answer.status != 400:
        assert (answer.status, answer.json) == (200, [])


async def test_a_write_has_its_line(make_api: ApiFactory, tmp_path):
    path = tmp_path / "audit.jsonl"
    api = await make_api(audit_file=str(path))
    headers = {"Idempotency-Key": KEY, "X-Request-Id": "r1"}

    await api.register()
    await api.get("/v1/nodes")
    closed = await api.ask(
        "PUT", f"{NODE_PATH}/eligibility?namespace=a", INELIGIBLE, headers
    )
    await api.put(f"{NODE_PATH}/heartbeat", {"SecretID": SECRET})
    refused = await api.ask(
        "PUT", f"{NODE_PATH}/drain", {}, {"Origin": "https://evil.example"}
    )
    lines = await written(api, path, 3)

    assert (closed.status, refused.status) == (200, 403)
    assert [line["route"] for line in lines] == [
        "nodes.register",
        "node.eligibility",
        "node.drain",
    ]
    assert lines[1] == {
        "time": lines[1]["time"],
        "server": "server1",
        "who": "anonymous",
        "source": "127.0.0.1",
        "method": "PUT",
        "route": "node.eligibility",
        "id": NODE_ID,
        "namespace": "a",
        "status": 200,
        "allowed": True,
        "index": closed.index,
        "idempotency_key": lines[1]["idempotency_key"],
        "request_id": "r1",
    }
    assert lines[1]["time"].startswith("2023-11-14T22:13:20.")
    assert len(lines[1]["idempotency_key"]) == 64
    assert (lines[2]["status"], lines[2]["allowed"]) == (403, False)
    assert SECRET not in path.read_text()
    assert KEY not in path.read_text()


async def test_all_requests_have_one_if_that_is_asked_for(
    make_api: ApiFactory, tmp_path
):
    path = tmp_path / "audit.jsonl"
    api = await make_api(audit_file=str(path), audit_requests="all")

    await api.register()
    await api.get("/v1/nodes")
    await api.put(f"{NODE_PATH}/heartbeat", {"SecretID": SECRET})
    await api.get("/v1/bogus")
    lines = await written(api, path, 4)

    assert [(line["route"], line["status"]) for line in lines] == [
        ("nodes.register", 200),
        ("nodes.list", 200),
        ("node.heartbeat", 200),
        ("none", 404),
    ]
    # Who proved to be a node's agent is called so.
    assert lines[2]["who"] == f"client:{NODE_ID}"


async def test_with_acls_it_says_who(make_api: ApiFactory, tmp_path):
    path = tmp_path / "audit.jsonl"
    api = await make_api(acl_enabled=True, audit_file=str(path), audit_requests="all")
    acls = await bootstrapped(api)
    await acls.policy("reader")
    token = await acls.token("reader")
    await acls.put("/v1/nodes", {"Node": node_body()})

    answers: list[Answer] = [
        await acls.get("/v1/nodes", token["SecretID"]),
        await acls.put(f"{NODE_PATH}/eligibility", INELIGIBLE, token["SecretID"]),
        await acls.get("/v1/nodes", UNKNOWN_SECRET),
        await acls.get("/v1/nodes", ""),
        await acls.get(NODE_PATH, SECRET),
        await acls.put(f"{NODE_PATH}/purge"),
        await acls.delete(f"/v1/acl/token/{acls.accessor}"),
    ]
    lines = (await written(api, path, 11))[4:]

    assert [line["status"] for line in lines] == [one.status for one in answers]
    assert [(line["who"], line["allowed"]) for line in lines] == [
        (token["AccessorID"], True),
        (token["AccessorID"], False),
        ("unknown", False),
        ("anonymous", False),
        (f"client:{NODE_ID}", True),
        (acls.accessor, True),
        # It was the token's own last deed.
        (acls.accessor, True),
    ]
    text = path.read_text()
    for secret in (acls.secret, token["SecretID"], SECRET, UNKNOWN_SECRET):
        assert secret not in text


async def test_bytes_that_are_no_text_have_a_line_too(make_api: ApiFactory, tmp_path):
    path = tmp_path / "audit.jsonl"
    api = await make_api(audit_file=str(path))

    await api.put("/v1/node/%ff%0a%22x/evaluate?namespace=%ff")
    (line,) = await written(api, path, 1)

    assert line["id"] == '?\n"x'
    assert line["status"] == 400


async def test_tokens_that_are_none_are_limited_by_address(make_api: ApiFactory):
    api = await make_api(acl_enabled=True, requests_per_second_max=2)
    acls = await bootstrapped(api)

    guesses = [
        await acls.get("/v1/nodes", f"{number:08d}-2222-3333-4444-555555555555")
        for number in range(5)
    ]

    assert [guess.status for guess in guesses] == [403, 403, 403, 429, 429]
    # Who has a token is not kept out by who has none.
    assert (await acls.get("/v1/nodes")).status == 200


async def test_where_it_is_enforced_an_answer_waits_for_its_line(
    make_api: ApiFactory, tmp_path
):
    path = tmp_path / "audit.jsonl"
    api = await make_api(audit_file=str(path), audit_enforced=True)

    for count in range(1, 4):
        await api.register()
        assert len(lines_in(path)) == count


async def test_an_answer_that_was_sent_is_written_down_before_the_end(
    make_api: ApiFactory, tmp_path
):
    path = tmp_path / "audit.jsonl"
    api = await make_api(audit_file=str(path))

    async with api.connected() as (reader, writer):
        body = {"Node": node_body()}
        writer.write(request_bytes("PUT", "/v1/nodes", body) * 50)
        for _ in range(50):
            await read_answer(reader)
    await api.server.shutdown(timeout=1)
    await settle()

    assert len(lines_in(path)) == 50
