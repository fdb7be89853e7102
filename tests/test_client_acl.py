"""The client for ACLs: which path and body each call has."""

import pytest

from nodestate.client import Query
from nodestate.client_acl import AclClient, RoleSpec, Token, TokenSpec
from nodestate.errors import ResponseError
from nodestate.model.acl import PolicyLink, RoleLink
from tests.scripted_acl import ACCESSOR, ROLE_ID, SECRET, policy, role, stub, token
from tests.scripted_server import Answer, scripted_server


@pytest.fixture
async def scripted():
    async with scripted_server() as script:
        yield script


@pytest.fixture
async def client(scripted):
    async with AclClient(scripted.address) as client:
        yield client


async def test_a_token_is_read_whole_and_does_not_show_its_secret(scripted, client):
    sent = token(
        Roles=[{"ID": ROLE_ID, "Name": "r"}],
        ExpirationTime="2023-11-14T23:13:20Z",
        ExpirationTTL="1h0m0s",
    )
    scripted.on(f"/v1/acl/token/{ACCESSOR}", Answer(sent))

    read = await client.acl_token(ACCESSOR, Query(index=3))

    assert isinstance(read.value, Token)
    assert (read.value.secret_id, read.value.policies) == (SECRET, ("reader",))
    assert read.value.roles == (RoleLink(id=ROLE_ID, name="r"),)
    assert read.value.expiration_time.ns == 1_700_003_600_000_000_000
    assert SECRET not in repr(read.value)
    assert scripted.asked[0].query == {"index": "3"}


async def test_bootstrap(scripted, client):
    scripted.on("/v1/acl/bootstrap", Answer(token(Type="management", Policies=None)))

    assert (await client.bootstrap_acl()).secret_id == SECRET
    await client.bootstrap_acl(SECRET)

    assert scripted.bodies("/v1/acl/bootstrap") == [{}, {"BootstrapSecret": SECRET}]


async def test_policies(scripted, client):
    scripted.on("/v1/acl/policies", Answer([policy(Rules="")]))
    scripted.on("/v1/acl/policy/a/b", Answer(policy()))

    listed = (await client.acl_policies(prefix="re")).value
    read = (await client.acl_policy("a/b")).value
    scripted.on("/v1/acl/policy/a/b", Answer(""))
    await client.put_acl_policy("a/b", "rules", description="d", idempotency_key="k")
    await client.delete_acl_policy("a/b")

    assert (listed[0].name, listed[0].rules) == ("reader", "")
    assert read.rules == 'node { policy = "read" }'
    assert scripted.queries("/v1/acl/policies") == [{"prefix": "re"}]
    put, delete = scripted.asked[-2:]
    assert (put.method, put.headers["Idempotency-Key"]) == ("POST", "k")
    assert put.body == {"Name": "a/b", "Description": "d", "Rules": "rules"}
    assert (delete.method, delete.body) == ("DELETE", None)


async def test_tokens(scripted, client):
    scripted.on("/v1/acl/tokens", Answer([stub()]))
    scripted.on("/v1/acl/token", Answer(token()))
    scripted.on("/v1/acl/token/self", Answer(token()))
    scripted.on(f"/v1/acl/token/{ACCESSOR}", Answer(token()))

    listed = (await client.acl_tokens(prefix="3f", filter='Name=="a"')).value
    own = (await client.own_acl_token()).value
    made = await client.create_acl_token(
        TokenSpec(name="n", type="client", policies=["p"], roles=[RoleLink(name="r")]),
        idempotency_key="k",
    )
    await client.update_acl_token(TokenSpec(accessor_id=ACCESSOR, type="client"))
    await client.delete_acl_token(ACCESSOR)

    assert (listed[0].accessor_id, listed[0].secret_id) == (ACCESSOR, "")
    assert own.secret_id == made.secret_id == SECRET
    assert scripted.queries("/v1/acl/tokens") == [
        {"prefix": "3f", "filter": 'Name=="a"'}
    ]
    assert scripted.bodies("/v1/acl/token") == [
        {
            "Name": "n",
            "Type": "client",
            "Policies": ["p"],
            "Roles": [{"ID": "", "Name": "r"}],
            "Global": False,
            "ExpirationTTL": "",
            "AccessorID": "",
        }
    ]
    assert scripted.bodies(f"/v1/acl/token/{ACCESSOR}")[0]["AccessorID"] == ACCESSOR


async def test_roles(scripted, client):
    scripted.on("/v1/acl/roles", Answer([role()]))
    scripted.on("/v1/acl/role", Answer(role()))
    scripted.on(f"/v1/acl/role/{ROLE_ID}", Answer(role()))
    scripted.on("/v1/acl/role/name/r", Answer(role()))
    spec = RoleSpec(name="r", policies=[PolicyLink(name="p")])

    assert (await client.acl_roles(prefix="5")).value[0].id == ROLE_ID
    assert (await client.acl_role(ROLE_ID)).value.name == "r"
    assert (await client.acl_role_named("r")).value.id == ROLE_ID
    assert (await client.create_acl_role(spec)).id == ROLE_ID
    await client.update_acl_role(RoleSpec(id=ROLE_ID, name="s"))
    await client.delete_acl_role(ROLE_ID)

    assert scripted.bodies("/v1/acl/role")[0]["Policies"] == [{"Name": "p"}]
    assert scripted.bodies(f"/v1/acl/role/{ROLE_ID}")[1]["Name"] == "s"


async def test_what_is_refused_is_an_error(scripted, client):
    scripted.on("/v1/acl/policy/p", Answer("Permission denied", status=403))

    for asking in (client.put_acl_policy("p", ""), client.delete_acl_policy("p")):
        with pytest.raises(ResponseError, match="403"):
            await asking
