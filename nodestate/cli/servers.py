"""`server members`: the servers of the cluster, and which of them leads."""

import msgspec

from nodestate.answers import Member
from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, Session, as_json, declare_connection, failing
from nodestate.cli.tables import columns, yes_no
from nodestate.client import Client
from nodestate.errors import NodestateError

_LEFT = "left"


def _declare(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("verbose", "show protocol versions and all tags")
    flags.switch("detailed", "the same, as older scripts say it")
    flags.switch("json", "write the members as JSON")
    flags.arguments("")


async def _members(session: Session) -> int:
    args, console = session.args, session.console
    if args.arguments:
        raise session.refuse("This command takes no arguments")
    async with session.client() as client:
        with failing("Error querying servers"):
            listed = (await client.members()).value
        if listed.members is None:
            console.output("Agent doesn't know about server members")
            return 0
        members = sorted(listed.members, key=lambda member: member.name)
        leaders, complaint = await _leaders(client, members)
    if args.json:
        console.output(_json(members, leaders))
        return 0
    is_verbose = args.verbose or args.detailed
    console.output(columns(_rows(members, leaders, verbose=is_verbose), empty=""))
    if complaint:
        console.output("")
        console.error(f"Error determining leaders: {complaint}")
        return 1
    return 0


async def _leaders(client: Client, members: list[Member]) -> tuple[dict[str, str], str]:
    """Return the leader's address of each region, and what could not be found out."""
    regions = {each.tags.get("region", "") for each in members if each.status != _LEFT}
    leaders: dict[str, str] = {}
    complaints = []
    for region in sorted(regions):
        try:
            leaders[region] = await client.leader(region)
        except NodestateError as error:
            complaints.append(f'Region "{region}": {error}')
    return leaders, "; ".join(complaints)


def _is_leader(member: Member, leaders: dict[str, str]) -> bool:
    host = f"[{member.addr}]" if ":" in member.addr else member.addr
    address = f"{host}:{member.tags.get('port', '')}"
    return leaders.get(member.tags.get("region", "")) == address


def _rows(
    members: list[Member], leaders: dict[str, str], *, verbose: bool
) -> list[list[str]]:
    header = ["Name", "Address", "Port", "Status", "Leader"]
    header += ["Protocol"] if verbose else []
    header += ["Raft Version", "Build", "Datacenter", "Region"]
    header += ["Tags"] if verbose else []
    rows = [header]
    for member in members:
        row = [member.name, member.addr, str(member.port), member.status]
        row.append(yes_no(_is_leader(member, leaders)))
        row += [str(member.protocol_cur)] if verbose else []
        row += [
            member.tags.get(tag, "") for tag in ("raft_vsn", "build", "dc", "region")
        ]
        if verbose:
            row.append(",".join(f"{k}={v}" for k, v in sorted(member.tags.items())))
        rows.append(row)
    return rows


def _json(members: list[Member], leaders: dict[str, str]) -> str:
    shown = [
        msgspec.structs.replace(
            member, tags={**member.tags, "Leader": yes_no(_is_leader(member, leaders))}
        )
        for member in members
    ]
    return as_json(msgspec.json.encode(shown))


COMMANDS = (
    Command(
        words="server members",
        synopsis="List the servers of the cluster.",
        example="nodestate server members -address http://127.0.0.1:5646",
        declare=_declare,
        run=_members,
    ),
)
