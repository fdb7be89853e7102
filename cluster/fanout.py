"""`python -m cluster.fanout`: many watchers of one thing, one write, and the time between.

A process of its own with plain sockets: it reads heads and counts bytes into one shared
buffer, so that what is measured is the server and not this client. The clock starts when
the write is sent and stops when the last watcher has its whole answer.
"""

import contextlib
import selectors
import socket
import sys
import time
from typing import Final

import msgspec

from cluster.load import Request
from cluster.load_client import content_length, to_bytes
from nodestate.config import split_address

BUFFER_BYTES: Final = 1 << 20
HEAD_BYTES_MAX: Final = 16 << 10
ANSWER_S_MAX: Final = 120.0


class FanoutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to watch through, what, how often, and the write that wakes everybody.

    After `settle_s` all watchers are taken to wait; one that was answered by then makes
    the run void.
    """

    watch_address: str
    write_address: str
    watchers: int
    watch: Request
    write: Request
    settle_s: float


class FanoutFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the write to its own answer, the first and the last watcher's."""

    write_s: float
    first_s: float
    last_s: float
    answer_bytes: int


class _Watcher:
    """One connection that waits for one answer."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address)
        self.socket.sendall(request)
        self._head = b""
        self._missing: int | None = None
        self.received_bytes = 0

    def take(self, buffer: memoryview) -> bool:
        """Read what is there; say whether the answer is complete."""
        count = self.socket.recv_into(buffer)
        if count == 0:
            raise ConnectionError("a watcher's connection was closed")
        self.received_bytes += count
        if self._missing is None:
            self._head += bytes(buffer[:count])
            head, found, rest = self._head.partition(b"\r\n\r\n")
            if not found:
                assert len(self._head) < HEAD_BYTES_MAX, "an endless head"
                return False
            if head[9:12] != b"200":
                raise ConnectionError(f"a watcher was answered {head[:80]!r}")
            self._missing = content_length(head) - len(rest)
            self._head = b""
        else:
            self._missing -= count
        return self._missing == 0


def run_fanout(plan: FanoutPlan) -> FanoutFigures:
    """Open the watchers, write, and wait for all of them."""
    address = split_address(plan.watch_address)
    request = to_bytes(plan.watch, plan.watch_address)
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(plan.watchers):
            watcher = _Watcher(address, request)
            stack.enter_context(watcher.socket)
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
        time.sleep(plan.settle_s)
        if selector.select(0):
            raise ConnectionError("a watcher was answered before anything was written")
        writer = socket.create_connection(split_address(plan.write_address))
        stack.enter_context(writer)
        start = time.monotonic()
        writer.sendall(to_bytes(plan.write, plan.write_address))
        selector.register(writer, selectors.EVENT_READ, None)
        return _collect(selector, plan.watchers, start)


def _collect(
    selector: selectors.BaseSelector, watchers: int, start: float
) -> FanoutFigures:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    first_s = write_s = 0.0
    answer_bytes = 0
    while watchers or not write_s:
        ready = selector.select(ANSWER_S_MAX)
        if not ready:
            raise TimeoutError(f"{watchers} watchers have no answer")
        for key, _ in ready:
            if key.data is None:
                write_s = time.monotonic() - start
                selector.unregister(key.fileobj)
            elif key.data.take(buffer):
                selector.unregister(key.fileobj)
                watchers -= 1
                first_s = first_s or time.monotonic() - start
                answer_bytes = key.data.received_bytes
    return FanoutFigures(
        write_s=write_s,
        first_s=first_s,
        last_s=time.monotonic() - start,
        answer_bytes=answer_bytes,
    )


def main() -> None:
    """Read a plan, run it, print what came of it."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=FanoutPlan)
    print(msgspec.json.encode(run_fanout(plan)).decode())


if __name__ == "__main__":
    main()
