"""A journal on a disk in memory, with its writer, as the tests of this room use it."""

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster.simulation.disk import MemoryDisk
from nodestate.errors import CorruptRecordError
from nodestate.ports import Disk
from nodestate.replication.journal import Journal
from nodestate.replication.records import Entry, LogBase
from nodestate.replication.recovery import recover
from tests.fakes import FakeClock, FakeMetrics

SEGMENT_BYTES = 2048
# What version 1 of the format wrote, compressed: see `old_journal`.
OLD_JOURNAL = {
    "journal-00000001.log": (
        "c-s4zR~*z?A*CtHz`(%BfCd<m1a(=^BtHUmeh}z>A^>EwplfA<nNXZsRF+y~2vYp&z#aAqkQ@^"
        "hYmhbN=cE|w(E)%QwQ4<+GT2efXpUgQbd(Xj9JNCI#eA@%U}4UTMk6`Om|l+Z3N{x2JBk%*ISU"
        "$%<R}w*IqLF0VJEPo*r1lPqR~i>GNqTJ=3Sat4|Wtg)N(d78p%;+^m0`7H1j*)fPp!Roq=Qk0B"
        "f(Gwg"
    ),
    "journal-00000002.log": (
        "c-s4zR~&RBeeo_81_lO3b_NK5(TqUM1Z7WUfzU8MV{vLxS!$8tN1y>QXOD1IfaEyP41m!vP5C("
        "~=6ZAhAV*m_dR_oKiW6!%2O5p!C<}TyO6U%^1IT`6E~w?`jsq$3es=M*Fvx-2I218M>Aci(kov"
        "_ZS=7MldC=5zVpq>1eew@jJujL%F6`>R-)2}2Qo_QA!(6bdA9bC4)d4b<A1Vk_&5foyH@_%#AT"
        "Y?0ieZU8U`Gm|Ig)1(Ir5?w`wXxn1<@SIJBS?l=(pMgkQ-QGj)c)v003@h{!R"
    ),
    "journal-00000003.log": (
        "c-s4zR~+=SM#Ef|fq{WhkO2Z<G$Rl*L)lANAT*56@DZqUh5OCu4j`LJ2u&v+1FGuW{G!x>z#vC"
        "DG%uS1asw;OkuZ7`jDk@x1ONb0RY5W"
    ),
}


def open_journal(
    disk: Disk, segment_bytes: int = SEGMENT_BYTES, snapshot: LogBase | None = None
) -> Journal:
    return Journal.open(
        disk,
        snapshot=snapshot,
        segment_bytes=segment_bytes,
        clock=FakeClock(),
        metrics=FakeMetrics(),
    )


def old_journal() -> MemoryDisk:
    """Return a disk with three segments as the first release left them.

    In the first, term 2 with a vote for server1, and entries 1 to 6 of term 2; in the
    second 7, and an 8 that was replaced, 8 to 13 of term 3, and term 3 with no vote; in
    the third, 14.
    """
    disk = MemoryDisk()
    for name, packed in OLD_JOURNAL.items():
        disk.put_file(name, zlib.decompress(base64.b85decode(packed)))
    return disk


def entries(
    first: int, count: int, *, term: int = 1, body: bytes = b"b"
) -> list[Entry]:
    return [Entry(body, index, term) for index in range(first, first + count)]


def contents(journal: Journal) -> tuple[int, str | None, tuple[Entry, ...]]:
    """Return everything that a journal is there to keep."""
    kept = journal.entries_from(journal.first_index(), 1 << 40)
    return journal.term(), journal.voted_for(), kept


@asynccontextmanager
async def writing(journal: Journal) -> AsyncIterator[asyncio.Task[None]]:
    """Run the journal's writer; an error of its own is left in the task."""
    task = asyncio.create_task(journal.run(lambda: None))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


TURNS_MAX = 1000


async def flush(journal: Journal, position: int | None = None) -> None:
    """Return when that change, or the last one, is durable."""
    wanted = journal.position() if position is None else position
    for _ in range(TURNS_MAX):
        if journal.durable_position() >= wanted:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"position {wanted} did not become durable")


async def written(disk: MemoryDisk, *rounds: list[Entry]) -> None:
    """Have a journal with one sync for each round of entries, and stop its server."""
    journal = open_journal(disk)
    async with writing(journal):
        for entries_of_round in rounds:
            journal.append(entries_of_round)
            await flush(journal)
    journal.close()
    disk.kill()


def file_contents(disk: MemoryDisk) -> dict[str, bytes | None]:
    return {name: disk.read_file(name) for name in disk.names()}


def with_files(files: dict[str, bytes | None]) -> MemoryDisk:
    disk = MemoryDisk()
    for name, data in files.items():
        disk.put_file(name, data or b"")
    return disk


def refuses(disk: MemoryDisk, snapshot: LogBase | None = None) -> str:
    """Return the text of the refusal, which must not have changed a byte."""
    before = file_contents(disk)
    with pytest.raises(CorruptRecordError) as error:
        recover(disk, snapshot)
    assert file_contents(disk) == before
    return str(error.value)
