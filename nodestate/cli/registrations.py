"""`node register` and `node heartbeat`: what a node's agent does, by hand."""

import platform
from pathlib import Path
from typing import Any

import msgspec

from nodestate.answers import Registered, Written
from nodestate.cli.flags import Flags
from nodestate.cli.lookup import one_node_id
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.model.duration import format_duration
from nodestate.model.encoding import encode_json

SECRET_ID_VARIABLE = "NODESTATE_SECRET_ID"  # noqa: S105  a name
_STANDARD_INPUT = "-"
_REGISTERING = "Error registering node"


def _declare_register(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("file", "<path>", "JSON of a node, or of many; - reads standard input")
    flags.value("id", "<uuid>", "the node's id; a new one if unset")
    flags.value("name", "<name>", "its name; this machine's if unset")
    flags.value("datacenter", "<name>", "its datacenter", default="dc1")
    flags.value("class", "<name>", "its class", default="")
    flags.value("node-pool", "<name>", "its pool", default="")
    flags.value("status", "<status>", "initializing, ready or down", default="ready")
    flags.value("http-addr", "<host:port>", "where its agent is reached", default="")
    flags.pairs("attribute", "what it is; this machine's kernel and CPU if unset")
    flags.pairs("meta", "what its owner says about it")
    flags.value("cpu", "<MHz>", "its CPU", default=0, kind=int)
    flags.value("memory", "<MiB>", "its memory", default=0, kind=int)
    flags.value("disk", "<MiB>", "its disk", default=0, kind=int)
    flags.value(
        "secret-id", "<uuid>", f"its secret; else {SECRET_ID_VARIABLE}, else a new one"
    )
    flags.switch("json", "write the server's answer, with ids and secrets")
    flags.arguments("")


async def _register(session: Session) -> int:
    if session.args.arguments:
        raise session.refuse("This command takes no arguments")
    nodes, is_batch = _nodes_to_register(session)
    generated = [_complete(session, node) for node in nodes]
    async with session.client() as client:
        with failing(_REGISTERING):
            if is_batch:
                batch = await client.register_batch(nodes)
                results = list(batch.results)
            else:
                written = await client.register(nodes[0])
                results = [_as_result(written, nodes[0])]
    if session.args.json:
        session.console.output(_register_json(results, generated, is_batch=is_batch))
    else:
        for result, secret_id in zip(results, generated, strict=True):
            _report_registration(session, result, secret_id)
    return 1 if any(result.error for result in results) else 0


def _nodes_to_register(session: Session) -> tuple[list[dict[str, Any]], bool]:
    """Return the nodes, and whether they are to go in one batch."""
    path = session.args.file
    if path is None:
        return [_node_from_flags(session)], False
    try:
        text = (
            session.console.read_all()
            if path == _STANDARD_INPUT
            else Path(path).read_text(encoding="utf-8")
        )
        document = msgspec.json.decode(text)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise CommandError(f"Error reading {path}: {error}") from error
    if isinstance(document, dict):
        document = document.get("Node", document.get("Nodes", document))
    is_batch = isinstance(document, list)
    nodes = document if is_batch else [document]
    if not nodes or not all(isinstance(node, dict) for node in nodes):
        raise CommandError(
            f"Error reading {path}: expected the object of a node, or a list of them"
        )
    return nodes, is_batch


def _node_from_flags(session: Session) -> dict[str, Any]:
    args = session.args
    return {
        "ID": args.id or session.ids.new_id(),
        "Name": args.name or platform.node(),
        "Datacenter": args.datacenter,
        "NodeClass": vars(args)["class"],
        "NodePool": args.node_pool,
        "Status": args.status,
        "HTTPAddr": args.http_addr,
        "Attributes": dict(args.attribute) or _this_machine(),
        "Meta": dict(args.meta),
        "NodeResources": {
            "Cpu": {"CpuShares": args.cpu},
            "Memory": {"MemoryMB": args.memory},
            "Disk": {"DiskMB": args.disk},
        },
        "Resources": {
            "CPU": args.cpu,
            "MemoryMB": args.memory,
            "DiskMB": args.disk,
        },
    }


def _this_machine() -> dict[str, str]:
    return {
        "kernel.name": platform.system().lower(),
        "kernel.version": platform.release(),
        "cpu.arch": platform.machine(),
        "unique.hostname": platform.node(),
    }


def _complete(session: Session, node: dict[str, Any]) -> str:
    """Give the node a secret if it has none; returns it only if it is a new one."""
    secret_id = _given_secret_id(session)
    if secret_id:
        node["SecretID"] = secret_id
    elif not node.get("SecretID"):
        node["SecretID"] = session.ids.new_id()
        return str(node["SecretID"])
    return ""


def _given_secret_id(session: Session) -> str:
    from_environment = session.environment.get(SECRET_ID_VARIABLE, "")
    return session.args.secret_id or from_environment


def _as_result(written: Written, node: dict[str, Any]) -> Registered:
    fields = {name: getattr(written, name) for name in written.__struct_fields__}
    return Registered(**fields, id=str(node.get("ID", "")))


def _register_json(
    results: list[Registered], generated: list[str], *, is_batch: bool
) -> str:
    shown = []
    for result, secret_id in zip(results, generated, strict=True):
        answer = msgspec.json.decode(encode_json(result))
        shown.append({**answer, "SecretID": secret_id} if secret_id else answer)
    return as_json(msgspec.json.encode(shown if is_batch else shown[0]))


def _report_registration(session: Session, result: Registered, secret_id: str) -> None:
    if result.error:
        session.console.error(f'Node "{result.id}" refused: {result.error}')
        return
    session.console.output(f'Node "{result.id}" registered')
    if secret_id:
        session.console.output(f"Secret ID     = {secret_id}")
    ttl = format_duration(result.heartbeat_ttl)
    session.console.output(f"Heartbeat TTL = {ttl}")


def _declare_heartbeat(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("secret-id", "<uuid>", f"the node's secret; else {SECRET_ID_VARIABLE}")
    flags.value("status", "<status>", "initializing, ready or down", default="ready")
    flags.switch("json", "write the server's answer")
    flags.arguments("<node>")


async def _heartbeat(session: Session) -> int:
    node_id = one_node_id(session)
    secret_id = _given_secret_id(session)
    if not secret_id:
        raise session.refuse(
            f"The node's secret must be given by -secret-id or {SECRET_ID_VARIABLE}"
        )
    async with session.client() as client:
        with failing("Error sending heartbeat"):
            written = await client.heartbeat(node_id, secret_id, session.args.status)
    if session.args.json:
        session.console.output(as_json(encode_json(written)))
    else:
        ttl = format_duration(written.heartbeat_ttl)
        session.console.output(f'Node "{node_id}" heartbeat accepted')
        session.console.output(f"Heartbeat TTL = {ttl}")
    return 0


COMMANDS = (
    Command(
        words="node register",
        synopsis="Register a node as its agent would; without flags, this machine.",
        example=(
            "nodestate node register -name web1 -class large "
            "-attribute kernel.name=linux"
        ),
        declare=_declare_register,
        run=_register,
    ),
    Command(
        words="node heartbeat",
        synopsis="Say that a node lives; it is named by its full id.",
        example=(
            "nodestate node heartbeat -secret-id 6b8b2a61-0c1e-4d2a-9e10-0a5cf3a9a7d1 "
            "f7476465-4d6e-c0de-26d0-e383c49be941"
        ),
        declare=_declare_heartbeat,
        run=_heartbeat,
    ),
)
