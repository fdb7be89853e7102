"""TLS contexts from a server's settings, and what a peer's certificate proves.

Files are read here and nowhere else. Whatever is wrong with them is a `ConfigError`
that names the setting and the file, and shows nothing of a key.
"""

import contextlib
import os
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from nodestate.certificates import (
    PEER_DOMAIN,
    Pair,
    derived_authority,
    expires_at_s,
    peer_dns_name,
)
from nodestate.client_tls import no_password, reason_of
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError, PeerRefusedError
from nodestate.secret import parse_cluster_keys
from nodestate.tls_settings import TlsSettings

PEM_BYTES_MAX: Final = 1 << 20
_NAMES_SHOWN: Final = 3

_AlternativeNames = Sequence[tuple[str, str]]


class PeerContexts(NamedTuple):
    """What a server shows to its peers and asks of them, as either end."""

    accepting: ssl.SSLContext
    dialling: ssl.SSLContext


class PeerTls:
    """How this server proves itself to its peers, and they to it.

    `contexts` are for new connections; those that there are keep what they began with.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Read keys and certificates; `ConfigError` if a peer would not take them."""
        self._config = config
        self.contexts = _peer_contexts(config)
        self._expires_at_s = certificate_expires_at_s(config, "peer_tls_cert")

    def reload(self) -> None:
        """Read them again; if they cannot be used, all stays as it was."""
        self.contexts = _peer_contexts(self._config)
        self._expires_at_s = certificate_expires_at_s(self._config, "peer_tls_cert")

    def expires_at_s(self) -> float:
        """Return the Unix time at which the certificate ends; 0 if it never does."""
        return self._expires_at_s

    def peer_name(self, session: ssl.SSLObject) -> str:
        """Return the server that the other side is; `PeerRefusedError` if it is none."""
        return _certified_name(session, self._config.region)


def http_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """Return how clients are served; `None` if they are served plain HTTP."""
    if not settings.has_http_tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(context, settings, "http_tls_cert", "http_tls_key")
    if settings.http_tls_client_ca:
        _trust_file(context, settings, "http_tls_client_ca")
        context.verify_mode = (
            ssl.CERT_REQUIRED if settings.http_tls_verify_client else ssl.CERT_OPTIONAL
        )
    return context


def certificate_expires_at_s(settings: TlsSettings, setting: str) -> float:
    """Return the Unix time at which a certificate ends; 0 if there is none."""
    if not getattr(settings, setting):
        return 0.0
    try:
        return expires_at_s(_read_file(settings, setting))
    except ValueError as error:
        raise _complaint(settings, setting, str(error)) from error


def _peer_contexts(config: ServerConfig) -> PeerContexts:
    contexts = PeerContexts(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    # Each connection proves who it is anew: nothing is resumed.
    contexts.accepting.num_tickets = 0
    # Peers are dialled by address; what counts is the server that is certified.
    contexts.dialling.check_hostname = False
    for context in contexts:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
    if config.peer_tls_cert:
        for context in contexts:
            _load_own(context, config, "peer_tls_cert", "peer_tls_key")
            _trust_file(context, config, "peer_tls_ca")
    else:
        _load_derived(contexts, config)
    _rehearse(contexts, config)
    return contexts


def _load_derived(contexts: PeerContexts, config: ServerConfig) -> None:
    """Issue a certificate to this server by its first key; accept those of any."""
    authorities = [derived_authority(key) for key in _cluster_keys(config)]
    own = authorities[0].issue_to_peer(config.name, config.region)
    trusted = b"".join(authority.pair.certificate_pem for authority in authorities)
    for context in contexts:
        _load_pair(context, own)
        context.load_verify_locations(cadata=trusted.decode())


def _cluster_keys(config: ServerConfig) -> tuple[bytes, ...]:
    if config.cluster_keys:
        return parse_cluster_keys(config.cluster_keys.reveal())
    content = _read_file(config, "cluster_key_file", is_secret=True)
    try:
        return parse_cluster_keys(content.decode("ascii", errors="replace"))
    except ConfigError as error:
        raise _complaint(config, "cluster_key_file", str(error)) from None


def _rehearse(contexts: PeerContexts, config: ServerConfig) -> None:
    """Shake hands with ourselves: what that shows, a peer would show much later."""
    to_dialling, to_accepting = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = contexts.dialling.wrap_bio(to_dialling, to_accepting)
    accepting = contexts.accepting.wrap_bio(to_accepting, to_dialling, server_side=True)
    setting = "peer_tls_cert" if config.peer_tls_cert else "cluster_key_file"
    try:
        for end in (dialling, accepting, dialling, accepting):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        name = _certified_name(accepting, config.region)
    except (ssl.SSLError, PeerRefusedError) as error:
        raise _complaint(
            config, setting, f"peers would refuse it: {reason_of(error)}"
        ) from error
    if name != config.name:
        wanted = peer_dns_name(config.name, config.region)
        raise _complaint(
            config, setting, f'is the certificate of "{name}"; it must name {wanted}'
        )


def _certified_name(session: ssl.SSLObject, region: str) -> str:
    """Return the one server of the region that the other side's certificate names.

    Names that are not for peers do not count, so that a server may show the same
    certificate to its clients.
    """
    certificate = session.getpeercert() or {}
    alternative = cast(_AlternativeNames, certificate.get("subjectAltName", ()))
    names = [name for kind, name in alternative if kind == "DNS"]
    peers = [name for name in names if name.endswith(f".{PEER_DOMAIN}")]
    if len(peers) != 1:
        raise PeerRefusedError(
            f"a certificate must name one server, as in {peer_dns_name('NAME', region)}; "
            f"this one names {', '.join(names[:_NAMES_SHOWN]) or 'none'}"
        )
    suffix = f".{region}.{PEER_DOMAIN}"
    if not peers[0].endswith(suffix):
        raise PeerRefusedError(f"its certificate is for another region: {peers[0]}")
    return peers[0].removesuffix(suffix)


def _load_own(
    context: ssl.SSLContext, settings: TlsSettings, certificate: str, key: str
) -> None:
    pair = Pair(
        _read_file(settings, certificate), _read_file(settings, key, is_secret=True)
    )
    try:
        _load_pair(context, pair)
    except ssl.SSLError as error:
        path = getattr(settings, key)
        raise _complaint(
            settings, certificate, f"cannot be used with key {path}: {reason_of(error)}"
        ) from error


def _load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """Hand them over in memory: ssl only takes a file, and no disk should have it."""
    descriptor = os.memfd_create("nodestate-certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
        file.write(pair.certificate_pem + b"\n" + pair.key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=no_password)


def _trust_file(context: ssl.SSLContext, settings: TlsSettings, setting: str) -> None:
    try:
        context.load_verify_locations(
            cadata=_read_file(settings, setting).decode("ascii", errors="ignore")
        )
    except (ssl.SSLError, ValueError) as error:
        raise _complaint(
            settings, setting, f"has no certificates in PEM: {reason_of(error)}"
        ) from error
    if not context.get_ca_certs():
        raise _complaint(settings, setting, "has no certificate of a CA")


def _read_file(
    settings: TlsSettings, setting: str, *, is_secret: bool = False
) -> bytes:
    path = Path(getattr(settings, setting))
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise _complaint(
            settings, setting, f"cannot be read: {error.strerror}"
        ) from error
    if len(content) > PEM_BYTES_MAX:
        raise _complaint(settings, setting, f"is larger than {PEM_BYTES_MAX} bytes")
    if is_secret and _is_readable_by_others(status):
        mode = stat.S_IMODE(status.st_mode)
        raise _complaint(
            settings,
            setting,
            f"has mode {mode:04o}: others can read it; "
            "make it 0600, or 0640 if it is root's",
        )
    return content


def _is_readable_by_others(status: os.stat_result) -> bool:
    """Judge as PostgreSQL does: a group may read what only root can change."""
    harmless = 0o740 if status.st_uid == 0 else 0o700
    return bool(stat.S_IMODE(status.st_mode) & ~harmless)


def _complaint(settings: TlsSettings, setting: str, reason: str) -> ConfigError:
    value = getattr(settings, setting)
    return ConfigError(f'{setting} = "{value}": {reason}')
