"""The faults F1 to F22 as the stock package has them, each played on the package itself.

Run as a module it prints, for each fault, what came of it; `faults.py` says what that
has to be.
"""

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.replication import (
    stock_schedules_log as log,
    stock_schedules_parts as parts,
)
from tests.replication.stock_cluster import Facts

SCHEDULES: Final[dict[str, Callable[[Path], Facts]]] = {
    "F1": log.cut_acknowledged_entries,
    "F2": log.commit_an_own_tail,
    "F3": log.count_an_old_acknowledgement,
    "F4": parts.lose_the_tail_in_a_compaction,
    "F5": parts.sync_nothing,
    "F6": log.forget_a_vote,
    "F7": parts.acknowledge_a_failed_install,
    "F8": parts.lead_with_an_empty_state,
    "F9": parts.apply_twice,
    "F10": parts.run_a_pickle,
    "F11": log.be_ready_with_nothing,
    "F12": log.count_a_vote_twice,
    "F13": parts.deny_what_is_committed,
    "F14": parts.choke_on_an_entry,
    "F15": log.never_find_the_place,
    "F16": parts.end_at_4_gib,
    "F17": parts.name_a_half_dump,
    "F18": log.depose_a_healthy_leader,
    "F19": log.believe_a_commit_index,
    "F20": parts.send_all_of_it_unanswered,
    "F21": log.cut_an_entry_wrongly,
    "F22": log.ignore_a_member,
}


def main(faults: list[str]) -> None:
    """Play the schedules of these faults, or all, and print what came of them."""
    logging.disable()
    found = {}
    for fault in faults or list(SCHEDULES):
        folder = Path(tempfile.mkdtemp())
        try:
            found[fault] = SCHEDULES[fault](folder)
        finally:
            shutil.rmtree(folder)
    print(json.dumps(found))  # noqa: T201  that is what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
