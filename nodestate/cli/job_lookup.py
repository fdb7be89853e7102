"""From what a person typed to one job."""

from collections.abc import Sequence

from nodestate.answers import JobStub
from nodestate.cli.session import CommandError, Session, failing
from nodestate.cli.tables import columns, point_in_time
from nodestate.client_work import WorkClient


def one_argument(session: Session, name: str) -> str:
    """Return the only argument; raises if there is none or more."""
    arguments = session.args.arguments
    if len(arguments) != 1:
        raise session.refuse(f"This command takes one argument: <{name}>")
    return str(arguments[0])


async def find_job_id(client: WorkClient, text: str, *, doing: str) -> str:
    """Return the id of the one job that is called so, or whose id begins so."""
    text = text.strip()
    with failing(doing):
        stubs = (await client.jobs(prefix=text)).value
    if not stubs:
        raise CommandError(f'No job(s) with prefix or id "{text}" found')
    if any(stub.id == text for stub in stubs):
        return text
    if len(stubs) > 1:
        raise CommandError(f"Prefix matched multiple jobs\n\n{job_table(stubs)}")
    return stubs[0].id


def job_table(stubs: Sequence[JobStub]) -> str:
    """Return jobs as a table, by id."""
    rows = [["ID", "Type", "Priority", "Status", "Submit Date"]]
    rows += [
        [
            stub.id,
            stub.type,
            str(stub.priority),
            status_text(stub.status, is_stopped=stub.stop),
            point_in_time(stub.submit_time),
        ]
        for stub in sorted(stubs, key=lambda each: each.id)
    ]
    return columns(rows)


def status_text(status: str, *, is_stopped: bool) -> str:
    """Return what has become of a job, and whether that was wanted."""
    return f"{status} (stopped)" if is_stopped else status


def agrees(session: Session, named: str, job_id: str, *, doing: str) -> bool:
    """Ask before acting on a job that was named by a prefix only."""
    if session.args.yes or named.strip() == job_id:
        return True
    answer = session.console.ask(f'Are you sure you want to {doing} "{job_id}"? [y/N]')
    if answer == "y":
        return True
    session.console.output(
        "For confirmation, an exact 'y' is required."
        if answer and answer[0] not in "nN"
        else "Cancelling job stop"
    )
    return False
