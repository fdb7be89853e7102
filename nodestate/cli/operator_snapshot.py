"""`operator snapshot`: the cluster's whole state in a file."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    declare_connection,
    failing,
)


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
)
