"""Snapshots: written whole and verified, swapped in, loaded, sent and received.

A snapshot counts once its file has its name, and it has its name once every byte has
been read back from the disk and the disk has been synced. What goes wrong before that
leaves the older ones as they were.

A state is encoded and put together on the loop, in slices, and nothing takes longer
there: compressing, checking, writing and reading are done by the disk's thread.
"""

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from nodestate.clock import Clock
from nodestate.errors import JournalError, SnapshotError
from nodestate.fsm.pieces import StateLoader, encode_pieces
from nodestate.fsm.state import State
from nodestate.ports import Disk, SavedSnapshot, StagedFile
from nodestate.replication.snapshot_format import (
    OPENING_BYTES_MAX,
    SnapshotEncoder,
    SnapshotMeta,
    SnapshotScanner,
    decode_frame,
    decode_opening,
    parse_name,
    snapshot_name,
)

SLICE_S_MAX: Final = 0.005
"""After so long others have their turn. A piece more may be begun just before."""
SLICE_PIECES_MAX: Final = 8
"""The same where time stands still while something is computed."""
FRAME_BYTES: Final = 256 << 10
"""How much of a state is compressed at once."""
READ_BYTES: Final = 1 << 20
SNAPSHOT_BYTES_MAX: Final = 16 << 30
"""The largest file that is taken from elsewhere."""
FROZEN_NODES_MIN: Final = 10_000
RELEASED_AT_ONCE: Final = 200
"""How many records are let go of before others may have their turn."""
KEPT: Final = 2
NOT_KEPT: Final = "it is not kept"
ADVICE: Final = (
    "replace this server (remove it, and add one with an empty data directory), or, if a"
    " newer version wrote it, run that version"
)


class SnapshotInfo(SnapshotMeta, frozen=True, kw_only=True):
    """A snapshot that is durable here."""

    byte_count: int
    name: str


class _Slices:
    """Lets others have their turn, often enough."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._began_s = self._clock.monotonic_s()
        self._count = 0

    async def pause_if_due(self) -> None:
        """Call this after each piece of work."""
        self._count += 1
        elapsed_s = self._clock.monotonic_s() - self._began_s
        if elapsed_s >= SLICE_S_MAX or self._count >= SLICE_PIECES_MAX:
            await self._clock.sleep(0)
            self._begin()


class SnapshotStore:
    """The snapshots of one server. What fails is a `SnapshotError` or a `JournalError`."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        """`disk` must be locked: what is on it is looked up here."""
        self._disk = disk
        self._clock = clock
        self._names = sorted(filter(parse_name, disk.names()), key=_order)
        self._infos: dict[str, SnapshotInfo] = {}

    def newest(self) -> SnapshotInfo | None:
        """Return the one that ends last, `None` if there is none.

        It is found by its name. If its header cannot be read that is an error, and never
        an older one or none in its place: the log may begin behind it.
        """
        return self._info_of(self._names[-1]) if self._names else None

    async def write(self, meta: SnapshotMeta, state: State) -> SnapshotInfo:
        """Return once it is durable and verified; `state` must not change meanwhile."""
        name = snapshot_name(meta.index, meta.term)
        if name in self._names:
            # Entries decide what is in it, and a peer may be reading this very file.
            return self._info_of(name)
        staged = self._disk.stage_file(name)
        try:
            byte_count = await self._append(staged, meta, state)
            await staged.sync()
            with _naming(name, NOT_KEPT):
                written = await self._scan(staged.read, meta)
            return await self._keep(staged, written, byte_count)
        except BaseException:
            staged.abandon()
            raise

    async def load(self, info: SnapshotInfo) -> State:
        """Return the state in it, put together in slices while others have their turn."""

        async def read(offset: int, length: int) -> bytes:
            return await self._disk.read_piece(info.name, offset, length)

        with _naming(info.name, ADVICE):
            _, state = await self._scan_and_load(read, info)
        return state

    def load_now(self, info: SnapshotInfo) -> State:
        """Do the same at once, holding up the loop: for start-up only."""
        with _naming(info.name, ADVICE), _collector_off():
            content = self._disk.read_file(info.name)
            if content is None:
                raise SnapshotError("it is gone")
            scanner = SnapshotScanner()
            loader = StateLoader()
            for payload in scanner.feed(content):
                for piece in decode_frame(payload):
                    loader.feed(piece)
            _check_identity(scanner.finish(), info)
            return loader.finish()

    def receive(self, index: int, term: int, byte_count: int) -> "Receiving":
        """Begin a file that comes from elsewhere."""
        name = snapshot_name(index, term)
        if byte_count > SNAPSHOT_BYTES_MAX:
            raise SnapshotError(
                f"{name} has {byte_count} bytes, at most {SNAPSHOT_BYTES_MAX} are taken"
            )
        staged = self._disk.stage_file(name)

        async def seal() -> tuple[SnapshotInfo, State]:
            await staged.sync()
            # Loaded before it is kept: from here on a restart would have to load it, and
            # one that only a newer version can read must not stop an older server.
            with _naming(name, NOT_KEPT):
                meta, state = await self._scan_and_load(
                    staged.read, SnapshotMeta(index=index, term=term)
                )
            return await self._keep(staged, meta, byte_count), state

        return Receiving(staged, byte_count, seal)

    async def read_piece(
        self, info: SnapshotInfo | SavedSnapshot, offset: int, length: int
    ) -> bytes:
        """Return a part of its file; `SnapshotError` if that has been removed."""
        if info.name not in self._names:
            raise SnapshotError(f"{info.name} is gone: newer ones have taken its place")
        try:
            return await self._disk.read_piece(info.name, offset, length)
        except JournalError as error:
            raise SnapshotError(str(error)) from error

    async def prune(self, keep: int = KEPT) -> None:
        """Remove all but the newest ones; one stays whatever is asked."""
        for name in self._names[: -max(keep, 1)]:
            await self._disk.discard_file(name)
            self._infos.pop(name, None)
            if name in self._names:
                self._names.remove(name)

    async def _append(
        self, staged: StagedFile, meta: SnapshotMeta, state: State
    ) -> int:
        """Write all of the file, and return its length."""
        encoder = SnapshotEncoder()
        slices = _Slices(self._clock)
        pieces: list[bytes] = []
        await staged.append(encoder.opening(meta))
        for piece in encode_pieces(state):
            if piece:
                pieces.append(piece)
            if sum(map(len, pieces)) >= FRAME_BYTES:
                await self._append_frame(staged, encoder, pieces)
                pieces = []
            await slices.pause_if_due()
        if pieces:
            await self._append_frame(staged, encoder, pieces)
        await staged.append(encoder.footer())
        return encoder.byte_count

    async def _append_frame(
        self, staged: StagedFile, encoder: SnapshotEncoder, pieces: list[bytes]
    ) -> None:
        frame = await self._disk.compute(lambda: encoder.frame(pieces))
        await staged.append(frame)

    async def _keep(
        self, staged: StagedFile, meta: SnapshotMeta, byte_count: int
    ) -> SnapshotInfo:
        """Give a file its name, now that the disk has been seen to have all of it."""
        await staged.finish()
        info = _info(meta, byte_count)
        if info.name not in self._names:
            self._names.append(info.name)
            self._names.sort(key=_order)
        self._infos[info.name] = info
        return info

    async def _scan_and_load(
        self, read: Callable[[int, int], Awaitable[bytes]], wanted: SnapshotMeta
    ) -> tuple[SnapshotMeta, State]:
        """Return the header and the state of a file, if all of it fits together."""
        loader = StateLoader()
        slices = _Slices(self._clock)

        async def use(payload: bytes) -> None:
            for piece in await self._disk.compute(lambda: decode_frame(payload)):
                loader.feed(piece)
                await slices.pause_if_due()

        with _collector_off():
            meta = await self._scan(read, wanted, use)
            state = loader.finish()
            if len(state.nodes) >= FROZEN_NODES_MIN:
                # Else the collector, once it is on again, looks at all of it at once.
                gc.freeze()
        return meta, state

    async def _scan(
        self,
        read: Callable[[int, int], Awaitable[bytes]],
        wanted: SnapshotMeta,
        use: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> SnapshotMeta:
        """Hand on each frame of a file; return its header if all of it fits together."""
        scanner = SnapshotScanner()
        offset = 0
        while data := await read(offset, READ_BYTES):
            offset += len(data)
            for payload in await self._disk.compute(partial(scanner.feed, data)):
                if use is not None:
                    await use(payload)
        meta = scanner.finish()
        _check_identity(meta, wanted)
        return meta

    def _info_of(self, name: str) -> SnapshotInfo:
        info = self._infos.get(name)
        if info is None:
            with _naming(name, ADVICE):
                info = self._infos[name] = self._read_info(name)
        return info

    def _read_info(self, name: str) -> SnapshotInfo:
        file = self._disk.open_file(name)
        try:
            meta = decode_opening(file.read(0, OPENING_BYTES_MAX))
            byte_count = file.size()
        finally:
            file.close()
        info = _info(meta, byte_count)
        if info.name != name:
            raise SnapshotError(
                f"it is the one of entry {meta.index}, term {meta.term}"
            )
        return info


async def release(state: State, clock: Clock) -> None:
    """Let go of a large state in slices: all its records at once would take too long.

    Whoever has a record keeps it. `state` itself must not be used any more, by anyone.
    """
    slices = _Slices(clock)
    for table in (state.nodes, state.allocations, state.evaluations):
        while table:
            for _ in range(min(RELEASED_AT_ONCE, len(table))):
                table.popitem()
            await slices.pause_if_due()


class Receiving:
    """A snapshot that comes from elsewhere, in slices; nothing of it shows until the end.

    After an error only `abandon` is left.
    """

    def __init__(
        self,
        staged: StagedFile,
        byte_count: int,
        seal: Callable[[], Awaitable[tuple[SnapshotInfo, State]]],
    ) -> None:
        self._staged = staged
        self._byte_count = byte_count
        self._received_bytes = 0
        self._seal = seal

    async def add(self, offset: int, data: bytes) -> None:
        """Write what comes next; `SnapshotError` if this is something else."""
        if offset != self._received_bytes:
            raise SnapshotError(
                f"bytes from {offset} on, where {self._received_bytes} comes next"
            )
        end = offset + len(data)
        if end > self._byte_count:
            raise SnapshotError(f"{end} bytes of {self._byte_count}")
        self._received_bytes = end
        await self._staged.append(data)

    async def finish(self) -> tuple[SnapshotInfo, State]:
        """Return it and its state once all of it is verified, loaded and durable."""
        if self._received_bytes != self._byte_count:
            raise SnapshotError(f"{self._received_bytes} bytes of {self._byte_count}")
        return await self._seal()

    def abandon(self) -> None:
        """Remove what there is; harmless after `finish`."""
        self._staged.abandon()


def _info(meta: SnapshotMeta, byte_count: int) -> SnapshotInfo:
    return SnapshotInfo(
        index=meta.index,
        term=meta.term,
        configuration=meta.configuration,
        configuration_index=meta.configuration_index,
        cluster_id=meta.cluster_id,
        byte_count=byte_count,
        name=snapshot_name(meta.index, meta.term),
    )


def _order(name: str) -> tuple[int, int]:
    found = parse_name(name)
    assert found is not None
    return found


def _check_identity(meta: SnapshotMeta, wanted: SnapshotMeta) -> None:
    if (meta.index, meta.term) != (wanted.index, wanted.term):
        raise SnapshotError(f"it is the one of entry {meta.index}, term {meta.term}")


@contextmanager
def _naming(name: str, consequence: str) -> Iterator[None]:
    """Say in every error which file it is about, and what follows from it."""
    try:
        yield
    except SnapshotError as error:
        raise SnapshotError(
            f"snapshot {name} cannot be used: {error}; {consequence}"
        ) from error


@contextmanager
def _collector_off() -> Iterator[None]:
    """Keep the collector from looking through a state that only grows, again and again.

    What else is garbage meanwhile, with others having their turn, waits for seconds.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
