"""Nomad's spelling of a field name, derived from ours."""

from typing import Final

_SPELLINGS: Final = {
    "acl": "ACL",
    "cidr": "CIDR",
    "dns": "DNS",
    "http": "HTTP",
    "id": "ID",
    "ids": "IDs",
    "iops": "IOPS",
    "ip": "IP",
    "mb": "MB",
    "mbits": "MBits",
    "rpc": "RPC",
    "tls": "TLS",
    "ttl": "TTL",
}


def nomad_name(field_name: str) -> str:
    """Return the JSON key for a field: `modify_index` is `ModifyIndex`, `id` is `ID`."""
    words = field_name.split("_")
    return "".join(_SPELLINGS.get(word, word.capitalize()) for word in words)
