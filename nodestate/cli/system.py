"""`system gc`: remove what is over now, and not in its time."""

from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, Session, declare_connection, failing


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.arguments("")


def _refuse_arguments(session: Session) -> None:
    if session.args.arguments:
        raise session.refuse("This command takes no arguments")


async def _collect_garbage(session: Session) -> int:
    _refuse_arguments(session)
    async with session.client() as client:
        with failing("Error running system garbage-collection"):
            await client.collect_garbage()
    return 0


async def _reconcile_summaries(session: Session) -> int:
    _refuse_arguments(session)
    async with session.client() as client:
        with failing("Error running system summary reconciliation"):
            await client.reconcile_summaries()
    return 0


COMMANDS = (
    Command(
        words="system gc",
        synopsis="Remove jobs, allocations and evaluations that are over, and nodes "
        "that are down with nothing on them, however old they are.",
        example="nodestate system gc",
        declare=_declare,
        run=_collect_garbage,
    ),
    Command(
        words="system reconcile summaries",
        synopsis="Do nothing: the summaries of jobs are always right.",
        example="nodestate system reconcile summaries",
        declare=_declare,
        run=_reconcile_summaries,
    ),
)
