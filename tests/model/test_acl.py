"""The records of ACLs: Nomad's JSON, its hashes, and what a UUID is."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from nodestate.model.acl import (
    ACLPolicy,
    ACLRole,
    ACLToken,
    PolicyLink,
    RoleLink,
    canonical_uuid,
    policy_hash,
    role_hash,
    secret_digest,
    token_hash,
)
from nodestate.model.encoding import encode_json
from nodestate.model.timestamp import Timestamp

RECORDED = json.loads(Path(__file__).with_name("recorded_acl.json").read_text())
SECRET = "b7e6d2a1-4c3f-4a58-9e07-62d1f0c8a935"


def text_hash(hash_: bytes) -> object:
    return json.loads(msgspec.json.encode(hash_))


@pytest.mark.parametrize("told", RECORDED["tokens"], ids=lambda told: told["Name"])
def test_a_token_has_nomads_hash(told):
    token = ACLToken(
        name=told["Name"],
        type=told["Type"],
        policies=tuple(told["Policies"] or ()),
        is_global=told["Global"],
    )

    assert text_hash(token_hash(token)) == told["Hash"]


@pytest.mark.parametrize("told", RECORDED["policies"], ids=lambda told: told["Name"])
def test_a_policy_has_nomads_hash(told):
    policy = ACLPolicy(
        name=told["Name"], description=told["Description"], rules=told["Rules"]
    )

    assert text_hash(policy_hash(policy)) == told["Hash"]


def test_the_hash_of_the_specification_is_right():
    token = ACLToken(name="ops", type="client", policies=("node-admin",))

    assert text_hash(token_hash(token)) == "djFG8jrx+BlcvfSOtRznZiDUn+NpqbZaay9G98e+Xtw="  # fmt: skip


def test_whatever_a_user_writes_has_its_part_in_the_hash():
    token = ACLToken(name="a", type="client", policies=("p",))
    linked = msgspec.structs.replace(token, roles=(RoleLink(id="r", name="x"),))
    role = ACLRole(name="a", policies=(PolicyLink(name="p"),))
    other = ACLRole(name="a", policies=(PolicyLink(name="q"),))

    hashes = [token_hash(token), token_hash(linked), role_hash(role), role_hash(other)]

    assert len(set(hashes)) == 4


def test_a_token_is_spelt_as_nomad_spells_it():
    told = RECORDED["tokens"][0]
    token = ACLToken(expiration_time=Timestamp(10**9), expiration_ttl="1h0m0s")

    shown = json.loads(encode_json(token))

    assert set(shown) == {*told, "Roles", "ExpirationTime", "ExpirationTTL"}  # fmt: skip
    assert shown["Policies"] is None


def test_a_role_is_spelt_as_nomad_spells_it():
    assert set(json.loads(encode_json(ACLRole()))) == {
        "ID", "Name", "Description", "Policies", "Hash", "CreateIndex", "ModifyIndex",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("expires_ns", "is_expired"), [(0, False), (99, True), (100, True), (101, False)]
)
def test_a_token_ends_when_its_time_has_come(expires_ns, is_expired):
    token = ACLToken(expiration_time=Timestamp(expires_ns))

    assert token.is_expired(100) is is_expired


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bogus",
        SECRET[:-1],
        f"{SECRET}0",
        f" {SECRET[1:]}",
        SECRET.replace("-", ""),
        SECRET.replace("b", "g", 1),
        SECRET.replace("b", "_", 1),
        SECRET.replace("b", "٣", 1),
        "b7e6d2a14-c3f-4a58-9e07-62d1f0c8a935",
        "\ud800" * 36,
    ],
)
def test_what_is_no_uuid_has_no_form(text):
    assert canonical_uuid(text) is None


@given(st.uuids())
def test_a_uuid_is_the_same_in_either_case(uuid):
    assert canonical_uuid(str(uuid).upper()) == canonical_uuid(str(uuid)) == str(uuid)


def test_a_secret_of_any_text_has_a_digest():
    assert secret_digest("\udcff") != secret_digest("ÿ")
