"""`python -m cluster up`: servers for a person to use, in the foreground until Ctrl-C.

The word `ready` is printed once and only when every server serves, so that a script can
wait for it. One lock per data directory says whether such a cluster is running.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from cluster.probe import ask_server, open_session, wait_for_leader
from cluster.servers import ServerFiles, ServerProcess, is_port_free, stop_all

SERVING_S: Final = 60.0
WATCH_S: Final = 0.25
LOCK_NAME: Final = "cluster.lock"
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

_NODE: Final = (
    '{"Node": {"ID": "4b1e4d5e-6a0c-4c53-9d5f-0f8d7f5a1c01",'
    ' "SecretID": "9f3c0a44-52a1-4f0e-8f0e-5a2a1f0b7c02", "Name": "first",'
    ' "Datacenter": "dc1", "Status": "ready", "Attributes": {"kernel.name": "linux"}}}'
)


class ClusterError(Exception):
    """Why the servers cannot be started, or did not stay; the text is for a person."""


def lock_path(servers: Sequence[ServerFiles]) -> Path:
    """Return the file that is locked while these servers are kept up."""
    return servers[0].data_dir.parent / LOCK_NAME


@contextlib.contextmanager
def hold_lock(servers: Sequence[ServerFiles]) -> Iterator[None]:
    """Be the only one who keeps these servers up."""
    path = lock_path(servers)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ClusterError(
                f"this cluster is already running, kept up by process {file.read().strip()}; "
                "`python -m cluster down` stops it"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def check_ports(servers: Sequence[ServerFiles]) -> None:
    """Raise `ClusterError` naming every port that somebody else has."""
    taken = [
        f"{address} ({use} of {files.name})"
        for files in servers
        for use, address in (("HTTP", files.http), ("peers", files.peer))
        if not is_port_free(address)
    ]
    if taken:
        raise ClusterError(
            f"port in use: {', '.join(taken)}; stop what listens there, or, if these "
            "are servers of this checkout that were left behind, `python -m cluster down`"
        )


def remove_data(servers: Sequence[ServerFiles]) -> None:
    """Forget everything that these servers ever knew."""
    for files in servers:
        if files.data_dir.exists():
            shutil.rmtree(files.data_dir)
        files.log_path.unlink(missing_ok=True)


def run_up(servers: Sequence[ServerFiles], *, fresh: bool) -> int:
    """Start the servers, keep them company, and return the exit code."""
    with hold_lock(servers):
        check_ports(servers)
        if fresh:
            remove_data(servers)
        return asyncio.run(_keep_up(servers))


async def _keep_up(servers: Sequence[ServerFiles]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    processes = [ServerProcess(files) for files in servers]
    try:
        for process in processes:
            process.start()
        async with open_session() as session, asyncio.TaskGroup() as group:
            company = group.create_task(_keep_company(session, processes))
            stopped = group.create_task(stop.wait())
            await asyncio.wait({company, stopped}, return_when=asyncio.FIRST_COMPLETED)
            company.cancel()
            stopped.cancel()
    except* ClusterError as group_error:
        raise group_error.exceptions[0] from None
    finally:
        _say("stopping")
        stop_all(processes)
    _report_strangers(servers)
    _say("stopped")
    return EXIT_OK


def _say(text: str) -> None:
    print(text, flush=True)


async def _keep_company(
    session: aiohttp.ClientSession, processes: Sequence[ServerProcess]
) -> None:
    """Say when the servers serve, and then what becomes of each."""
    servers = [process.files for process in processes]
    for files in servers:
        _say(f"starting {files.name}, log {files.shown(files.log_path)}")

    def check() -> None:
        for process in processes:
            if not process.is_running:
                raise ClusterError(_obituary(process))

    try:
        leader = await wait_for_leader(
            session, servers, within_s=SERVING_S, check=check
        )
    except TimeoutError as error:
        raise ClusterError(str(error)) from error
    _say(_greeting(servers, leader))
    await _watch(session, processes)


def _obituary(process: ServerProcess) -> str:
    code = process.exit_code
    assert code is not None
    how = (
        f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({code})"
    )
    log = process.files.shown(process.files.log_path)
    return f"{process.files.name} {how}; the last lines of {log}:\n{process.log_tail()}"


def _greeting(servers: Sequence[ServerFiles], leader: ServerFiles) -> str:
    first, last = servers[0], servers[-1]
    middle = servers[len(servers) // 2]
    program = first.shown(Path(sys.executable).with_name("nodestate"))
    lines = ["ready"]
    for files in servers:
        role = "leads" if files.name == leader.name else "follows"
        lines.append(f"  {files.url}  {files.name} {role}")
    lines += [
        "try, in another terminal:",
        f"  curl -X PUT {first.url}/v1/nodes -d '{_NODE}'",
        f"  curl '{middle.url}/v1/nodes?index=1&pretty'",
        f"  {program} node status -address={last.url}",
        "Ctrl-C stops all.",
    ]
    return "\n".join(lines)


async def _watch(
    session: aiohttp.ClientSession, processes: Sequence[ServerProcess]
) -> None:
    """Report each server that dies and each that answers again, until none is left."""
    living = {process.files.name: process for process in processes}
    dead: dict[str, ServerProcess] = {}
    while living or dead:
        await asyncio.sleep(WATCH_S)
        for name, process in list(living.items()):
            if not process.is_running:
                dead[name] = living.pop(name)
                _say(_obituary(process))
                _say(f"to start it again: {process.files.command_text}")
        if dead and not living:
            raise ClusterError("no server is left")
        for name, process in list(dead.items()):
            if (await ask_server(session, process.files)).is_serving:
                del dead[name]
                _say(f"{name} serves again, started by hand")
    await asyncio.Event().wait()


def _report_strangers(servers: Sequence[ServerFiles]) -> None:
    """Name the servers that were not started here, and so are not stopped here."""
    for files in servers:
        if not is_port_free(files.http):
            _say(
                f"{files.name} was started by hand and still runs;"
                " `python -m cluster down` stops it too"
            )
