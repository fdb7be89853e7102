"""`python -m cluster down` and `status`: a second terminal looks at the same cluster."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cluster.probe import ask_all, open_session
from cluster.servers import STOP_S, ServerFiles
from cluster.up import EXIT_FAILED, EXIT_OK, lock_path

POLL_S: Final = 0.05
# The keeper itself waits up to `STOP_S` for its servers.
KEEPER_S: Final = STOP_S + 5.0
PROC: Final = Path("/proc")


def run_down(servers: Sequence[ServerFiles]) -> int:
    """Stop the cluster: its keeper with its servers, then whatever else still runs."""
    keeper = find_keeper(servers)
    if keeper is not None:
        os.kill(keeper, signal.SIGTERM)
        if not _wait(lambda: find_keeper(servers) is None, KEEPER_S):
            print(f"process {keeper} does not stop its servers within {KEEPER_S:g} s")
            return EXIT_FAILED
    # Started by hand, as after a kill, or orphaned by a keeper that was killed.
    left_behind = find_servers(servers)
    for name, pid in left_behind.items():
        print(f"stopping {name}, process {pid}, left behind")
        os.kill(pid, signal.SIGTERM)
    if not _wait(lambda: not find_servers(servers), STOP_S):
        for pid in find_servers(servers).values():
            os.kill(pid, signal.SIGKILL)
    print("not running" if keeper is None and not left_behind else "stopped")
    return EXIT_OK


def _wait(is_done: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not is_done():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def find_keeper(servers: Sequence[ServerFiles]) -> int | None:
    """Return the process that keeps these servers up, if one does."""
    path = lock_path(servers)
    if not path.exists():
        return None
    with path.open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    return None


def find_servers(servers: Sequence[ServerFiles]) -> dict[str, int]:
    """Return the processes that run with these configuration files, where /proc tells."""
    names = {str(files.config_path.resolve()): files.name for files in servers}
    found: dict[str, int] = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            directory = (entry / "cwd").readlink()
        except (OSError, UnicodeDecodeError):
            continue
        if "agent" not in arguments:
            continue
        for argument in arguments:
            name = names.get(str((directory / argument).resolve()))
            if name is not None and argument.endswith(".toml"):
                found[name] = int(entry.name)
    return found


def run_status(servers: Sequence[ServerFiles]) -> int:
    """Print a line for each server; the exit code says whether all of them serve."""
    return asyncio.run(_status(servers))


async def _status(servers: Sequence[ServerFiles]) -> int:
    async with open_session() as session:
        answers = await ask_all(session, servers)
    for files, answer in zip(servers, answers, strict=True):
        state = answer.problem or (
            "leads" if answer.leader == files.peer else f"follows {answer.leader}"
        )
        print(f"{files.name}  {files.url}  {state}")
    return EXIT_OK if all(answer.is_serving for answer in answers) else EXIT_FAILED
