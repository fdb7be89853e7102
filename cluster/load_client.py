"""`python -m cluster.load_client`: a plan on standard input, figures on standard output.

Raw asyncio sockets and no HTTP library: it reads a status line and a length, and throws
the body away.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from cluster.load import LoadFigures, LoadPlan, Request
from nodestate.config import split_address


class _Tally:
    """What the connections of one run have seen together."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.refused = 0
        self.broken = 0


async def run_plan(plan: LoadPlan) -> LoadFigures:
    """Carry out a plan; a connection that breaks ends there and is counted."""
    tally = _Tally()
    prepared = [
        to_bytes(request, plan.address, plan.token) for request in plan.requests
    ]
    start = time.monotonic()
    end = float("inf") if plan.seconds is None else start + plan.seconds
    async with asyncio.TaskGroup() as group:
        for number in range(plan.connections):
            share = _share(prepared, number, plan)
            group.create_task(_ask_in_turn(plan.address, share, end, tally))
    return summarise(tally.latencies_s, tally.refused, tally.broken, start)


def _share(prepared: Sequence[bytes], number: int, plan: LoadPlan) -> Iterator[bytes]:
    """Give connection `number` every n-th request, over and over if there is a time."""
    share = prepared[number :: plan.connections] or list(prepared)
    if plan.seconds is None:
        return iter(prepared[number :: plan.connections])
    return itertools.cycle(share)


def to_bytes(request: Request, host: str, token: str = "") -> bytes:
    """Return the request as it goes over the wire."""
    body = request.body.encode()
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {host}\r\n"
    if token:
        head += f"X-Nomad-Token: {token}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _ask_in_turn(
    address: str, requests: Iterator[bytes], end: float, tally: _Tally
) -> None:
    host, port = split_address(address)
    try:
        reader, writer = await asyncio.open_connection(host, port)
        for request in requests:
            asked_at = time.monotonic()
            if asked_at > end:
                break
            writer.write(request)
            status = await _read_answer(reader)
            tally.latencies_s.append(time.monotonic() - asked_at)
            tally.refused += not 200 <= status < 300
        writer.close()
        await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        tally.broken += 1


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end, and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(content_length(head))
    return int(head[9:12])


def content_length(head: bytes) -> int:
    """Return the length that an answer's head announces."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without a length: {head!r}")


def summarise(
    latencies_s: list[float], refused: int, broken: int, start: float
) -> LoadFigures:
    """Return the figures of a run that has ended now."""
    seconds = time.monotonic() - start
    ordered = sorted(latencies_s) or [0.0]
    return LoadFigures(
        answers=len(latencies_s),
        refused=refused,
        broken=broken,
        seconds=seconds,
        p50_ms=ordered[len(ordered) // 2] * 1e3,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1e3,
        longest_ms=ordered[-1] * 1e3,
    )


def main() -> None:
    """Read a plan, run it, print what came of it."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan)
    print(msgspec.json.encode(asyncio.run(run_plan(plan))).decode())


if __name__ == "__main__":
    main()
