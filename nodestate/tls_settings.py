"""The settings of a server that say who may speak, and which of them go together.

No file is read here: `nodestate.tls` does that.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from nodestate.errors import ConfigError
from nodestate.secret import Secret, parse_cluster_keys

SECRET_SETTINGS: Final = frozenset({"cluster_keys"})
"""Settings that may only stand in the environment, and are never shown."""

PEER_CERTIFICATE: Final = ("peer_tls_cert", "peer_tls_key", "peer_tls_ca")


def _path(description: str) -> Meta:
    return Meta(
        description=description, min_length=1, extra={"allowed": "the path of a file"}
    )


class TlsSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Certificates and keys: files in PEM, or a key that all servers of a cluster have."""

    cluster_key_file: Annotated[
        str, _path("the cluster's key, with which its servers prove who they are")
    ] = ""
    cluster_keys: Annotated[
        Secret,
        Meta(
            description="the same, without a file; never a flag, nor in the TOML file",
            extra={
                "allowed": "one or two keys as 'nodestate tls key create' prints them"
            },
        ),
    ] = Secret("")
    peer_tls_cert: Annotated[
        str, _path("instead of a key: this server's certificate for the other servers")
    ] = ""
    peer_tls_key: Annotated[str, _path("the key of that certificate")] = ""
    peer_tls_ca: Annotated[
        str, _path("the CAs, one or more, of all servers' certificates")
    ] = ""
    http_tls_cert: Annotated[
        str, _path("certificate to show to clients: HTTPS instead of HTTP")
    ] = ""
    http_tls_key: Annotated[str, _path("the key of that certificate")] = ""
    http_tls_client_ca: Annotated[
        str, _path("the CAs, one or more, of certificates that clients may show")
    ] = ""
    http_tls_verify_client: Annotated[
        bool,
        Meta(
            description="whether a client must show a certificate",
            extra={"allowed": "true or false"},
        ),
    ] = False

    @property
    def has_peer_tls(self) -> bool:
        """Say whether servers prove to each other who they are."""
        return bool(self.peer_tls_cert or self.cluster_key_file or self.cluster_keys)

    @property
    def has_http_tls(self) -> bool:
        """Say whether clients are served by HTTPS."""
        return bool(self.http_tls_cert)


def find_unfit(settings: TlsSettings, *, region: str) -> tuple[str, str] | None:
    """Return a setting that does not fit to the others, and why; `None` if all do."""
    return (
        _find_lone(settings, *PEER_CERTIFICATE)
        or _find_lone(settings, "http_tls_cert", "http_tls_key")
        or _find_rival(settings)
        or _find_unfit_key(settings)
        or _find_unfit_client(settings)
        or _find_unfit_region(settings, region)
    )


def _find_lone(settings: TlsSettings, *names: str) -> tuple[str, str] | None:
    """All of these are set, or none."""
    present = [name for name in names if getattr(settings, name)]
    missing = [name for name in names if name not in present]
    if present and missing:
        return present[0], f"is of no use without {' and '.join(missing)}"
    return None


def _find_rival(settings: TlsSettings) -> tuple[str, str] | None:
    ways = ("peer_tls_cert", "cluster_key_file", "cluster_keys")
    chosen = [name for name in ways if getattr(settings, name)]
    if len(chosen) > 1:
        return chosen[1], f"cannot be combined with {chosen[0]}: set one of them"
    return None


def _find_unfit_key(settings: TlsSettings) -> tuple[str, str] | None:
    try:
        if settings.cluster_keys:
            parse_cluster_keys(settings.cluster_keys.reveal())
    except ConfigError as error:
        return "cluster_keys", str(error)
    return None


def _find_unfit_client(settings: TlsSettings) -> tuple[str, str] | None:
    if settings.http_tls_client_ca and not settings.http_tls_cert:
        return "http_tls_client_ca", "is of no use without http_tls_cert"
    if settings.http_tls_verify_client and not settings.http_tls_client_ca:
        return "http_tls_verify_client", "is of no use without http_tls_client_ca"
    return None


def _find_unfit_region(settings: TlsSettings, region: str) -> tuple[str, str] | None:
    """Keep "a" in region "b.c" from being "a.b" in region "c" to a certificate."""
    if settings.has_peer_tls and "." in region:
        return "region", "has no dots where servers have certificates"
    return None
