"""Tokens over HTTP: made, listed, read, changed, deleted, and by whom."""

from typing import Any

import pytest

from nodestate.fsm.state import ACL_TOKENS
from nodestate.model.command import UpsertTokens
from nodestate.model.encoding import MSGPACK
from tests.api.aclworld import UNKNOWN_SECRET, Acls, bootstrapped
from tests.api.conftest import Answer, Api
from tests.conformance.rows import rows

UNKNOWN = "11111111-2222-3333-4444-555555555555"
CHOSEN = "0f6c2f60-5c1f-4a1e-9d9f-1a2b3c4d5e6f"
READ_HEADERS = {"x-nomad-index", "x-nomad-knownleader", "x-nomad-lastcontact"}
TOKEN = "/v1/acl/token"
HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
async def acls(guarded: Api) -> Acls:
    acls = await bootstrapped(guarded)
    await acls.policy("reader")
    return acls


def table_index(acls: Acls) -> int:
    return acls.api.replica.state().table_index(ACL_TOKENS)


def body(**fields: Any) -> dict[str, Any]:
    return {"Name": "n", "Type": "client", "Policies": ["reader"], **fields}


def complaint(*texts: str) -> str:
    noun = "error" if len(texts) == 1 else "errors"
    lines = "".join(f"\t* {text}\n" for text in texts)
    return f"token 0 invalid: {len(texts)} {noun} occurred:\n{lines}\n"


# Made


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_new_token_is_answered_in_full(acls: Acls, method):
    answer = await acls.ask(method, TOKEN, body(Name="reader", Policies=["node-read"]))

    token = answer.json
    assert answer.status == 200
    assert answer.nomad_headers() == {"x-nomad-index"}
    assert token.keys() == {
        *("AccessorID", "SecretID", "Name", "Type", "Policies", "Global", "Hash"),
        *("CreateTime", "CreateIndex", "ModifyIndex"),
    }
    # As recorded.
    assert token["Hash"] == "vYdLBcGYfBJyzbqLTPb9SAMTWdL+P5N9jJ/ULYYmRUI="
    assert token["CreateTime"] == "2023-11-14T22:13:20Z"
    assert answer.index == token["CreateIndex"] == token["ModifyIndex"]
    assert len({token["AccessorID"], token["SecretID"], acls.secret}) == 3


async def test_a_token_works_at_once_and_names_what_may_come_to_be(acls: Acls):
    token = await acls.token("missing")

    own = await acls.get("/v1/acl/token/self", token["SecretID"])

    assert own.json == token


async def test_go_clients_send_a_token_whole(acls: Acls):
    sent = body(
        AccessorID="",
        SecretID="",
        Hash=None,
        CreateTime="0001-01-01T00:00:00Z",
        CreateIndex=0,
        ModifyIndex=0,
        Roles=None,
        ExpirationTime=None,
        ExpirationTTL="",
    )

    assert (await acls.put(TOKEN, sent)).status == 200


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"Name": "n" * 257}, complaint("token name too long")),
        ({"Policies": None}, complaint("client token missing policies")),
        ({"Policies": []}, complaint("client token missing policies")),
        (
            {"Type": "management"},
            complaint("management token cannot be associated with policies"),
        ),
        ({"Type": ""}, complaint("token type must be client or management")),
        (
            {"Type": "root", "Name": "n" * 257},
            complaint("token name too long", "token type must be client or management"),
        ),
        (
            {"ExpirationTTL": "-1h"},
            complaint("token expiration TTL '-1h0m0s' should not be negative"),
        ),
        (
            {"ExpirationTTL": "1s"},
            complaint(
                "expiration time cannot be less than 1m0s in the future (was 1s)"
            ),
        ),
        (
            {"ExpirationTTL": "25h"},
            complaint(
                "expiration time cannot be more than 24h0m0s in the future (was 25h0m0s)"
            ),
        ),
        ({"ExpirationTTL": "soon"}, "ExpirationTTL must be a duration"),
        ({"ExpirationTTL": 1.5}, "ExpirationTTL must be a duration"),
        ({"ExpirationTTL": True}, "ExpirationTTL must be a duration"),
        ({"ExpirationTTL": {}}, "ExpirationTTL must be a duration"),
        ({"ExpirationTTL": 9 * 10**19}, "token 0 invalid: 1 error occurred"),
        ({"ExpirationTime": "x"}, "request body at ExpirationTime: found a text"),
        ({"Roles": [{"Name": "none"}]}, "cannot find role none"),
        ({"Roles": [{"ID": UNKNOWN}]}, f"cannot find role {UNKNOWN}"),
        ({"Policies": "reader"}, "request body at Policies: found a text"),
        ({"AccessorID": "x"}, "token lookup failed: index error: UUID must be 36"),
    ],
)
async def test_what_cannot_be_a_token_is_refused(acls: Acls, sent, text):
    answer = await acls.put(TOKEN, body(**sent))

    assert (answer.status, answer.text[: len(text)]) == (400, text)
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert len(acls.api.replica.state().acl_tokens) == 1


async def test_an_accessor_that_there_is_not_is_404(acls: Acls):
    answer = await acls.put(TOKEN, body(AccessorID=UNKNOWN))

    assert (answer.status, answer.text) == (404, f"cannot find token {UNKNOWN}")


async def test_a_token_may_be_brought_along_whole(acls: Acls):
    brought = body(AccessorID=UNKNOWN, SecretID=CHOSEN.upper())

    made = await acls.put(TOKEN, brought)
    taken = await acls.put(TOKEN, body(AccessorID=CHOSEN, SecretID=CHOSEN))
    manager = await acls.put(
        TOKEN, {"AccessorID": CHOSEN, "SecretID": CHOSEN, "Type": "management"}
    )

    assert (made.json["AccessorID"], made.json["SecretID"]) == (UNKNOWN, CHOSEN)
    assert taken.status == 409
    assert CHOSEN not in taken.text
    assert manager.status == 404
    assert (await acls.get("/v1/acl/token/self", CHOSEN)).json == made.json


async def test_a_token_with_roles_and_an_end_says_so(acls: Acls):
    role = await acls.role("r", "reader")
    by_name = body(Policies=None, Roles=[{"Name": "r"}], ExpirationTTL="1h")
    by_id = body(Roles=[{"ID": role["ID"]}], ExpirationTTL=HOUR_NS)

    for sent in (by_name, by_id):
        token = (await acls.put(TOKEN, sent)).json
        assert token["Roles"] == [{"ID": role["ID"], "Name": "r"}]
        assert token["ExpirationTTL"] == "1h0m0s"
        assert token["ExpirationTime"] == "2023-11-14T23:13:20Z"


async def test_an_expired_token_is_as_good_as_none(acls: Acls):
    token = await acls.token("reader", ExpirationTTL="1m")
    acls.api.clock.suspend(61)

    answer = await acls.get("/v1/acl/token/self", token["SecretID"])

    assert answer.status == 403
    assert answer.text in {"Permission denied", "ACL token expired"}
    # A manager sees it until it is removed.
    path = f"{TOKEN}/{token['AccessorID']}"
    assert (await acls.get(path)).json == token


async def test_asking_again_with_the_same_key_gives_the_same_token(acls: Acls):
    first = await acls.put(TOKEN, body(), Idempotency_Key="k")
    again = await acls.put(TOKEN, body(), Idempotency_Key="k")
    other = await acls.put(TOKEN, body(Name="o"), Idempotency_Key="k")

    assert (again.status, again.body, again.index) == (200, first.body, first.index)
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status == 422
    assert len(acls.api.replica.state().acl_tokens) == 2


async def test_what_is_kept_for_a_key_has_no_secret(acls: Acls):
    token = (await acls.put(TOKEN, body(), Idempotency_Key="k")).json
    state = acls.api.replica.state()

    kept = MSGPACK.encode(
        [
            *(key.outcome for key in state.idempotency_keys.values()),
            *(
                remembered.outcome
                for session in state.sessions.values()
                for remembered in session.outcomes.values()
            ),
        ]
    )

    assert token["AccessorID"].encode() in kept
    assert token["SecretID"].encode() not in kept


async def test_a_key_of_a_token_that_is_gone_makes_no_other(acls: Acls):
    made = (await acls.put(TOKEN, body(), Idempotency_Key="k")).json
    await acls.delete(f"{TOKEN}/{made['AccessorID']}")

    again = await acls.put(TOKEN, body(), Idempotency_Key="k")

    assert (again.status, again.text) == (404, "ACL token not found")


async def test_a_command_shows_no_secret(acls: Acls):
    token = await acls.token("reader")
    command = acls.api.proposer.commands[-1]

    assert isinstance(command, UpsertTokens)
    assert command.asked_by == acls.accessor
    assert token["SecretID"] not in repr(command)


# Changed


async def change(acls: Acls, token: dict[str, Any], **fields: Any) -> Answer:
    accessor = token["AccessorID"]
    return await acls.put(f"{TOKEN}/{accessor}", body(AccessorID=accessor, **fields))


async def test_a_change_keeps_what_the_server_has_made(acls: Acls):
    token = await acls.token("reader")
    acls.api.clock.suspend(100)

    answer = await change(
        acls, token, Name="new", Policies=["a", "b"], SecretID=CHOSEN, CreateIndex=7
    )

    changed = answer.json
    assert answer.index == changed["ModifyIndex"] == table_index(acls)
    assert (changed["Name"], changed["Policies"]) == ("new", ["a", "b"])
    for kept in ("SecretID", "AccessorID", "CreateTime", "CreateIndex"):
        assert changed[kept] == token[kept]
    assert changed["Hash"] != token["Hash"]
    assert changed["ModifyIndex"] > token["ModifyIndex"]


async def test_a_change_does_not_bring_back_what_was_deleted(acls: Acls):
    token = await acls.token("reader")
    path = f"{TOKEN}/{token['AccessorID']}"
    await acls.delete(path)

    answer = await acls.put(path, token)

    accessor = token["AccessorID"]
    assert (answer.status, answer.text) == (404, f"cannot find token {accessor}")
    assert (await acls.get(f"{TOKEN}/self", token["SecretID"])).status == 403


async def test_a_token_may_become_a_manager_and_be_changed_without_a_path(acls: Acls):
    token = await acls.token("reader")
    sent = {"AccessorID": token["AccessorID"], "Type": "management"}

    answer = await acls.put(TOKEN, sent)

    assert (answer.json["Type"], answer.json["Policies"]) == ("management", None)
    assert (await acls.get("/v1/acl/tokens", token["SecretID"])).status == 200


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Global": True}, "cannot toggle global mode of {}"),
        ({"ExpirationTTL": "2h"}, "cannot update expiration TTL"),
        ({"ExpirationTTL": "-2h"}, "cannot update expiration TTL"),
        ({"ExpirationTime": "2030-01-01T00:00:00Z"}, "cannot update expiration time"),
        ({"AccessorID": UNKNOWN}, "ACL token accessor does not match request path"),
        ({"AccessorID": ""}, "ACL token accessor does not match request path"),
        ({"Type": "x"}, complaint("token type must be client or management")),
    ],
)
async def test_some_of_it_cannot_be_changed(acls: Acls, fields, text):
    token = await acls.token("reader", ExpirationTTL="1h")
    accessor = token["AccessorID"]

    answer = await acls.put(
        f"{TOKEN}/{accessor}", body(**{"AccessorID": accessor, **fields})
    )

    assert (answer.status, answer.text) == (400, text.format(accessor))
    assert (await acls.get(f"{TOKEN}/{accessor}")).json == token


async def test_an_end_may_be_sent_as_it_was_read(acls: Acls):
    token = await acls.token("reader", ExpirationTTL="1h")

    answer = await acls.put(f"{TOKEN}/{token['AccessorID']}", token)

    assert answer.status == 200
    assert answer.json["ExpirationTime"] == token["ExpirationTime"]


# Deleted


@rows("ACL-9.5")
async def test_a_deleted_token_is_refused_at_once(acls: Acls):
    token = await acls.token("reader")

    answer = await acls.delete(f"{TOKEN}/{token['AccessorID']}")
    after = await acls.get("/v1/acl/policies", token["SecretID"])

    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers
    assert answer.index == table_index(acls)
    assert (after.status, after.text) == (403, "ACL token not found")


@pytest.mark.parametrize(
    ("accessor", "text"),
    [
        (UNKNOWN, f"Cannot delete nonexistent tokens: {UNKNOWN}"),
        ("anonymous", "token lookup failed: index error: UUID must be 36 characters"),
    ],
)
async def test_what_is_not_there_cannot_be_deleted(acls: Acls, accessor, text):
    answer = await acls.delete(f"{TOKEN}/{accessor}")

    assert (answer.status, answer.text) == (400, text)


# Read


@rows("ACL-9.7")
async def test_the_list_has_stubs_by_accessor_without_a_secret(acls: Acls):
    tokens = [await acls.token("reader", Name=f"t{n}") for n in range(5)]

    answer = await acls.get("/v1/acl/tokens")

    accessors = [stub["AccessorID"] for stub in answer.json]
    assert accessors == sorted([acls.accessor, *(t["AccessorID"] for t in tokens)])
    stub = next(stub for stub in answer.json if stub["Name"] == "t0")
    assert stub == {k: v for k, v in tokens[0].items() if k != "SecretID"}
    assert answer.index == table_index(acls)
    assert answer.nomad_headers() == READ_HEADERS
    assert "SecretID" not in answer.text
    for token in tokens:
        assert token["SecretID"] not in answer.text


async def test_some_can_be_asked_for(acls: Acls):
    for name in ("a", "b"):
        await acls.token("reader", Name=name)
    worldwide = await acls.token("reader", Name="g", Global=True)

    async def names(query: str) -> list[str]:
        answer = await acls.get(f"/v1/acl/tokens?{query}")
        assert answer.status == 200, answer.text
        return [stub["Name"] for stub in answer.json]

    listed = await names("")
    assert sorted(await names("global")) == ["Bootstrap Token", "g"]
    assert await names("global=false") == listed
    prefix = worldwide["AccessorID"].replace("-", "").upper()
    assert await names(f"prefix={prefix}") == ["g"]
    assert await names(f"prefix={prefix[:8]}") == listed
    assert await names("prefix=ffff") == []
    assert await names("reverse") == listed[::-1]
    assert await names('filter=Name=="a"') == ["a"]
    assert await names('filter=Policies%20is%20not%20empty%20and%20Name!="a"') == [
        name for name in listed if name in {"b", "g"}
    ]


async def test_pages_are_parts_of_the_list(acls: Acls):
    for _ in range(4):
        await acls.token("reader")
    for flag in ("", "&reverse=true"):
        whole = (await acls.get(f"/v1/acl/tokens?{flag}")).json
        paged, following = [], ""
        for _ in range(3):
            page = await acls.get(
                f"/v1/acl/tokens?per_page=2&next_token={following}{flag}"
            )
            paged += page.json
            following = page.headers.get("x-nomad-nexttoken", "")
        assert paged == whole
        assert following == ""


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("prefix=123", "acl token lookup failed: index error: Input (without hyphens) must be even length"),
        ("prefix=zz", "acl token lookup failed: index error: Invalid UUID"),
        ("per_page=x", "Expect a number for `per_page`"),
        ("global=x", "Expect `true` or `false` for `global`"),
        ('filter=SecretID=="a"', "failed to create result paginator: failed to read filter expression: no field is called 'SecretID'"),
        ('filter=Hash=="a"', "failed to create result paginator: failed to read filter expression: no field is called 'Hash'"),
        ('filter=Secret=="a"', "failed to create result paginator: failed to read filter expression: no field is called 'Secret'"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(acls: Acls, query, text):
    answer = await acls.get(f"/v1/acl/tokens?{query}")

    assert (answer.status, answer.text[: len(text)]) == (400, text)


async def test_a_list_waits_for_its_tokens(acls: Acls):
    path = f"/v1/acl/tokens?index={table_index(acls)}"

    async def write() -> None:
        await acls.policy("other")
        assert acls.api.gauge("nodestate_api_waiters") == 1
        await acls.token("reader")

    answer = await acls.api.read_during(path, write, {"X-Nomad-Token": acls.secret})

    assert len(answer.json) == 2
    assert answer.index == table_index(acls)


async def test_a_token_is_read_by_managers_and_by_its_holder(acls: Acls):
    own, other = await acls.token("reader"), await acls.token("reader")
    path = f"{TOKEN}/{own['AccessorID']}"

    for secret in (acls.secret, own["SecretID"]):
        answer = await acls.get(path, secret)
        assert answer.json == own
        assert answer.index == own["ModifyIndex"]
        assert answer.nomad_headers() == READ_HEADERS
    upper = await acls.get(f"{TOKEN}/{own['AccessorID'].upper()}", own["SecretID"])
    assert upper.json == own
    for secret in ("", other["SecretID"]):
        answer = await acls.get(path, secret)
        assert (answer.status, answer.text) == (403, "Permission denied")


async def test_only_managers_learn_that_there_is_none(acls: Acls):
    secret = (await acls.token("reader"))["SecretID"]
    for accessor, status, text in (
        (UNKNOWN, 404, "ACL token not found"),
        ("x", 400, "acl token lookup failed: index error: UUID must be 36 characters"),
    ):
        asked = await acls.get(f"{TOKEN}/{accessor}")
        assert (asked.status, asked.text) == (status, text)
        asked = await acls.get(f"{TOKEN}/{accessor}", secret)
        assert (asked.status, asked.text) == (403, "Permission denied")
    missing = await acls.get(f"{TOKEN}/{UNKNOWN}")
    assert missing.index == table_index(acls)


async def test_a_read_of_one_waits_for_its_change_and_then_asks_who_may(acls: Acls):
    own = await acls.token("reader")
    path = f"{TOKEN}/{own['AccessorID']}?index={own['ModifyIndex']}"
    headers = {"X-Nomad-Token": own["SecretID"]}

    async def edit() -> None:
        await acls.token("reader")
        assert acls.api.gauge("nodestate_api_waiters") == 1
        await change(acls, own, Name="new")

    changed = await acls.api.read_during(path, edit, headers)
    assert changed.json["Name"] == "new"

    path = f"{TOKEN}/{own['AccessorID']}?index={changed.index}"

    async def remove() -> None:
        await acls.delete(f"{TOKEN}/{own['AccessorID']}")

    removed = await acls.api.read_during(path, remove, headers)
    assert (removed.status, removed.text) == (403, "Permission denied")


# One's own


@rows("ACL-9.8")
async def test_only_a_secret_is_a_token(acls: Acls):
    own = await acls.token("reader")

    for secret in (own["AccessorID"], UNKNOWN_SECRET, "bogus", own["SecretID"][1:]):
        answer = await acls.get("/v1/acl/token/self", secret)
        assert (answer.status, answer.text) == (403, "ACL token not found")


async def test_who_has_no_token_is_anonymous(acls: Acls):
    answer = await acls.get("/v1/acl/token/self", "")

    assert answer.json["AccessorID"] == "anonymous"
    assert (answer.json["SecretID"], answer.json["Policies"]) == ("", ["anonymous"])
    assert answer.index == table_index(acls)


async def test_ones_own_is_answered_at_once_and_bearers_are_taken(acls: Acls):
    headers = {"Authorization": f"Bearer {acls.secret}"}

    answer = await acls.api.get("/v1/acl/token/self?index=9999", headers)

    assert answer.json["AccessorID"] == acls.accessor
    assert answer.index == answer.json["ModifyIndex"]


async def test_without_acls_ones_own_says_so(api: Api):
    answer = await api.get("/v1/acl/token/self", {"X-Nomad-Token": "nonsense"})

    token = answer.json
    assert (token["AccessorID"], token["Name"], token["Type"]) == (
        "acls-disabled",
        "ACLs disabled token",
        "client",
    )
    assert token["SecretID"] == ""
    assert answer.index == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/acl/tokens"),
        ("GET", f"{TOKEN}/{UNKNOWN}"),
        ("PUT", TOKEN),
        ("PUT", f"{TOKEN}/{UNKNOWN}"),
        ("DELETE", f"{TOKEN}/{UNKNOWN}"),
    ],
)
async def test_without_acls_there_are_none(api: Api, method, path):
    answer = await api.ask(method, path, body(AccessorID=UNKNOWN))

    assert (answer.status, answer.text) == (400, "ACL support disabled")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", TOKEN, 405),
        ("DELETE", TOKEN, 405),
        ("PUT", "/v1/acl/token/self", 405),
        ("DELETE", "/v1/acl/token/self", 405),
        ("PUT", "/v1/acl/tokens", 405),
        ("GET", f"{TOKEN}/", 400),
        ("PUT", f"{TOKEN}/", 400),
        ("DELETE", f"{TOKEN}/", 400),
    ],
)
async def test_wrong_methods_and_no_accessor(acls: Acls, method, path, status):
    answer = await acls.ask(method, path, body())

    text = "Invalid method" if status == 405 else "Missing Token Accessor"
    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize("secret", ["", "client", UNKNOWN_SECRET, "bogus"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/acl/tokens"),
        ("PUT", TOKEN),
        ("PUT", f"{TOKEN}/{UNKNOWN}"),
        ("DELETE", f"{TOKEN}/{UNKNOWN}"),
    ],
)
async def test_only_managers_may(acls: Acls, method, path, secret):
    if secret == "client":
        secret = (await acls.token("reader"))["SecretID"]
    written = acls.api.replica.applied_index()

    answer = await acls.ask(method, path, "{", secret)

    assert answer.status == 403
    assert acls.api.replica.applied_index() == written
