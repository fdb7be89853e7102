"""Authorities and certificates on disk, for servers and clients under test."""

import contextlib
import ssl
import time
from pathlib import Path
from typing import Any

from nodestate.certificates import (
    Authority,
    Pair,
    Subject,
    new_authority,
    peer_dns_name,
    validity_of,
)

DAY_NS = 86_400_000_000_000


def make_authority() -> Authority:
    return new_authority(validity_of(time.time_ns(), 1))


def server_pair(
    authority: Authority,
    name: str = "server1",
    *,
    region: str = "global",
    days_ago: float = 0,
    days: int = 1,
    dns_names: tuple[str, ...] | None = None,
    is_server: bool = True,
) -> Pair:
    """A certificate of so many days, which may be over; by default as `tls cert create`."""
    if dns_names is None:
        dns_names = (peer_dns_name(name, region), "localhost")
    subject = Subject(
        name=name, dns_names=dns_names, ip_addresses=["127.0.0.1"], is_server=is_server
    )
    return authority.issue(
        subject, validity_of(time.time_ns() - int(days_ago * DAY_NS), days)
    )


def write_secret(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def write_pair(directory: Path, stem: str, pair: Pair) -> tuple[str, str]:
    """Return the paths of certificate and key."""
    certificate = directory / f"{stem}.pem"
    certificate.write_bytes(pair.certificate_pem)
    return str(certificate), write_secret(directory / f"{stem}-key.pem", pair.key_pem)


def write_authority(directory: Path, *authorities: Authority, stem: str = "ca") -> str:
    path = directory / f"{stem}.pem"
    path.write_bytes(b"".join(each.pair.certificate_pem for each in authorities))
    return str(path)


def peer_settings(directory: Path, pair: Pair, *trusted: Authority) -> dict[str, Any]:
    """Write what a server needs for its peers, and return the settings."""
    directory.mkdir(exist_ok=True)
    certificate, key = write_pair(directory, "peer", pair)
    return {
        "peer_tls_cert": certificate,
        "peer_tls_key": key,
        "peer_tls_ca": write_authority(directory, *trusted),
    }


def shake_hands(
    accepting: ssl.SSLContext, dialling: ssl.SSLContext
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Do the whole handshake in memory; `ssl.SSLError` of whichever end refuses."""
    to_dialling, to_accepting = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dialling.wrap_bio(to_dialling, to_accepting)
    server = accepting.wrap_bio(to_accepting, to_dialling, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return server, client
