"""Tokens, policies and roles as a person reads them, in Nomad's words."""

from collections.abc import Sequence
from typing import Final

from nodestate.cli.flags import Flags
from nodestate.cli.session import Console, Session, as_json
from nodestate.cli.tables import NONE, columns, pairs, yes_no
from nodestate.client_acl import Token
from nodestate.model.acl import ACLPolicy, ACLRole
from nodestate.model.encoding import encode_json
from nodestate.model.timestamp import format_rfc3339

_ZERO_TIME: Final = "0001-01-01 00:00:00 +0000 UTC"
_MANAGEMENT: Final = "management"


def declare_json(flags: Flags) -> None:
    """Declare the flag of every command that shows something."""
    flags.switch("json", "write the server's answer")


def go_time(ns: int) -> str:
    """Write a point in time as Go prints one: `2006-01-02 15:04:05.999 +0000 UTC`."""
    text = format_rfc3339(ns)
    return f"{text[:-1].replace('T', ' ')} +0000 UTC" if text else _ZERO_TIME


def one_of(session: Session, noun: str) -> str:
    """Return the only argument."""
    arguments = session.args.arguments
    if len(arguments) != 1:
        raise session.refuse(f"This command takes one argument: <{noun}>")
    return str(arguments[0])


def refuse_arguments(session: Session) -> None:
    """Refuse arguments of a command that takes none."""
    if session.args.arguments:
        raise session.refuse("This command takes no arguments")


def show_token(session: Session, token: Token) -> None:
    """Write a token, with its secret: whoever asked for it may have it."""
    console = session.console
    if session.args.json:
        console.output(as_json(encode_json(token)))
        return
    rows = [
        ("Accessor ID", token.accessor_id),
        ("Secret ID", token.secret_id),
        ("Name", token.name),
        ("Type", token.type),
        ("Global", yes_no(token.is_global)),
        ("Create Time", go_time(token.create_time.ns)),
        ("Expiry Time", _expiry(token)),
        ("Create Index", str(token.create_index)),
        ("Modify Index", str(token.modify_index)),
    ]
    if token.type == _MANAGEMENT:
        console.output(pairs([*rows, ("Policies", "n/a"), ("Roles", "n/a")]))
        return
    policies = " ".join(token.policies or ())
    console.output(pairs([*rows, ("Policies", f"[{policies}]")]))
    links = [["ID", "Name"], *([link.id, link.name] for link in token.roles or ())]
    console.output(f"\nRoles\n{columns(links) if token.roles else NONE}")


def _expiry(token: Token) -> str:
    return go_time(token.expiration_time.ns) if token.expiration_time.ns else NONE


def show_tokens(console: Console, tokens: Sequence[Token], now_ns: int) -> None:
    """Write a list of tokens, and nothing for none."""
    if not tokens:
        return
    rows = [["Name", "Type", "Global", "Accessor ID", "Expired"]]
    rows += [
        [
            token.name,
            token.type,
            yes_no(token.is_global),
            token.accessor_id,
            yes_no(token.is_expired(now_ns)),
        ]
        for token in tokens
    ]
    console.output(columns(rows))


def show_policy(session: Session, policy: ACLPolicy) -> None:
    """Write a policy with its rules."""
    console = session.console
    rows = [
        ("Name", policy.name),
        ("Description", policy.description),
        ("CreateIndex", str(policy.create_index)),
        ("ModifyIndex", str(policy.modify_index)),
    ]
    console.output(pairs(rows))
    console.heading("Rules")
    console.output(f"\n{printable(policy.rules)}")


def printable(text: str) -> str:
    """Let nobody who writes a policy write to the terminal of whoever reads it."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\ufffd"
        for letter in text
    )


def show_policies(console: Console, policies: Sequence[ACLPolicy]) -> None:
    """Write a list of policies."""
    if not policies:
        console.output("No policies found")
        return
    rows = [["Name", "Description"]]
    rows += [[policy.name, policy.description] for policy in policies]
    console.output(columns(rows))


def show_role(session: Session, role: ACLRole) -> None:
    """Write a role."""
    if session.args.json:
        session.console.output(as_json(encode_json(role)))
        return
    rows = [
        ("ID", role.id),
        ("Name", role.name),
        ("Description", role.description),
        ("Policies", _policies_of(role)),
        ("Create Index", str(role.create_index)),
        ("Modify Index", str(role.modify_index)),
    ]
    session.console.output(pairs(rows))


def show_roles(console: Console, roles: Sequence[ACLRole]) -> None:
    """Write a list of roles."""
    if not roles:
        console.output("No ACL roles found")
        return
    rows = [["ID", "Name", "Description", "Policies"]]
    rows += [
        [role.id, role.name, role.description, _policies_of(role)] for role in roles
    ]
    console.output(columns(rows))


def _policies_of(role: ACLRole) -> str:
    return ",".join(link.name for link in role.policies)
