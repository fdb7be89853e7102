"""Who sent a request, known whether it is permitted or not."""

from types import SimpleNamespace
from typing import Final, cast

import pytest

from nodestate.acl.resolve import Resolver
from nodestate.api.callers import caller_of, client_of
from nodestate.api.calls import Call
from nodestate.fsm.state import State
from nodestate.model.acl import MANAGEMENT, ACLToken, secret_digest
from nodestate.model.node import Node
from nodestate.model.node_id import node_key
from nodestate.secret import Secret
from tests.api.conftest import NODE_ID, SECRET
from tests.fakes import FakeClock

ADDRESS: Final = "10.0.0.1"
TOKEN: Final = "11111111-2222-3333-4444-555555555555"
ACCESSOR: Final = "22222222-2222-3333-4444-555555555555"
NO_TOKEN: Final = "99999999-2222-3333-4444-555555555555"


def sent_with(secret: str, *, acl_enabled: bool = True) -> Call:
    """Return as much of a call as is looked at, where there are a token and a node."""
    state = State()
    state.acl_tokens[ACCESSOR] = ACLToken(accessor_id=ACCESSOR, type=MANAGEMENT)
    state.put_acl_secret(ACCESSOR, Secret(TOKEN))
    key = node_key(NODE_ID)
    state.put_node(key, Node(id=NODE_ID))
    state.put_node_secret(key, secret_digest(SECRET))
    services = SimpleNamespace(
        config=SimpleNamespace(acl_enabled=acl_enabled),
        view=SimpleNamespace(state=lambda: state),
        resolver=Resolver(),
        clock=FakeClock(),
    )
    call = SimpleNamespace(
        services=services,
        token=lambda: secret,
        connection=lambda: SimpleNamespace(address=ADDRESS),
    )
    return cast(Call, call)


@pytest.mark.parametrize(
    ("secret", "caller", "client"),
    [
        ("", "anonymous", ADDRESS),
        (TOKEN, ACCESSOR, ACCESSOR),
        (SECRET, f"client:{NODE_ID}", f"client:{NODE_ID}"),
        (NO_TOKEN, "unknown", ADDRESS),
        ("nonsense", "unknown", ADDRESS),
    ],
)
def test_who_it_is_and_whom_it_counts_for(secret, caller, client):
    call = sent_with(secret)

    assert (caller_of(call), client_of(call)) == (caller, client)


@pytest.mark.parametrize("secret", ["", TOKEN, SECRET, NO_TOKEN])
def test_without_acls_everybody_is_an_address(secret):
    call = sent_with(secret, acl_enabled=False)

    assert (caller_of(call), client_of(call)) == ("anonymous", ADDRESS)
