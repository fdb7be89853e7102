"""`tls`: make an authority, certificates and cluster keys, with no other tool.

Files are written into the current directory, like those of Nomad's `nomad tls`; none is
ever overwritten, and only their owner can read those with a key.
"""

import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodestate.cli.flags import Flags
from nodestate.cli.session import Command, CommandError, Session
from nodestate.config import is_name
from nodestate.errors import ConfigError
from nodestate.secret import new_cluster_key

if TYPE_CHECKING:
    from nodestate.certificates import Pair, Subject

CA_CERTIFICATE: Final = "nodestate-ca.pem"
CA_KEY: Final = "nodestate-ca-key.pem"
CA_DAYS: Final = 1825
CERTIFICATE_DAYS: Final = 365
DAYS_MAX: Final = 36_500
PUBLIC_MODE: Final = 0o644
SECRET_MODE: Final = 0o600


def _declare_ca(flags: Flags) -> None:
    flags.value("days", "<n>", "how long it is good", default=CA_DAYS, kind=int)
    flags.texts(
        "domain", "vouch for names below this and localhost only; may be given again"
    )
    flags.arguments("")


def _create_ca(session: Session) -> int:
    from nodestate import certificates  # noqa: PLC0415  only needed here, and large

    args = session.args
    _expect_no_arguments(session)
    domains = (*args.domain, "localhost", "nodestate") if args.domain else ()
    _expect_texts("-domain", args.domain)
    validity = certificates.validity_of(session.clock.now_ns(), _days(session))
    authority = certificates.new_authority(validity, domains=domains)
    _write_pair(session, authority.pair, CA_CERTIFICATE, CA_KEY)
    return 0


def _declare_certificate(flags: Flags) -> None:
    flags.value("server", "<name>", "for the server of this name: peers and clients")
    flags.switch("client", "for clients, and for nothing else")
    flags.value("region", "<name>", "the servers' region", default="global")
    flags.value(
        "days", "<n>", "how long it is good", default=CERTIFICATE_DAYS, kind=int
    )
    flags.texts("additional-dnsname", "one more name; may be given again")
    flags.texts("additional-ipaddress", "one more address; may be given again")
    flags.value("ca", "<file>", "certificate of the authority", default=CA_CERTIFICATE)
    flags.value("key", "<file>", "key of the authority", default=CA_KEY)
    flags.arguments("")


def _create_certificate(session: Session) -> int:
    from nodestate import certificates  # noqa: PLC0415  only needed here, and large

    args = session.args
    _expect_no_arguments(session)
    if bool(args.server) == args.client:
        raise session.refuse("Either -server with a name or -client is needed")
    subject, stem = _subject(session)
    try:
        authority = certificates.read_authority(_read(args.ca), _read(args.key))
    except ConfigError as error:
        raise CommandError(f"{args.ca} with {args.key}: {error}") from error
    validity = certificates.validity_of(session.clock.now_ns(), _days(session))
    pair = authority.issue(subject, validity)
    _write_pair(session, pair, f"{stem}.pem", f"{stem}-key.pem")
    return 0


def _subject(session: Session) -> tuple["Subject", str]:
    """Return whom the certificate is for, and how its files are called."""
    from nodestate import certificates  # noqa: PLC0415  only needed here, and large

    args = session.args
    _expect_name("-region", args.region)
    if "." in args.region:
        raise CommandError(f"-region {args.region}: must have no dots in certificates")
    names = list(args.additional_dnsname)
    _expect_texts("-additional-dnsname", names)
    # Whoever has such a name is that server to the others.
    claimed = [name for name in names if name.endswith(certificates.PEER_DOMAIN)]
    if claimed:
        raise CommandError(f"-additional-dnsname {claimed[0]}: is what -server is for")
    addresses = [_address(text) for text in args.additional_ipaddress]
    if args.client:
        stem = f"{args.region}-client"
        name = f"client.{args.region}.nodestate"
    else:
        _expect_name("-server", args.server)
        stem = f"{args.region}-server-{args.server}"
        name = args.server
        names.insert(0, certificates.peer_dns_name(name, args.region))
    subject = certificates.Subject(
        name=name,
        dns_names=[*names, "localhost"] if args.server else [name, *names],
        ip_addresses=[*addresses, "127.0.0.1"] if args.server else addresses,
        is_server=bool(args.server),
    )
    return subject, stem


def _declare_key(flags: Flags) -> None:
    flags.arguments("")


def _create_key(session: Session) -> int:
    _expect_no_arguments(session)
    session.console.output(new_cluster_key())
    return 0


def _expect_no_arguments(session: Session) -> None:
    if session.args.arguments:
        raise session.refuse("This command takes no arguments")


def _expect_name(flag: str, text: str) -> None:
    if not is_name(text):
        raise CommandError(f'{flag} "{text}": is no name that a server can have')


def _expect_texts(flag: str, texts: Sequence[str]) -> None:
    for text in texts:
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise CommandError(f'{flag} "{text}": is no DNS name')


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise CommandError(f"-additional-ipaddress: {error}") from error


def _days(session: Session) -> int:
    days: int = session.args.days
    if not 1 <= days <= DAYS_MAX:
        raise CommandError(f"-days {days}: must be from 1 to {DAYS_MAX}")
    return days


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name}: cannot be read: {error.strerror}") from error


def _write_pair(session: Session, pair: "Pair", certificate: str, key: str) -> None:
    """Write both files or none; neither may be there."""
    present = [name for name in (certificate, key) if Path(name).exists()]
    if present:
        raise CommandError(f"{present[0]} is there already, and is not overwritten")
    _write(key, pair.key_pem, SECRET_MODE)
    _write(certificate, pair.certificate_pem, PUBLIC_MODE)
    session.console.output(f"==> Certificate saved to {certificate}")
    session.console.output(f"==> Key saved to {key}")


def _write(name: str, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
            file.write(content)
    except OSError as error:
        raise CommandError(f"{name}: cannot be written: {error.strerror}") from error


COMMANDS: Final = (
    Command(
        words="tls ca create",
        synopsis="Make an authority that vouches for servers and clients.",
        example="nodestate tls ca create -days 1825",
        declare=_declare_ca,
        run=_create_ca,
    ),
    Command(
        words="tls cert create",
        synopsis="Make a certificate for a server or for clients.",
        example="nodestate tls cert create -server server1 -region global",
        declare=_declare_certificate,
        run=_create_certificate,
    ),
    Command(
        words="tls key create",
        synopsis="Print a new cluster key, with which servers prove who they are.",
        example="nodestate tls key create",
        declare=_declare_key,
        run=_create_key,
    ),
)
