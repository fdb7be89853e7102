"""Nomad's spelling of field names."""

import pytest

from nodestate.model.naming import nomad_name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("modify_index", "ModifyIndex"),
        ("id", "ID"),
        ("http_addr", "HTTPAddr"),
        ("memory_mb", "MemoryMB"),
        ("tls_enabled", "TLSEnabled"),
        ("mbits", "MBits"),
        ("cidr", "CIDR"),
        ("eval_ids", "EvalIDs"),
        ("heartbeat_ttl", "HeartbeatTTL"),
        ("leader_rpc_addr", "LeaderRPCAddr"),
        ("cpu_shares", "CpuShares"),
    ],
)
def test_a_field_is_spelt_as_nomad_spells_it(ours, theirs):
    assert nomad_name(ours) == theirs
