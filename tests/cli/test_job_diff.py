"""The changes of a job, as lines."""

from nodestate.cli.job_diff import diff_lines, updates_text
from nodestate.planning.differences import (
    DiffType,
    FieldDiff,
    GroupDiff,
    JobDiff,
    ObjectDiff,
    TaskDiff,
)

EDITED = DiffType.EDITED
COUNT = FieldDiff(
    type=EDITED, name="Count", old="1", new="2", annotations=("forces create",)
)
KEPT = FieldDiff(name="Driver", old="exec", new="exec")
CONFIG = ObjectDiff(
    type=EDITED,
    name="Config",
    fields=(
        FieldDiff(type=DiffType.ADDED, name="port", new="80"),
        FieldDiff(type=DiffType.DELETED, name="command", old="/bin/a"),
    ),
    objects=(ObjectDiff(name="Same"),),
)
TASK = TaskDiff(
    type=EDITED,
    name="server",
    fields=(KEPT,),
    objects=(CONFIG,),
    annotations=("forces create/destroy update",),
)
DIFF = JobDiff(
    type=EDITED,
    id="web",
    fields=(FieldDiff(type=EDITED, name="Priority", old="50", new="60"),),
    task_groups=(
        GroupDiff(
            type=EDITED,
            name="cache",
            fields=(COUNT,),
            tasks=(TASK,),
            updates={"create": 1, "ignore": 0, "create/destroy update": 2},
        ),
        GroupDiff(type=DiffType.ADDED, name="new", tasks=(TaskDiff(name="t"),)),
    ),
)


def test_what_differs_is_shown_in_its_place():
    assert list(diff_lines(DIFF, verbose=False)) == [
        '+/- Job: "web"',
        '+/- Priority: "50" => "60"',
        '+/- Task Group: "cache" (1 create, 2 create/destroy update)',
        '  +/- Count: "1" => "2" (forces create)',
        '  +/- Task: "server" (forces create/destroy update)',
        "    +/- Config {",
        '      + port: "80"',
        '      - command: "/bin/a"',
        "    }",
        '+ Task Group: "new"',
        '  Task: "t"',
    ]


def test_verbose_shows_what_stays():
    lines = list(diff_lines(DIFF, verbose=True))

    assert '    Driver: "exec"' in lines
    assert "      Same {" in lines


def test_a_new_job_is_not_written_out_unless_verbose():
    fields = (FieldDiff(type=DiffType.ADDED, name="Type", new="batch"),)
    diff = JobDiff(type=DiffType.ADDED, id="web", fields=fields)

    assert list(diff_lines(diff, verbose=False)) == ['+ Job: "web"']
    assert list(diff_lines(diff, verbose=True))[1:] == ['+ Type: "batch"']


def test_nothing_to_do_has_no_text():
    assert updates_text({}) == ""
    assert updates_text({"ignore": 0}) == ""
