"""Jobs as they are sent and received."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from nodestate.api.job_shapes import encode_job, encode_job_stub, job_from
from nodestate.errors import RequestError
from nodestate.model.job import Job, JobSummary
from nodestate.model.job_defaults import complete_job

FULL: dict[str, Any] = {
    "ID": "web",
    "Datacenters": ["dc1"],
    "Constraints": [{"LTarget": "${node.class}", "Operand": "=", "RTarget": "x"}],
    "TaskGroups": [
        {
            "Name": "grp",
            "Networks": [{"MBits": 5, "DynamicPorts": [{"Label": "http"}]}],
            "Volumes": {"Data": {"Type": "host", "Source": "d", "ReadOnly": True}},
            "Tasks": [
                {
                    "Name": "app",
                    "Driver": "exec",
                    "Config": {"Command": "x", "Args": [{"Count": 1}]},
                    "Env": {"Count": "1"},
                    "Resources": {"CPU": 20, "Devices": [{"Name": "gpu"}]},
                }
            ],
        }
    ],
    "Meta": {"Priority": "x"},
    "Reschedule": {"Attempts": 3, "Interval": 60_000_000_000},
}


def from_(sent: object) -> Job:
    return job_from(sent, namespace="default", region="global")


def respelled(value: Any, spell: Any, *, opaque: bool = False) -> Any:
    """Return it with the keys of records spelt otherwise; maps and opaque parts as is."""
    if isinstance(value, list):
        return [respelled(each, spell, opaque=opaque) for each in value]
    if not isinstance(value, dict) or opaque:
        return value
    return {
        spell(key): {name: respelled(each, spell) for name, each in part.items()}
        if key == "Volumes"
        else respelled(part, spell, opaque=key in {"Config", "Env", "Meta"})
        for key, part in value.items()
    }


@given(st.randoms(use_true_random=False))
def test_keys_may_be_spelt_in_any_case(random: Any):
    def spell(key: str) -> str:
        return "".join(random.choice((one.upper(), one.lower())) for one in key)

    assert from_(respelled(FULL, spell)) == complete_job(FULL)


def test_a_key_that_is_spelt_exactly_counts():
    assert from_({"ID": "web", "id": "other"}).id == "web"
    assert from_({"id": "other", "ID": "web"}).id == "web"


def test_unknown_fields_are_passed_over():
    assert from_({**FULL, "Colour": "red", "Update": {"Blue": 1}}) == from_(
        {**FULL, "Update": {}}
    )


@pytest.mark.parametrize("sent", [[], "web", 1, True])
def test_a_job_is_an_object(sent):
    with pytest.raises(RequestError, match="expected an object"):
        from_(sent)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"ID": 1}, r"got `int` - at `Job\.ID`|Job.ID"),
        ({"ID": "a", "Region": 7}, "Region"),
        ({"ID": "a", "TaskGroups": {}}, "TaskGroups"),
        ({"ID": "a", "TaskGroups": [{"Tasks": [{"Env": {"a": 1}}]}]}, "Env"),
    ],
)
def test_what_does_not_fit_says_where(sent, text):
    with pytest.raises(RequestError, match=text):
        from_(sent)


def test_a_job_without_namespace_and_region_is_where_it_is_sent():
    job = job_from({"ID": "a"}, namespace="team", region="mars")

    assert (job.namespace, job.region) == ("team", "mars")


def test_a_stub_has_its_namespace_in_lists_of_all_alone():
    job, summary = Job(id="a", namespace="team", periodic={}), JobSummary(job_id="a")

    alone = json.loads(encode_job_stub(job, None))
    of_all = json.loads(encode_job_stub(job, summary, shows_namespace=True))

    assert "Namespace" not in alone
    assert (alone["JobSummary"], alone["Periodic"]) == (None, True)
    assert of_all["Namespace"] == "team"
    assert of_all["JobSummary"]["JobID"] == "a"


def test_the_full_job_has_every_key():
    shown = json.loads(encode_job(Job(id="a")))

    assert {
        "Payload",
        "VaultToken",
        "ConsulToken",
        "SubmitTime",
        "Update",
    } <= shown.keys()
    assert encode_job(Job(id="\u2028")).count(b"\\u2028") == 1
