"""A state with a record in every table, every field of a node among them."""

from nodestate.fsm import machine
from nodestate.fsm.state import State
from nodestate.model.command import Command, Restoring
from nodestate.model.request import IdempotencyKey, Origin, Request
from tests.fsm.acls import acl_commands
from tests.fsm.entries import N1, N2, drain, evaluate, register, registration
from tests.fsm.test_golden import commands
from tests.fsm.work import Working, work


def full_state() -> State:
    """Return a state made by entries alone, but for jobs and allocations."""
    log = Working()
    log.put_system_job()
    log.put_allocation()
    for made in commands():
        if not isinstance(made, Restoring):
            log.apply(made)
    for made in work(log):
        log.apply(made)
    for made in acl_commands(log):
        log.apply(made)
    requests: list[tuple[Command, str, str]] = [
        (register(registration(N1), registration(N2)), "", "boot"),
        (drain(node_key=N2), "key", "boot"),
        (evaluate(N1), "another", "later"),
    ]
    for index, (command, key, boot_id) in enumerate(requests, 5000):
        machine.apply(log.state, index, command, _request(index, key, boot_id))
    return log.state


def _request(sequence: int, key: str, boot_id: str) -> Request:
    idempotency = IdempotencyKey(key, b"f" * 32) if key else None
    return Request(Origin("A", boot_id, sequence), 1, idempotency)
