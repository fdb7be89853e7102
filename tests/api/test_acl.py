"""What requests about ACLs share."""

from nodestate.acl.permissions import NOTHING
from nodestate.acl.resolve import Identity
from nodestate.api.acl import token_now, written
from nodestate.model.acl import ANONYMOUS_TOKEN
from tests.api.aclworld import bootstrapped
from tests.api.conftest import Api
from tests.fsm.acls import A1, new_token, put_tokens, token
from tests.fsm.entries import Log


def test_a_token_is_looked_at_as_it_is_by_now():
    state = Log(put_tokens(new_token())).state
    stored = state.acl_tokens[A1]

    assert token_now(state, Identity(token(modify_index=1), NOTHING)) is stored

    state.remove_acl_token(A1)

    assert token_now(state, Identity(stored, NOTHING)) is None
    assert token_now(state, Identity(ANONYMOUS_TOKEN, NOTHING)) is ANONYMOUS_TOKEN


def test_a_write_with_nothing_to_show_is_an_index():
    reply = written(7)

    assert (reply.status, reply.headers, reply.body.plain) == (
        200,
        b"X-Nomad-Index: 7\r\n",
        b"",
    )


async def test_changes_of_acls_move_the_index_of_nothing_else(guarded: Api):
    """5.5: each table has an index of its own."""
    acls = await bootstrapped(guarded)

    async def indexes() -> dict[str, int]:
        paths = ("nodes", "allocations", "acl/policies", "acl/tokens", "acl/roles")
        return {path: (await acls.get(f"/v1/{path}")).index for path in paths}

    before = await indexes()
    await acls.policy("p")
    after_policy = await indexes()
    await acls.token("p")
    after_token = await indexes()

    assert {k for k in before if before[k] != after_policy[k]} == {"acl/policies"}
    assert {k for k in before if after_token[k] != after_policy[k]} == {"acl/tokens"}
