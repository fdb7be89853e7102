"""`job plan` and `job validate`: what would become of a job file, without doing it."""

from collections.abc import Iterator
from typing import Any, Final

from nodestate.answers import DesiredUpdates, JobPlan
from nodestate.cli.alloc_tables import failure_lines
from nodestate.cli.flags import Flags
from nodestate.cli.job_diff import diff_lines, updates_text
from nodestate.cli.job_files import client_for, read_job
from nodestate.cli.job_lookup import one_argument
from nodestate.cli.session import (
    EXIT_FAILED,
    EXIT_OK,
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.errors import RequestError
from nodestate.model.encoding import encode_json
from nodestate.model.job_defaults import complete_job
from nodestate.model.job_validation import job_faults, refuse_submission

EXIT_CHANGES: Final = 1
EXIT_PLAN_FAILED: Final = 255

_KINDS: Final = (
    ("canary", "canary"),
    ("place", "create"),
    ("stop", "destroy"),
    ("migrate", "migrate"),
    ("destructive_update", "create/destroy update"),
    ("in_place_update", "in-place update"),
    ("ignore", "ignore"),
)
_CHANGING: Final = ("place", "stop", "migrate", "destructive_update", "canary")


def _declare_plan(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("verbose", "show what stays as well, and what is new in full")
    flags.switch("json", "write the server's answer")
    flags.arguments("<file>|-")


async def _plan(session: Session) -> int:
    try:
        path = one_argument(session, "file")
        job = read_job(session, path)
        async with client_for(session, job) as client:
            with failing("Error during plan"):
                plan = await client.plan_job(str(job["ID"]), job)
    except CommandError as error:
        raise CommandError(str(error), EXIT_PLAN_FAILED) from error
    if session.args.json:
        session.console.output(as_json(encode_json(plan)))
    else:
        session.console.output(
            "\n".join(_plan_lines(job, plan, path, verbose=session.args.verbose))
        )
    changes = any(
        getattr(updates, name)
        for updates in _updates(plan).values()
        for name in _CHANGING
    )
    return EXIT_CHANGES if changes else EXIT_OK


def _updates(plan: JobPlan) -> dict[str, DesiredUpdates]:
    annotations = plan.annotations
    return (annotations.desired_tg_updates if annotations else None) or {}


def _plan_lines(
    job: dict[str, Any], plan: JobPlan, path: str, *, verbose: bool
) -> Iterator[str]:
    if plan.diff is not None:
        yield from diff_lines(plan.diff, verbose=verbose)
    else:
        yield f'Job: "{job["ID"]}"'
        for name, updates in sorted(_updates(plan).items()):
            counts = {text: getattr(updates, kind) for kind, text in _KINDS}
            yield f'Task Group: "{name}"{updates_text(counts)}'
    yield "\nScheduler dry-run:"
    if plan.failed_tg_allocs:
        yield "- WARNING: Failed to place all allocations."
        yield from failure_lines(plan.failed_tg_allocs, indent="  ")
    else:
        yield "- All tasks successfully allocated."
    if plan.warnings:
        yield f"\nJob Warnings:\n{plan.warnings}"
    yield f"\nJob Modify Index: {plan.job_modify_index}"
    yield (
        "To submit the job with version verification run:\n\n"
        f"nodestate job run -check-index {plan.job_modify_index} {path}\n\n"
        "When running the job with the check-index flag, the job will only be run if "
        "the\njob modify index given matches the server-side version. If the index has\n"
        "changed, another user has modified the job and the plan's results are\n"
        "potentially invalid."
    )


def _declare_validate(flags: Flags) -> None:
    flags.arguments("<file>|-")


def _validate(session: Session) -> int:
    """Judge a job file by the rules that the servers of this release have."""
    sent = read_job(session, one_argument(session, "file"))
    try:
        job = complete_job(sent)
    except RequestError as error:
        raise CommandError(f"Job validation errors:\n{error}") from error
    faults = refuse_submission(job) or job_faults(job)
    if faults:
        session.console.error(f"Job validation errors:\n{faults.rstrip()}")
        return EXIT_FAILED
    session.console.output("Job validation successful")
    return EXIT_OK


COMMANDS = (
    Command(
        words="job plan",
        synopsis="Show what running a job file would do; 1 if anything, 255 on errors.",
        example="nodestate job plan docs/examples/web.json",
        declare=_declare_plan,
        run=_plan,
    ),
    Command(
        words="job validate",
        synopsis="Check a job file, without any server.",
        example="nodestate job validate docs/examples/web.json",
        declare=_declare_validate,
        run=_validate,
    ),
)
