"""`job run` and `job eval`: have a job scheduled, and follow what comes of it."""

from http import HTTPStatus

from nodestate.answers import JobWritten
from nodestate.cli.eval_monitor import declare_monitor, follow
from nodestate.cli.flags import Flags
from nodestate.cli.job_files import client_for, read_job
from nodestate.cli.job_lookup import find_job_id, one_argument
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client_work import WorkClient
from nodestate.errors import ResponseError
from nodestate.model.encoding import encode_json

_ENFORCING = "Enforcing job modify index"


def _declare_run(flags: Flags) -> None:
    declare_connection(flags)
    declare_monitor(flags)
    flags.value(
        "check-index",
        "<index>",
        "only if the job's JobModifyIndex is still this; 0 for a job that is new",
        kind=int,
    )
    flags.switch("output", "write the request, and send nothing")
    flags.switch("json", "write the server's answer, and do not wait")
    flags.arguments("<file>|-")


async def _run(session: Session) -> int:
    args, console = session.args, session.console
    job = read_job(session, one_argument(session, "file"))
    if args.output:
        console.output(as_json(encode_json({"Job": job})))
        return 0
    if args.check_index is not None and args.check_index < 0:
        raise CommandError("Error parsing check-index value: it is below 0")
    async with client_for(session, job) as client:
        with failing("Error submitting job"):
            written = await _register(client, job, args.check_index)
        if args.json:
            console.output(as_json(encode_json(written)))
            return 0
        if written.warnings:
            console.heading("Job Warnings:")
            console.output(f"{written.warnings}\n")
        if args.detach or not written.eval_id:
            console.output("Job registration successful")
            if written.eval_id:
                console.output(f"Evaluation ID: {written.eval_id}")
            return 0
        return await follow(session, client, written.eval_id)


async def _register(
    client: WorkClient, job: dict[str, object], index: int | None
) -> JobWritten:
    try:
        return await client.register_job(job, enforced_index=index)
    except ResponseError as error:
        if _ENFORCING in error.text:
            raise CommandError(f"{error.text.strip()}\nJob not updated") from error
        if error.status == HTTPStatus.BAD_REQUEST:
            # A list of faults, one a line, reads badly inside of brackets.
            text = f"Error submitting job: {error.text.strip()}"
            raise CommandError(text) from error
        raise


def _declare_eval(flags: Flags) -> None:
    declare_connection(flags)
    declare_monitor(flags)
    flags.switch("force-reschedule", "replace what has failed for good as well, now")
    flags.switch("json", "write the server's answer, and do not wait")
    flags.arguments("<job>")


async def _eval(session: Session) -> int:
    args, console = session.args, session.console
    doing = "Error evaluating job"
    async with session.client() as client:
        job_id = await find_job_id(client, one_argument(session, "job"), doing=doing)
        with failing(doing):
            written = await client.evaluate_job(
                job_id, force_reschedule=args.force_reschedule
            )
        if args.json:
            console.output(as_json(encode_json(written)))
            return 0
        if args.detach:
            console.output(f'Created eval ID: "{written.eval_id}"')
            return 0
        return await follow(session, client, written.eval_id)


COMMANDS = (
    Command(
        words="job run",
        synopsis="Register a job, or a new version of it, and follow its placement.",
        example="nodestate job run docs/examples/web.json",
        declare=_declare_run,
        run=_run,
    ),
    Command(
        words="job eval",
        synopsis="Have a job looked at again.",
        example="nodestate job eval web",
        declare=_declare_eval,
        run=_eval,
    ),
)
