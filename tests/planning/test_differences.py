"""What a dry run shows of the differences between two versions of a job."""

from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from nodestate.model.encoding import encode_json
from nodestate.model.job import (
    Affinity,
    Constraint,
    EphemeralDisk,
    Job,
    TaskGroup,
    VolumeRequest,
)
from nodestate.planning.differences import (
    DiffType,
    FieldDiff,
    GroupDiff,
    JobDiff,
    ObjectDiff,
    compare_jobs,
)
from nodestate.planning.reconcile import Changes
from tests.planning.works import changed, group, job, with_count


def fields_of(diff: Any) -> dict[str, tuple[str, str, str]]:
    """Return the fields that differ: type, old and new text, by name."""
    return {
        field.name: (field.type, field.old, field.new)
        for field in diff.fields or ()
        if field.type is not DiffType.NONE
    }


def only_group(old: TaskGroup, new: TaskGroup) -> GroupDiff:
    diff = compare_jobs(job(old), changed(job(new)), {})
    assert diff.task_groups is not None
    (found,) = diff.task_groups
    return found


def with_task(**fields: Any) -> TaskGroup:
    made = group()
    return replace(made, tasks=(replace(made.tasks[0], **fields),))


def test_of_a_new_job_everything_is_added():
    diff = compare_jobs(None, job(group(count=2)), {"web": Changes(placed=2)})

    assert (diff.type, diff.id) == (DiffType.ADDED, "job")
    assert fields_of(diff)["Priority"] == ("Added", "", "50")
    assert diff.objects == (
        ObjectDiff(
            type=DiffType.ADDED,
            name="Datacenters",
            fields=(FieldDiff(type=DiffType.ADDED, name="Datacenters", new="dc1"),),
        ),
    )
    assert diff.task_groups is not None
    (web,) = diff.task_groups
    assert (web.type, web.updates) == (DiffType.ADDED, {"create": 2})
    assert web.tasks is not None
    assert web.tasks[0].annotations == ("forces create",)


def test_the_same_job_differs_in_nothing_whatever_the_servers_say_of_it():
    same = replace(job(), version=7, submit_time=9, modify_index=9, stable=True)

    diff = compare_jobs(job(), same, {"web": Changes(ignored=10)})

    assert diff.type is DiffType.NONE
    assert (diff.fields, diff.objects) == (None, None)
    assert diff.task_groups is not None
    (web,) = diff.task_groups
    assert (web.type, web.updates) == (DiffType.NONE, {"ignore": 10})


@pytest.mark.parametrize(
    ("count", "annotation"), [(11, "forces create"), (9, "forces destroy")]
)
def test_a_count_says_what_it_leads_to(count, annotation):
    diff = compare_jobs(job(), changed(with_count(job(), count)), {})

    assert diff.type is DiffType.EDITED
    assert diff.task_groups is not None
    (web,) = diff.task_groups
    assert fields_of(web) == {"Count": ("Edited", "10", str(count))}
    (counted,) = [field for field in web.fields or () if field.name == "Count"]
    assert counted.annotations == (annotation,)


def test_a_task_says_whether_what_runs_is_replaced():
    replaced = only_group(group(), with_task(config={"command": "x", "args": ["a"]}))
    in_place = only_group(group(), with_task(kill_timeout=9))

    assert replaced.tasks is not None
    assert in_place.tasks is not None
    assert replaced.type is in_place.type is DiffType.EDITED
    assert replaced.tasks[0].annotations == ("forces create/destroy update",)
    assert in_place.tasks[0].annotations == ("forces in-place update",)
    (config,) = replaced.tasks[0].objects or ()
    assert config.name == "Config"
    assert fields_of(config) == {
        "command": ("Edited", "/bin/sleep", "x"),
        "args[0]": ("Added", "", "a"),
    }


def test_groups_and_tasks_come_and_go_by_name():
    diff = compare_jobs(job(group("a"), group("b")), job(group("b"), group("c")), {})

    types = {one.name: str(one.type) for one in diff.task_groups or ()}
    assert types == {"a": "Deleted", "b": "None", "c": "Added"}


def test_fields_of_maps_are_shown_one_by_one():
    old = job(meta={"a": "1", "b": "2"}, all_at_once=True)
    new = job(meta={"b": "3", "c": "4"})

    assert fields_of(compare_jobs(old, new, {})) == {
        "AllAtOnce": ("Edited", "true", "false"),
        "Meta[a]": ("Deleted", "1", ""),
        "Meta[b]": ("Edited", "2", "3"),
        "Meta[c]": ("Added", "", "4"),
    }


def test_members_of_lists_are_there_or_not():
    linux = Constraint(l_target="${attr.kernel.name}", operand="=", r_target="linux")
    hosts = Constraint(operand="distinct_hosts")
    old = job(constraints=(linux,), datacenters=("dc1", "dc2"))
    new = job(constraints=(hosts,), datacenters=("dc2", "dc3"))

    objects = compare_jobs(old, new, {}).objects or ()

    assert [(one.name, str(one.type)) for one in objects] == [
        ("Constraint", "Deleted"),
        ("Constraint", "Added"),
        ("Datacenters", "Edited"),
    ]
    shown = [(field.old, field.new) for field in objects[2].fields or ()]
    assert shown == [("dc1", ""), ("", "dc3")]


def test_volumes_are_compared_by_name():
    old = group(volumes={"data": VolumeRequest(source="a"), "log": VolumeRequest()})
    new = group(volumes={"data": VolumeRequest(source="b")})

    objects = only_group(old, new).objects or ()

    assert [(one.name, str(one.type)) for one in objects] == [
        ("Volume", "Edited"),
        ("Volume", "Deleted"),
    ]


def test_a_flag_is_no_block_though_it_is_called_like_one():
    old = group()
    new = replace(old, ephemeral_disk=EphemeralDisk(size_mb=10, migrate=True))

    (disk,) = only_group(old, new).objects or ()

    assert (disk.name, disk.objects) == ("EphemeralDisk", None)
    assert fields_of(disk) == {"Migrate": ("Edited", "false", "true")}


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "Volumes", "Config", "Networks"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(old=anything, new=anything)
def test_what_is_only_kept_may_be_anything(old: Any, new: Any):
    """No shape of it is an error, and what differs is found unless it is an empty one."""
    diff = only_group(with_task(config=old), with_task(config=new))

    assert diff.tasks is not None
    assert (diff.tasks[0].type is DiffType.EDITED) == (old != new)
    encode_json(diff)


def test_keys_are_nomads():
    affinity = Affinity(l_target="${node.class}", operand="=", r_target="a")
    diff = compare_jobs(job(), job(affinities=(affinity,)), {})

    assert b'"TaskGroups":[' in encode_json(diff)
    assert encode_json(JobDiff(id="a")) == (
        b'{"Type":"None","ID":"a","Fields":null,"Objects":null,"TaskGroups":null}'
    )


def test_jobs_are_left_as_they_are():
    wanted = job()
    before = encode_json(wanted)

    compare_jobs(wanted, changed(wanted), {})

    assert encode_json(wanted) == before
    assert isinstance(wanted, Job)
