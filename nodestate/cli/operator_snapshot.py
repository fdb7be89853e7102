"""`operator snapshot`: the cluster's whole state in a file."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.cli.tables import columns, pairs, size
from nodestate.model.encoding import encode_json

if TYPE_CHECKING:
    from nodestate.cli.snapshot_files import SnapshotFile


def _declare_save(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("stale", "what the server that is asked has, leader or not")
    flags.arguments("<file>")


async def _save(session: Session) -> int:
    path = _one_file(session)
    async with session.client() as client:
        with _replacing(path) as write, failing("Failed to get snapshot file"):
            await client.save_snapshot(write, stale=session.args.stale)
    session.console.output(f"State file written to {path}")
    return 0


def _declare_restore(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("force", "give up a restore that was begun before and has not ended")
    flags.arguments("<file>")


async def _restore(session: Session) -> int:
    path = _one_file(session)
    try:
        async with session.client() as client:
            with failing("Failed to restore snapshot"):
                await client.restore_snapshot(path, force=session.args.force)
    except OSError as error:
        raise CommandError(f"Error reading {path}: {error.strerror}") from error
    session.console.output("Snapshot Restored")
    return 0


def _declare_inspect(flags: Flags) -> None:
    flags.switch("json", "write what is found as JSON")
    flags.arguments("<file>")


def _inspect(session: Session) -> int:
    path, console = _one_file(session), session.console
    found = _read(path)
    if session.args.json:
        console.output(as_json(encode_json(_description(found))))
        return 0
    voters = ", ".join(m.server_id for m in found.members() if m.is_voter)
    learners = ", ".join(m.server_id for m in found.members() if not m.is_voter)
    rows = [
        ("ID", found.name),
        ("Size", size(found.byte_count)),
        ("Index", str(found.meta.index)),
        ("Term", str(found.meta.term)),
        ("Cluster", found.meta.cluster_id),
        ("Voters", voters),
        *([("Learners", learners)] if learners else []),
    ]
    console.output(pairs(rows))
    console.output("")
    table_rows = [["Table", "Count", "Size"]]
    table_rows += [[t.name, str(t.count), size(t.bytes)] for t in found.tables]
    total_bytes = sum(table.bytes for table in found.tables)
    total_count = sum(table.count for table in found.tables)
    table_rows.append(["Total", str(total_count), size(total_bytes)])
    console.output(columns(table_rows))
    return 0


def _description(found: "SnapshotFile") -> dict[str, object]:
    return {
        "ID": found.name,
        "Size": found.byte_count,
        "Index": found.meta.index,
        "Term": found.meta.term,
        "ClusterID": found.meta.cluster_id,
        "Members": [
            {"ID": m.server_id, "Address": m.peer_address, "Voter": m.is_voter}
            for m in found.members()
        ],
        "Tables": found.tables,
    }


def _declare_state(flags: Flags) -> None:
    flags.arguments("<file>")


def _state(session: Session) -> int:
    """Write each record as a line of JSON, which other tools can take apart."""
    for table, key, record in _read(_one_file(session)).records():
        line = encode_json({"Table": table, "Key": key, "Record": record})
        session.console.output(line.decode())
    return 0


def _read(path: Path) -> "SnapshotFile":
    # Every command loads this module, and only here is a server's file format needed.
    from nodestate.cli.snapshot_files import read_snapshot_file  # noqa: PLC0415  above

    try:
        with failing(f"Error reading {path}"):
            return read_snapshot_file(path)
    except OSError as error:
        raise CommandError(f"Error reading {path}: {error.strerror}") from error


def _one_file(session: Session) -> Path:
    if len(session.args.arguments) != 1:
        raise session.refuse("This command takes one argument: <file>")
    return Path(session.args.arguments[0])


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Callable[[bytes], int]]:
    """Yield how to write a file that takes the place of `path`, whole or not at all."""
    unfinished = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            unfinished = Path(file.name)
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        unfinished = None
        _sync_directory(path.parent)
    except OSError as error:
        raise CommandError(f"Error writing {path}: {error.strerror}") from error
    finally:
        if unfinished is not None:
            unfinished.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


COMMANDS = (
    Command(
        words="operator snapshot save",
        synopsis="Save the cluster's state to a file.",
        example="nodestate operator snapshot save backup.snap",
        declare=_declare_save,
        run=_save,
    ),
    Command(
        words="operator snapshot restore",
        synopsis="Put a snapshot file in place of the cluster's state.",
        example="nodestate operator snapshot restore backup.snap",
        declare=_declare_restore,
        run=_restore,
    ),
    Command(
        words="operator snapshot inspect",
        synopsis="Check a snapshot file, and show what is in it.",
        example="nodestate operator snapshot inspect backup.snap",
        declare=_declare_inspect,
        run=_inspect,
    ),
    Command(
        words="operator snapshot state",
        synopsis="Write the records of a snapshot file as lines of JSON.",
        example="nodestate operator snapshot state backup.snap",
        declare=_declare_state,
        run=_state,
    ),
)
