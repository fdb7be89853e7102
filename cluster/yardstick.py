"""A yardstick: how fast a bare aiohttp server is on this machine, at this moment.

`python -m cluster.yardstick BYTES` answers every request with a body of that size, with
nothing behind it, and prints its address. Machines differ, and one machine differs from
hour to hour: a figure means something beside what the same library did with nothing to
do in the same run.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import uvloop
from aiohttp import web

STOP_S_MAX: Final = 10.0


@contextlib.contextmanager
def running_yardstick(body_bytes: int) -> Iterator[str]:
    """Run the bare server in a process of its own; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster.yardstick", str(body_bytes)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(STOP_S_MAX)


async def _serve(body: bytes) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    loop = asyncio.get_running_loop()
    server = web.Server(answer, access_log=None)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(b"x" * int(sys.argv[1])))
