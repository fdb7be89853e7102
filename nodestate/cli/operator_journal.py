"""`operator journal`: the entries of a stopped server, as lines of JSON."""

import contextlib
from pathlib import Path

from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, CommandError, Session, failing
from nodestate.model.encoding import encode_json


def _declare(flags: Flags) -> None:
    flags.arguments("<data directory>")


def _journal(session: Session) -> int:
    # Every command loads this module, and only here is a server's disk needed.
    from nodestate.replication.disk import SystemDisk  # noqa: PLC0415  above
    from nodestate.replication.inspection import (  # noqa: PLC0415  above
        FaultFound,
        read_entries,
    )

    if len(session.args.arguments) != 1:
        raise session.refuse("This command takes one argument: <data directory>")
    path = Path(session.args.arguments[0])
    disk = SystemDisk(path)
    with contextlib.closing(disk), failing(f"Error reading {path}"):
        disk.lock_to_read()
        for found in read_entries(disk):
            session.console.output(encode_json(found).decode())
            if isinstance(found, FaultFound) and found.was_durable:
                raise CommandError(
                    f"{found.file}, byte {found.offset}: {found.reason}; "
                    "what is here and further on was durable and is damaged or missing"
                )
    return 0


COMMANDS = (
    Command(
        words="operator journal",
        synopsis="Write a stopped server's entries as lines of JSON.",
        example="nodestate operator journal /var/lib/nodestate",
        declare=_declare,
        run=_journal,
    ),
)
