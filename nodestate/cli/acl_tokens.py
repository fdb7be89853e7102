"""`acl bootstrap` and `acl token`: create, info, self, list, update, delete."""

import argparse
from pathlib import Path
from typing import Final

from nodestate.cli.acl_views import (
    declare_json,
    one_of,
    refuse_arguments,
    show_token,
    show_tokens,
)
from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client_acl import TokenSpec
from nodestate.model.acl import CLIENT, RoleLink

STANDARD_INPUT: Final = "-"


def _declare_bootstrap(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("[<path>]")


def _declare_create(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    _declare_fields(flags, default_type=CLIENT)
    flags.switch("global", "say that it is for all regions")
    flags.value("ttl", "<duration>", "how long it is good for, such as 8h", default="")
    flags.arguments("")


def _declare_update(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    _declare_fields(flags, default_type="")
    flags.arguments("<accessor id>")


def _declare_fields(flags: Flags, *, default_type: str) -> None:
    flags.value("name", "<name>", "a name for people", default="")
    flags.value("type", "<type>", "client or management", default=default_type)
    flags.texts("policy", "name of a policy; may be given many times")
    flags.texts("role-id", "id of a role; may be given many times")
    flags.texts("role-name", "name of a role; may be given many times")


def _declare_one(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("<accessor id>")


def _declare_none(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("")


def _declare_delete(flags: Flags) -> None:
    declare_connection(flags)
    flags.arguments("<accessor id>")


async def _bootstrap(session: Session) -> int:
    secret = _chosen_secret(session)
    async with session.client() as client:
        with failing("Error bootstrapping"):
            token = await client.bootstrap_acl(secret)
    show_token(session, token)
    return 0


def _chosen_secret(session: Session) -> str:
    """Return the secret of a file, nothing where the server is to make one."""
    arguments = session.args.arguments
    if not arguments:
        return ""
    if len(arguments) > 1:
        raise session.refuse("This command takes at most one argument: <path>")
    (path,) = arguments
    if path == STANDARD_INPUT:
        return session.console.read_all().strip()
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Error reading bootstrap token: {error}") from error


async def _create(session: Session) -> int:
    refuse_arguments(session)
    args = session.args
    spec = TokenSpec(
        name=args.name,
        type=args.type,
        policies=args.policy,
        roles=_roles(args),
        is_global=getattr(args, "global"),
        expiration_ttl=args.ttl,
    )
    async with session.client() as client:
        with failing("Error creating token"):
            token = await client.create_acl_token(
                spec, idempotency_key=session.ids.new_id()
            )
    show_token(session, token)
    return 0


def _roles(args: argparse.Namespace) -> list[RoleLink]:
    return [
        *(RoleLink(id=id_) for id_ in args.role_id),
        *(RoleLink(name=name) for name in args.role_name),
    ]


async def _update(session: Session) -> int:
    accessor_id = one_of(session, "accessor id")
    args = session.args
    async with session.client() as client:
        with failing("Error fetching token"):
            known = (await client.acl_token(accessor_id)).value
        spec = TokenSpec(
            accessor_id=known.accessor_id,
            name=args.name or known.name,
            type=args.type or known.type,
            policies=args.policy or known.policies or (),
            roles=_roles(args) or known.roles or (),
            is_global=known.is_global,
        )
        with failing("Error updating token"):
            token = await client.update_acl_token(spec)
    show_token(session, token)
    return 0


async def _info(session: Session) -> int:
    accessor_id = one_of(session, "accessor id")
    async with session.client() as client:
        with failing("Error fetching token"):
            token = (await client.acl_token(accessor_id)).value
    show_token(session, token)
    return 0


async def _self(session: Session) -> int:
    refuse_arguments(session)
    async with session.client() as client:
        with failing("Error fetching self token"):
            token = (await client.own_acl_token()).value
    show_token(session, token)
    return 0


async def _list(session: Session) -> int:
    refuse_arguments(session)
    async with session.client() as client:
        with failing("Error listing tokens"):
            read = await client.acl_tokens()
    if session.args.json:
        session.console.output(as_json(read.body))
    else:
        show_tokens(session.console, read.value, session.clock.now_ns())
    return 0


async def _delete(session: Session) -> int:
    accessor_id = one_of(session, "accessor id")
    async with session.client() as client:
        with failing("Error deleting token"):
            await client.delete_acl_token(accessor_id)
    session.console.output(f"Token {accessor_id} successfully deleted")
    return 0


COMMANDS = (
    Command(
        words="acl bootstrap",
        synopsis="Make the first token, which may do everything; its secret is made too, "
        "or read from a file, or - for what is piped in.",
        example="nodestate acl bootstrap",
        declare=_declare_bootstrap,
        run=_bootstrap,
    ),
    Command(
        words="acl token create",
        synopsis="Make a token.",
        example="nodestate acl token create -name ops -policy node-admin -ttl 8h",
        declare=_declare_create,
        run=_create,
    ),
    Command(
        words="acl token info",
        synopsis="Show a token, its secret too.",
        example="nodestate acl token info 3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04",
        declare=_declare_one,
        run=_info,
    ),
    Command(
        words="acl token self",
        synopsis="Show the token that you use.",
        example="nodestate acl token self",
        declare=_declare_none,
        run=_self,
    ),
    Command(
        words="acl token list",
        synopsis="List the tokens, without their secrets.",
        example="nodestate acl token list",
        declare=_declare_none,
        run=_list,
    ),
    Command(
        words="acl token update",
        synopsis="Change a token: what is given takes the place of what there is.",
        example="nodestate acl token update -policy reader "
        "3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04",
        declare=_declare_update,
        run=_update,
    ),
    Command(
        words="acl token delete",
        synopsis="Delete a token; it is refused at once.",
        example="nodestate acl token delete 3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04",
        declare=_declare_delete,
        run=_delete,
    ),
)
