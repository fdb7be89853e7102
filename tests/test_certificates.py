"""Authorities and what they issue; `test_tls.py` has them at work."""

import ssl
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from nodestate.certificates import (
    Authority,
    Pair,
    Subject,
    derived_authority,
    new_authority,
    peer_dns_name,
    read_authority,
    validity_of,
)
from nodestate.errors import ConfigError
from tests.authorities import (
    make_authority,
    server_pair,
    shake_hands,
    write_authority,
    write_pair,
)

KEY = bytes(range(32))
NOW_NS = 1_800_000_000_999_999_999
NAMES = x509.SubjectAlternativeName


def certificate_of(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem)


def dns_names(pair: Pair) -> list[str]:
    found = certificate_of(pair).extensions.get_extension_for_class(NAMES)
    return found.value.get_values_for_type(x509.DNSName)


def test_a_cluster_key_gives_one_authority_for_ever():
    authority = derived_authority(KEY)

    assert authority.pair.certificate_pem == derived_authority(KEY).pair.certificate_pem
    # Servers of different releases meet: this text may never change.
    assert certificate_of(authority.pair).public_key().public_bytes_raw().hex() == (  # type: ignore[union-attr]  # Ed25519
        "042c5929e92ecbe2e08facde182ffe91d9f6eb5903ee5a9d474aa99692a8b578"
    )


def test_another_key_gives_an_authority_of_another_name():
    one = certificate_of(derived_authority(KEY).pair)
    other = certificate_of(derived_authority(KEY[::-1]).pair)

    assert one.public_key() != other.public_key()
    assert one.subject != other.subject
    assert one.serial_number != other.serial_number


def test_a_derived_authority_issues_a_name_and_a_new_key_each_time():
    authority = derived_authority(KEY)
    pairs = [authority.issue_to_peer("server1", "eu") for _ in range(2)]

    for pair in pairs:
        certificate = certificate_of(pair)
        certificate.verify_directly_issued_by(certificate_of(authority.pair))
        assert dns_names(pair) == ["server1.eu.peer.nodestate"]
        assert certificate.not_valid_after_utc.year == 9999
        assert isinstance(certificate.public_key(), ed25519.Ed25519PublicKey)
    assert pairs[0].key_pem != pairs[1].key_pem


def test_an_operators_certificates_are_as_every_client_takes_them():
    authority = new_authority(validity_of(NOW_NS, 1825))
    subject = Subject(
        name="server1", dns_names=["localhost", "a.example"], ip_addresses=["::1"]
    )
    pair = authority.issue(subject, validity_of(NOW_NS, 365))

    certificate = certificate_of(pair)
    certificate.verify_directly_issued_by(certificate_of(authority.pair))
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert dns_names(pair) == ["localhost", "a.example"]
    addresses = certificate.extensions.get_extension_for_class(NAMES).value
    assert [str(a) for a in addresses.get_values_for_type(x509.IPAddress)] == ["::1"]
    start, end = validity_of(NOW_NS, 365)
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        start,
        end,
    )
    assert end - start == timedelta(days=365, hours=1)


@pytest.mark.parametrize("is_server", [True, False])
def test_only_a_server_may_be_dialled(is_server):
    pair = server_pair(make_authority(), is_server=is_server)
    usage = certificate_of(pair).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )

    names = {each.dotted_string.rpartition(".")[2] for each in usage.value}

    assert names == ({"1", "2"} if is_server else {"2"})


def strict_contexts(
    directory: Path, authority: Authority, pair: Pair
) -> list[ssl.SSLContext]:
    """Return both ends' contexts, which hold certificates to the letter of X.509."""
    certificate, key = write_pair(directory, "cert", pair)
    contexts = [
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    ]
    for context in contexts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(write_authority(directory, authority))
    return contexts


@pytest.mark.parametrize("is_derived", [True, False])
def test_openssl_takes_them_at_its_strictest(tmp_path, is_derived):
    authority = derived_authority(KEY) if is_derived else make_authority()
    pair = authority.issue_to_peer("s", "r") if is_derived else server_pair(authority)

    server, client = shake_hands(*strict_contexts(tmp_path, authority, pair))

    assert server.getpeercert() == client.getpeercert() != {}


def test_an_authority_for_some_domains_vouches_for_no_others(tmp_path):
    validity = validity_of(time.time_ns(), 1)
    authority = new_authority(validity, domains=["nodestate", "a.example"])
    for name in ("server1.global.peer.nodestate", "x.a.example"):
        pair = authority.issue(Subject(name="s", dns_names=[name]), validity)
        shake_hands(*strict_contexts(tmp_path, authority, pair))

    pair = authority.issue(Subject(name="s", dns_names=["b.example"]), validity)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(*strict_contexts(tmp_path, authority, pair))


def test_an_authority_that_was_kept_issues_on():
    authority = make_authority()
    kept = authority.pair

    again = read_authority(kept.certificate_pem, kept.key_pem)

    pair = server_pair(again)
    certificate_of(pair).verify_directly_issued_by(certificate_of(kept))


def test_what_is_no_authority_is_refused_without_its_key():
    one, other = make_authority(), make_authority()
    leaf = server_pair(one)
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for certificate_pem, key_pem, reason in [
        (b"", one.pair.key_pem, "not a certificate and a plain key in PEM"),
        (one.pair.certificate_pem, b"nonsense", "not a certificate and a plain key"),
        (one.pair.certificate_pem, other.pair.key_pem, "the key is not the certif"),
        (leaf.certificate_pem, leaf.key_pem, "the certificate is not a CA's"),
        (one.pair.certificate_pem, rsa_key, "the key is neither ECDSA nor Ed25519"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            read_authority(certificate_pem, key_pem)


def test_a_pair_does_not_show_its_key():
    pair = make_authority().pair

    assert "PRIVATE" not in repr(pair)
    assert repr(pair) == "Pair(<redacted>)"


def test_a_peer_is_named_within_its_region():
    assert peer_dns_name("server1", "global") == "server1.global.peer.nodestate"
