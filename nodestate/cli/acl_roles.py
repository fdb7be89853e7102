"""`acl role`: create, list, info, update, delete."""

from typing import Final

from nodestate.cli.acl_views import (
    declare_json,
    one_of,
    refuse_arguments,
    show_role,
    show_roles,
)
from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    Command,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.client_acl import RoleSpec
from nodestate.model.acl import PolicyLink

NO_NAME: Final = "ACL role name must be specified using the -name flag"
NO_POLICY: Final = "At least one policy name must be specified using the -policy flag"
NO_FLAG: Final = "Please provide at least one flag to update the ACL role"


def _declare_create(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    _declare_fields(flags)
    flags.arguments("")


def _declare_update(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    _declare_fields(flags)
    flags.switch("no-merge", "replace what there is, instead of adding policies to it")
    flags.arguments("<role id>")


def _declare_fields(flags: Flags) -> None:
    flags.value("name", "<name>", "the name that tokens link to", default="")
    flags.value("description", "<text>", "what the role is for", default="")
    flags.texts("policy", "name of a policy; may be given many times")


def _declare_list(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("")


def _declare_info(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.switch("by-name", "take the argument for a name")
    flags.arguments("<role id>")


def _declare_delete(flags: Flags) -> None:
    declare_connection(flags)
    flags.arguments("<role id>")


async def _create(session: Session) -> int:
    refuse_arguments(session)
    args = session.args
    if not args.name:
        raise session.refuse(NO_NAME)
    if not args.policy:
        raise session.refuse(NO_POLICY)
    spec = RoleSpec(
        name=args.name, description=args.description, policies=_links(args.policy)
    )
    async with session.client() as client:
        with failing("Error creating ACL role"):
            role = await client.create_acl_role(
                spec, idempotency_key=session.ids.new_id()
            )
    show_role(session, role)
    return 0


def _links(names: list[str]) -> list[PolicyLink]:
    return [PolicyLink(name=name) for name in dict.fromkeys(names)]


async def _update(session: Session) -> int:
    role_id = one_of(session, "role id")
    args = session.args
    if not (args.name or args.description or args.policy):
        raise session.refuse(NO_FLAG)
    if args.no_merge and not args.name:
        raise session.refuse(NO_NAME)
    if args.no_merge and not args.policy:
        raise session.refuse(NO_POLICY)
    spec = RoleSpec(
        id=role_id,
        name=args.name,
        description=args.description,
        policies=_links(args.policy),
    )
    async with session.client() as client:
        if not args.no_merge:
            with failing("Error reading ACL role"):
                known = (await client.acl_role(role_id)).value
            spec = RoleSpec(
                id=known.id,
                name=args.name or known.name,
                description=args.description or known.description,
                policies=_links([*(one.name for one in known.policies), *args.policy]),
            )
        with failing("Error updating ACL role"):
            role = await client.update_acl_role(spec)
    show_role(session, role)
    return 0


async def _info(session: Session) -> int:
    named = one_of(session, "role id")
    async with session.client() as client:
        with failing("Error reading ACL role"):
            if session.args.by_name:
                role = (await client.acl_role_named(named)).value
            else:
                role = (await client.acl_role(named)).value
    show_role(session, role)
    return 0


async def _list(session: Session) -> int:
    refuse_arguments(session)
    async with session.client() as client:
        with failing("Error listing ACL roles"):
            read = await client.acl_roles()
    if session.args.json:
        session.console.output(as_json(read.body))
    else:
        show_roles(session.console, read.value)
    return 0


async def _delete(session: Session) -> int:
    role_id = one_of(session, "role id")
    async with session.client() as client:
        with failing("Error deleting ACL role"):
            await client.delete_acl_role(role_id)
    session.console.output(f"ACL role {role_id} successfully deleted")
    return 0


COMMANDS = (
    Command(
        words="acl role create",
        synopsis="Make a role: policies under one name, for tokens to link to.",
        example="nodestate acl role create -name ops -policy node-admin -policy reader",
        declare=_declare_create,
        run=_create,
    ),
    Command(
        words="acl role list",
        synopsis="List the roles that your token may see.",
        example="nodestate acl role list",
        declare=_declare_list,
        run=_list,
    ),
    Command(
        words="acl role info",
        synopsis="Show a role.",
        example="nodestate acl role info -by-name ops",
        declare=_declare_info,
        run=_info,
    ),
    Command(
        words="acl role update",
        synopsis="Change a role; policies are added to those that it has.",
        example="nodestate acl role update -policy reader "
        "3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04",
        declare=_declare_update,
        run=_update,
    ),
    Command(
        words="acl role delete",
        synopsis="Delete a role; tokens that have it may do less at once.",
        example="nodestate acl role delete 3f1c7a52-09be-4c61-a1d3-5b8e2f6d9c04",
        declare=_declare_delete,
        run=_delete,
    ),
)
