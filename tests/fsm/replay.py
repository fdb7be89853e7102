"""Apply entries from a file and print the state's digest: a process for test_hash_seeds.

The file holds a list of logs, each a list of encoded commands.
"""

import sys
from pathlib import Path

import msgspec

from nodestate.fsm import machine
from nodestate.fsm.snapshot import digest
from nodestate.model.command import Command
from nodestate.model.encoding import msgpack_decoder
from tests.fsm.invariants import FIRST_INDEX, worked_state

COMMANDS: msgspec.msgpack.Decoder[Command] = msgpack_decoder(Command)  # type: ignore[arg-type]


def digests(logs: list[list[bytes]]) -> list[str]:
    """Return what each log leads to."""
    return [digest_of(log) for log in logs]


def digest_of(log: list[bytes]) -> str:
    state = worked_state()
    for index, content in enumerate(log, FIRST_INDEX):
        machine.apply(state, index, COMMANDS.decode(content))
    return digest(state)


if __name__ == "__main__":
    logs = msgspec.msgpack.decode(
        Path(sys.argv[1]).read_bytes(), type=list[list[bytes]]
    )
    sys.stdout.write("\n".join(digests(logs)))
