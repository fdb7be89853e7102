"""`job status`: all jobs as a table, or one job with what has become of it."""

from collections.abc import Sequence
from typing import Final

from nodestate.cli.alloc_tables import allocation_table, failure_lines
from nodestate.cli.eval_status import failures_text
from nodestate.cli.flags import Flags
from nodestate.cli.job_lookup import find_job_id, job_table, status_text
from nodestate.cli.session import (
    Command,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.cli.tables import columns, pairs, point_in_time, short_id, yes_no
from nodestate.client_work import WorkClient
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobSummary

FAILED_GROUPS_MAX: Final = 5
"""How many groups' failures are shown; the evaluation has the rest."""

_JOBS: Final = "Error querying jobs"
_JOB: Final = "Error querying job"


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("short", "only the basics of a single job")
    flags.switch("evals", "show the evaluations of a single job")
    flags.switch("all-allocs", "allocations of purged jobs of the same id as well")
    flags.switch("verbose", "full ids, and the evaluations")
    flags.switch("json", "write the server's answer")
    flags.arguments("[<job>]")


async def _status(session: Session) -> int:
    arguments = session.args.arguments
    if len(arguments) > 1:
        raise session.refuse("This command takes either no arguments or one: <job>")
    async with session.client() as client:
        if arguments:
            await _show_job(session, client, str(arguments[0]))
        else:
            await _list_jobs(session, client)
    return 0


async def _list_jobs(session: Session, client: WorkClient) -> None:
    with failing(_JOBS):
        listed = await client.jobs()
    if session.args.json:
        session.console.output(as_json(listed.body))
    else:
        stubs = listed.value
        session.console.output(job_table(stubs) if stubs else "No running jobs")


async def _show_job(session: Session, client: WorkClient, named: str) -> None:
    args, console = session.args, session.console
    job_id = await find_job_id(client, named, doing=_JOB)
    with failing(_JOB):
        found = await client.job(job_id)
    if args.json:
        console.output(as_json(found.body))
        return
    console.output(pairs(_basics(found.value)))
    if args.short:
        return
    with failing("Error querying job summary"):
        summary = (await client.job_summary(job_id)).value
    with failing("Error querying job evaluations"):
        evaluations = (await client.job_evaluations(job_id)).value
    with failing("Error querying job allocations"):
        allocations = await client.job_allocations(
            job_id, all_incarnations=args.all_allocs
        )
    console.heading("Summary")
    console.output(_summary_table(summary))
    if args.evals or args.verbose:
        console.heading("Evaluations")
        console.output(_evaluation_table(session, evaluations))
    _show_failure(session, evaluations)
    console.heading("Allocations")
    console.output(allocation_table(session, allocations.value))


def _basics(job: Job) -> list[tuple[str, str]]:
    return [
        ("ID", job.id),
        ("Name", job.name),
        ("Submit Date", point_in_time(job.submit_time)),
        ("Type", str(job.type)),
        ("Priority", str(job.priority)),
        ("Datacenters", ",".join(job.datacenters)),
        ("Namespace", job.namespace),
        ("Status", status_text(str(job.status), is_stopped=job.stop)),
        ("Periodic", yes_no(job.periodic is not None)),
        ("Parameterized", yes_no(job.parameterized_job is not None)),
    ]


def _summary_table(summary: JobSummary) -> str:
    rows = [["Task Group", "Queued", "Starting", "Running"]]
    rows[0] += ["Failed", "Complete", "Lost"]
    for name, group in sorted(summary.summary.items()):
        counts = [group.queued, group.starting, group.running]
        counts += [group.failed, group.complete, group.lost]
        rows.append([name, *map(str, counts)])
    return columns(rows)


def _evaluation_table(session: Session, evaluations: Sequence[Evaluation]) -> str:
    rows = [["ID", "Priority", "Triggered By", "Status", "Placement Failures"]]
    rows += [
        [
            short_id(each.id, verbose=session.args.verbose),
            str(each.priority),
            each.triggered_by,
            each.status,
            failures_text(each),
        ]
        for each in _newest_first(evaluations)
    ]
    return columns(rows)


def _newest_first(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return sorted(evaluations, key=lambda each: (-each.create_index, each.id))


def _show_failure(session: Session, evaluations: Sequence[Evaluation]) -> None:
    """Say what could not be placed, if that is still waited for."""
    if not any(each.is_blocked for each in evaluations):
        return
    failed = [each for each in _newest_first(evaluations) if each.failed_tg_allocs]
    if not failed:
        return
    metrics = dict(sorted((failed[0].failed_tg_allocs or {}).items()))
    shown = dict(list(metrics.items())[:FAILED_GROUPS_MAX])
    session.console.heading("Placement Failure")
    session.console.output("\n".join(failure_lines(shown)))
    if len(shown) < len(metrics):
        session.console.output(
            "\nPlacement failures truncated. To see remainder run:\n"
            f"nodestate eval status {failed[0].id}"
        )


COMMANDS = (
    Command(
        words="job status",
        synopsis="List all jobs, or show one whose id, or the start of it, is given.",
        example="nodestate job status web",
        declare=_declare,
        run=_status,
    ),
)
