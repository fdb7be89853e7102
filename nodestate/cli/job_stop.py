"""`job stop`: stop a job, and follow that."""

from nodestate.cli.eval_monitor import declare_monitor, follow
from nodestate.cli.flags import Flags
from nodestate.cli.job_lookup import agrees, find_job_id, one_argument
from nodestate.cli.session import Command, Session, as_json, declare_connection, failing
from nodestate.model.encoding import encode_json


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    declare_monitor(flags)
    flags.switch("purge", "forget the job as well")
    flags.switch("yes", "do not ask whether the right job was found")
    flags.switch("json", "write the server's answer, and do not wait")
    flags.arguments("<job>")


async def _stop(session: Session) -> int:
    args, console = session.args, session.console
    doing = "Error deregistering job"
    named = one_argument(session, "job")
    async with session.client() as client:
        job_id = await find_job_id(client, named, doing=doing)
        if not agrees(session, named, job_id, doing="stop job"):
            return 0
        with failing(doing):
            written = await client.stop_job(job_id, purge=args.purge)
        if args.json:
            console.output(as_json(encode_json(written)))
        elif not written.eval_id:
            console.output(f'Job "{job_id}" is gone')
        elif args.detach:
            console.output(written.eval_id)
        else:
            return await follow(session, client, written.eval_id)
    return 0


COMMANDS = (
    Command(
        words="job stop",
        synopsis="Stop a job and all that runs of it.",
        example="nodestate job stop -purge web",
        declare=_declare,
        run=_stop,
    ),
)
