"""`acl policy`: apply, list, info, delete."""

from pathlib import Path

from nodestate.cli.acl_views import (
    declare_json,
    one_of,
    refuse_arguments,
    show_policies,
    show_policy,
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

STANDARD_INPUT = "-"


def _declare_apply(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("description", "<text>", "what the policy is for", default="")
    flags.arguments("<name> <path>")


def _declare_list(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("")


def _declare_info(flags: Flags) -> None:
    declare_connection(flags)
    declare_json(flags)
    flags.arguments("<name>")


def _declare_delete(flags: Flags) -> None:
    declare_connection(flags)
    flags.arguments("<name>")


async def _apply(session: Session) -> int:
    arguments = session.args.arguments
    if len(arguments) != 2:
        raise session.refuse("This command takes two arguments: <name> and <path>")
    name, path = arguments
    rules = _read_rules(session, path)
    async with session.client() as client:
        with failing("Error writing ACL policy"):
            await client.put_acl_policy(
                name, rules, description=session.args.description
            )
    session.console.output(f'Successfully wrote "{name}" ACL policy!')
    return 0


def _read_rules(session: Session, path: str) -> str:
    if path == STANDARD_INPUT:
        return session.console.read_all()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Failed to read file: {error}") from error


async def _list(session: Session) -> int:
    refuse_arguments(session)
    async with session.client() as client:
        with failing("Error listing ACL policies"):
            read = await client.acl_policies()
    if session.args.json:
        session.console.output(as_json(read.body))
    else:
        show_policies(session.console, read.value)
    return 0


async def _info(session: Session) -> int:
    name = one_of(session, "name")
    async with session.client() as client:
        with failing("Error fetching info on ACL policy"):
            read = await client.acl_policy(name)
    if session.args.json:
        session.console.output(as_json(read.body))
    else:
        show_policy(session, read.value)
    return 0


async def _delete(session: Session) -> int:
    name = one_of(session, "name")
    async with session.client() as client:
        with failing("Error deleting ACL policy"):
            await client.delete_acl_policy(name)
    session.console.output(f"Successfully deleted {name} policy!")
    return 0


COMMANDS = (
    Command(
        words="acl policy apply",
        synopsis="Write a policy: rules in HCL or JSON, from a file or - for what is "
        "piped in.",
        example="nodestate acl policy apply -description 'May read nodes' reader reader.hcl",
        declare=_declare_apply,
        run=_apply,
    ),
    Command(
        words="acl policy list",
        synopsis="List the policies that your token may see.",
        example="nodestate acl policy list",
        declare=_declare_list,
        run=_list,
    ),
    Command(
        words="acl policy info",
        synopsis="Show a policy and its rules.",
        example="nodestate acl policy info reader",
        declare=_declare_info,
        run=_info,
    ),
    Command(
        words="acl policy delete",
        synopsis="Delete a policy; whoever has it may do less at once.",
        example="nodestate acl policy delete reader",
        declare=_declare_delete,
        run=_delete,
    ),
)
