"""Tokens, policies and roles as a server sends them."""

from typing import Any, Final

ACCESSOR: Final = "3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04"
SECRET: Final = "b7e6d2a1-4c3f-4a58-9e07-62d1f0c8a935"
ROLE_ID: Final = "5e0c4c5a-8d2b-4a63-9c3f-0f6d2b1a7e44"


def token(**fields: Any) -> dict[str, Any]:
    return {
        "AccessorID": ACCESSOR,
        "SecretID": SECRET,
        "Name": "ops",
        "Type": "client",
        "Policies": ["reader"],
        "Global": False,
        "Hash": "djFG8jrx+BlcvfSOtRznZiDUn+NpqbZaay9G98e+Xtw=",
        "CreateTime": "2020-02-03T04:05:06.789Z",
        "CreateIndex": 52,
        "ModifyIndex": 53,
        **fields,
    }


def stub(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in token(**fields).items() if key != "SecretID"}


def policy(**fields: Any) -> dict[str, Any]:
    return {
        "Name": "reader",
        "Description": "May read nodes",
        "Rules": 'node { policy = "read" }',
        "Hash": "djFG8jrx+BlcvfSOtRznZiDUn+NpqbZaay9G98e+Xtw=",
        "CreateIndex": 7,
        "ModifyIndex": 8,
        **fields,
    }


def role(**fields: Any) -> dict[str, Any]:
    return {
        "ID": ROLE_ID,
        "Name": "r",
        "Description": "d",
        "Policies": [{"Name": "reader"}, {"Name": "writer"}],
        "Hash": "djFG8jrx+BlcvfSOtRznZiDUn+NpqbZaay9G98e+Xtw=",
        "CreateIndex": 9,
        "ModifyIndex": 10,
        **fields,
    }
