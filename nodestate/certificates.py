"""Certificates: made, issued and written as PEM, with no file in sight.

Two kinds of authority. One is derived from a cluster key: whoever has the key is the
authority, so each server issues a certificate to itself, and nobody needs to keep one.
The other is an operator's own, with a certificate and a key to be kept in files.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typing_extensions import override

from nodestate.errors import ConfigError

PEER_DOMAIN: Final = "peer.nodestate"
DERIVATION: Final = b"nodestate peer authority, version 1"
"""Says what the derived key is for; another text would be another authority."""

# Whoever has the cluster key can issue a certificate at any time, so an end would keep
# nobody out, and would cut off a server that runs for long, or whose clock is wrong. A
# cluster key ends by being exchanged.
_ALWAYS: Final = (
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)
_CLOCKS_APART: Final = timedelta(hours=1)
"""A new certificate is good for machines whose clock is behind, too."""

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_Validity = tuple[datetime, datetime]


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its key, as PEM. The key is not shown."""

    certificate_pem: bytes
    key_pem: bytes

    @override
    def __repr__(self) -> str:
        return "Pair(<redacted>)"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a certificate is for: a name to read, and those that count."""

    name: str
    dns_names: Sequence[str] = ()
    ip_addresses: Sequence[str] = ()
    is_server: bool = True


class Authority:
    """A CA: what its certificate is, and a key to issue others with."""

    def __init__(self, certificate: x509.Certificate, key: _PrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @property
    def pair(self) -> Pair:
        """Return what is to be kept of it; only an operator's authority needs to be."""
        return Pair(_pem(self._certificate), _key_pem(self._key))

    def issue(self, subject: Subject, validity: _Validity) -> Pair:
        """Return a certificate with a new key, P-256 as every client takes it."""
        return self._issue(subject, validity, ec.generate_private_key(ec.SECP256R1()))

    def issue_to_peer(self, server_name: str, region: str) -> Pair:
        """Return a certificate that a server shows to its peers, good at any time."""
        subject = Subject(
            name=server_name, dns_names=(peer_dns_name(server_name, region),)
        )
        return self._issue(subject, _ALWAYS, ed25519.Ed25519PrivateKey.generate())

    def _issue(self, subject: Subject, validity: _Validity, key: _PrivateKey) -> Pair:
        builder = _builder(subject.name, key, validity)
        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.serial_number(x509.random_serial_number())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.is_server:
            # Every server is dialled by its peers, and dials them.
            usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        names: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in subject.dns_names),
            *(x509.IPAddress(ip_address(text)) for text in subject.ip_addresses),
        ]
        if names:
            alternative = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternative, critical=False)
        builder = (
            builder.add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self._key.public_key()
                ),
                critical=False,
            )
        )
        return Pair(_pem(_signed(builder, self._key)), _key_pem(key))


def peer_dns_name(server_name: str, region: str) -> str:
    """Return the name that proves who a server is; `region` must have no dots."""
    return f"{server_name}.{region}.{PEER_DOMAIN}"


def derived_authority(cluster_key: bytes) -> Authority:
    """Return the authority of a cluster key: the same certificate, byte for byte."""
    derivation = HKDF(hashes.SHA256(), length=32, salt=None, info=DERIVATION)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(derivation.derive(cluster_key))
    # Two authorities that are accepted at once are told apart by their names.
    fingerprint = _fingerprint(key)
    builder = _authority_builder(
        f"nodestate cluster {fingerprint[:8].hex()}", key, _ALWAYS
    ).serial_number(int.from_bytes(fingerprint[:8], "big") | 1)
    return Authority(_signed(builder, key), key)


def new_authority(validity: _Validity, *, domains: Sequence[str] = ()) -> Authority:
    """Return an operator's authority; with `domains` it can vouch for nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"nodestate CA {_fingerprint(key)[:8].hex()}"
    builder = _authority_builder(name, key, validity)
    builder = builder.serial_number(x509.random_serial_number())
    if domains:
        permitted = [x509.DNSName(domain) for domain in domains]
        constraints = x509.NameConstraints(permitted, None)
        builder = builder.add_extension(constraints, critical=True)
    return Authority(_signed(builder, key), key)


def read_authority(certificate_pem: bytes, key_pem: bytes) -> Authority:
    """Return an operator's authority as it was kept; `ConfigError` if it is none."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"not a certificate and a plain key in PEM: {error}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ConfigError("the key is neither ECDSA nor Ed25519")
    if _public_bytes(certificate.public_key()) != _public_bytes(key.public_key()):
        raise ConfigError("the key is not the certificate's")
    if not _is_authority(certificate):
        raise ConfigError("the certificate is not a CA's")
    return Authority(certificate, key)


def expires_at_s(certificate_pem: bytes) -> float:
    """Return the Unix time at which the first of the certificates ends."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return certificate.not_valid_after_utc.timestamp()


def validity_of(now_ns: int, days: int) -> _Validity:
    """Return from when and until when a certificate made now is good."""
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    return now - _CLOCKS_APART, now + timedelta(days=days)


def _authority_builder(
    name: str, key: _PrivateKey, validity: _Validity
) -> x509.CertificateBuilder:
    return (
        _builder(name, key, validity)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
    )


def _builder(
    name: str, key: _PrivateKey, validity: _Validity
) -> x509.CertificateBuilder:
    start, end = validity
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(public)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
    )


def _signed(builder: x509.CertificateBuilder, key: _PrivateKey) -> x509.Certificate:
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    return builder.sign(key, None if is_edwards else hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _fingerprint(key: _PrivateKey) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_public_bytes(key.public_key()))
    return digest.finalize()


def _public_bytes(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
