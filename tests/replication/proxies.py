"""A relay between two servers that does to the bytes what a test tells it."""

import asyncio
from collections.abc import Callable
from typing import Final

HOST: Final = "127.0.0.1"
HEADER_BYTES: Final = 5

Edit = Callable[[bytes], list[bytes]]


def cut_records(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole records of TLS, and what is left."""
    records = []
    while len(data) >= HEADER_BYTES:
        length = HEADER_BYTES + int.from_bytes(data[3:HEADER_BYTES], "big")
        if len(data) < length:
            break
        records.append(data[:length])
        data = data[length:]
    return records, data


class Proxy:
    """Passes bytes on to a port: those of the dialling end record by record, edited.

    `recorded` is all that the dialling end has sent. An edit that returns `b""` among
    its records ends the connection there.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.edit: Edit = lambda record: [record]
        self.recorded = b""

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter
    ) -> None:
        far, to_far = await asyncio.open_connection(HOST, self._target)
        for pass_on in (self._edited(near, to_far), _unedited(far, to_near)):
            self._tasks.add(asyncio.create_task(pass_on))

    async def _edited(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        rest = b""
        try:
            while data := await source.read(1 << 16):
                self.recorded += data
                records, rest = cut_records(rest + data)
                for record in records:
                    for piece in self.edit(record):
                        if not piece:
                            return
                        sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


async def _unedited(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()
