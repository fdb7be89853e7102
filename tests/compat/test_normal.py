"""What the form for comparing two runs keeps, and what it leaves out."""

from typing import Any

import pytest

from tests.compat.normal import differences, normal

ID = "f7476465-4d6e-c0de-26d0-e383c49be941"
OTHER = "f7470000-1111-2222-3333-444444444444"


def allocation(**fields: Any) -> dict[str, Any]:
    return {
        "ID": ID,
        "Name": "web.grp[1]",
        "NodeName": "alpha",
        "ModifyIndex": 12,
        "CreateTime": 5,
        "ClientStatus": "running",
        "NextAllocation": "",
        **fields,
    }


def found(wanted: Any, other: Any) -> list[str]:
    return [*differences(normal(wanted), normal(other))]


@pytest.mark.parametrize(
    "fields",
    [
        {"ID": OTHER},
        {"Name": "web.grp[0]", "NodeName": "beta"},
        {"ModifyIndex": 99, "CreateTime": 77},
    ],
)
def test_what_is_a_runs_own_is_left_out(fields):
    assert found(allocation(), allocation(**fields)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"ClientStatus": "complete"},
        {"NextAllocation": OTHER},
        {"Name": "web.other[1]"},
        {"ModifyIndex": 0},
        {"NodeName": ""},
        {"Extra": None},
        {"CreateTime": "5"},
    ],
)
def test_everything_else_counts(fields):
    assert found(allocation(), allocation(**fields)) != []
    assert found([allocation()], [allocation(**fields)]) != []


def test_a_list_has_the_same_kinds_of_records_however_many():
    one, other = allocation(), allocation(ClientStatus="lost")

    assert found([one, other], [other, allocation(ID=OTHER), one]) == []
    assert found([one, other], [one]) != []
    assert found([one], [one, other]) != []


def test_of_a_metric_the_keys_count():
    metric = {"NodesEvaluated": 3, "Scores": None}

    assert (
        found({"Metrics": metric}, {"Metrics": {**metric, "NodesEvaluated": 5}}) == []
    )
    assert found({"Metrics": metric}, {"Metrics": {**metric, "Scores": {}}}) != []
    assert found({"Metrics": metric}, {"Metrics": {"NodesEvaluated": 3}}) != []
