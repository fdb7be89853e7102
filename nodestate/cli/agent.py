"""`agent`: run a server. The only module here that knows one."""

import tempfile
from pathlib import Path

from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, CommandError, Session
from nodestate.config import (
    SETTINGS,
    ServerConfig,
    description,
    dev_config,
    load_config,
)
from nodestate.errors import ConfigError
from nodestate.tls_settings import SECRET_SETTINGS

DEV_PORT_DEFAULT = 4646


def _declare(flags: Flags) -> None:
    flags.value("config", "<file>", "TOML file with the settings")
    flags.switch("dev", "one server, alone, whose data is gone when it ends")
    flags.value("port", "<n>", "with -dev: HTTP port, 0 for a free one", kind=int)
    for setting in (name for name in SETTINGS if name not in SECRET_SETTINGS):
        flags.value(setting.replace("_", "-"), "<value>", description(setting))
    flags.arguments("")


def _agent(session: Session) -> int:
    args = session.args
    if args.arguments:
        raise session.refuse("This command takes no arguments")
    if args.dev and args.config:
        raise session.refuse("-dev can't be combined with -config")
    if args.port is not None and not args.dev:
        raise session.refuse("-port goes with -dev; a server's address is set by -http")
    given = {name: value for name, value in vars(args).items() if name in SETTINGS}
    overrides = {name: value for name, value in given.items() if value is not None}
    try:
        if not args.dev:
            path = Path(args.config) if args.config else None
            return _run_server(load_config(path, session.environment, overrides))
        with tempfile.TemporaryDirectory(prefix="nodestate-dev-") as directory:
            return _run_server(_dev(session, directory, overrides))
    except ConfigError as error:
        raise CommandError(f"Error in configuration: {error}") from error


def _run_server(config: ServerConfig) -> int:
    # Every command loads this module, and only here are the rooms of a server needed.
    from nodestate import server  # noqa: PLC0415  see above

    return server.run(config)


def _dev(
    session: Session, directory: str, overrides: dict[str, object]
) -> ServerConfig:
    port = DEV_PORT_DEFAULT if session.args.port is None else session.args.port
    return dev_config(
        port, directory, environment=session.environment, overrides=overrides
    )


COMMANDS = (
    Command(
        words="agent",
        synopsis="Run a server until it is interrupted.",
        example="nodestate agent -dev -port 0",
        declare=_declare,
        run=_agent,
    ),
)
