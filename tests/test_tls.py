"""Contexts from settings: who shakes hands with whom, and what is refused at start."""

import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from nodestate.certificates import Pair, expires_at_s, peer_dns_name
from nodestate.client_tls import client_context
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError, PeerRefusedError
from nodestate.secret import Secret, new_cluster_key
from nodestate.tls import PeerTls, certificate_expires_at_s, http_context
from tests.authorities import (
    make_authority,
    peer_settings,
    server_pair,
    shake_hands,
    write_authority,
    write_pair,
    write_secret,
)

KEY, OTHER_KEY = new_cluster_key(), new_cluster_key()


def keyed(*keys: str, name: str = "server1", region: str = "global") -> PeerTls:
    return PeerTls(
        ServerConfig(name=name, region=region, cluster_keys=Secret(" ".join(keys)))
    )


def certified(directory, pair, *trusted, name="server1", region="global") -> PeerTls:
    settings = peer_settings(directory, pair, *trusted)
    return PeerTls(ServerConfig(name=name, region=region, **settings))


def meet(accepting: PeerTls, dialling: PeerTls) -> tuple[str, str]:
    """Return who each end says the other is."""
    server, client = shake_hands(
        accepting.contexts.accepting, dialling.contexts.dialling
    )
    return accepting.peer_name(server), dialling.peer_name(client)


def test_servers_with_one_key_know_each_other_by_name():
    one, two = keyed(KEY, name="server1"), keyed(KEY, name="Server_2.x")

    assert meet(one, two) == ("Server_2.x", "server1")
    assert meet(two, one) == ("server1", "Server_2.x")


def test_the_connection_is_of_tls_1_3_and_nothing_is_resumed():
    one, two = keyed(KEY), keyed(KEY)
    server, client = shake_hands(one.contexts.accepting, two.contexts.dialling)

    server.write(b"x")
    assert client.read() == b"x"
    assert server.version() == client.version() == "TLSv1.3"
    assert client.session is None or not client.session.has_ticket
    assert not client.session_reused


def test_older_versions_of_tls_are_refused():
    one, two = keyed(KEY), keyed(KEY)
    two.contexts.dialling.minimum_version = ssl.TLSVersion.TLSv1_2
    two.contexts.dialling.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        meet(one, two)


@pytest.mark.parametrize(
    ("mine", "yours"),
    [
        ([KEY], [KEY, OTHER_KEY]),
        ([KEY, OTHER_KEY], [OTHER_KEY, KEY]),
        ([OTHER_KEY, KEY], [OTHER_KEY]),
    ],
)
def test_while_keys_are_exchanged_both_are_accepted(mine, yours):
    one, two = keyed(*mine), keyed(*yours, name="server2")

    assert meet(one, two) == ("server2", "server1")
    assert meet(two, one) == ("server1", "server2")


@pytest.mark.parametrize(
    ("mine", "yours"), [([KEY], [OTHER_KEY]), ([KEY], [OTHER_KEY, KEY])]
)
def test_another_key_is_not_accepted(mine, yours):
    with pytest.raises(ssl.SSLError):
        meet(keyed(*mine), keyed(*yours))


def test_a_key_file_has_one_key_in_each_line(tmp_path):
    path = write_secret(tmp_path / "key", f"{KEY}\n{OTHER_KEY}\n".encode())

    one = PeerTls(ServerConfig(cluster_key_file=path))

    assert meet(one, keyed(OTHER_KEY, KEY, name="server2")) == ("server2", "server1")


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (KEY.encode(), 0o604, "has mode 0604: others can read it"),
        (KEY.encode(), 0o660, "has mode 0660: others can read it"),
        (KEY.encode(), 0o602, "has mode 0602"),
        (b"", 0o600, "has 0 keys"),
        (b"\xff" * 44, 0o600, "key 1 is not 32 bytes in base64"),
        (KEY.encode() + b"x", 0o600, "key 1 is not 32 bytes in base64"),
        (b" " * (2 << 20), 0o600, "is larger than 1048576 bytes"),
    ],
    ids=["read", "group", "write", "empty", "binary", "long", "huge"],
)
def test_a_key_file_is_refused_without_showing_it(tmp_path, content, mode, reason):
    path = write_secret(tmp_path / "key", content, mode)

    with pytest.raises(ConfigError) as caught:
        PeerTls(ServerConfig(cluster_key_file=path))

    assert str(caught.value).startswith(f'cluster_key_file = "{path}": {reason}')
    assert KEY not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        PeerTls(ServerConfig(cluster_key_file=f"{tmp_path}/none"))

    assert str(caught.value) == (
        f'cluster_key_file = "{tmp_path}/none": cannot be read: No such file or directory'
    )


def test_a_group_may_read_a_key_that_only_root_can_change(tmp_path, monkeypatch):
    path = write_secret(tmp_path / "key", KEY.encode(), 0o640)
    real = os.fstat

    def owned_by(user: int):
        def fstat(descriptor: int) -> os.stat_result:
            status = list(real(descriptor))
            status[4] = user
            return os.stat_result(status)

        return fstat

    monkeypatch.setattr(os, "fstat", owned_by(0))
    PeerTls(ServerConfig(cluster_key_file=path))
    monkeypatch.setattr(os, "fstat", owned_by(1000))
    with pytest.raises(ConfigError, match="has mode 0640"):
        PeerTls(ServerConfig(cluster_key_file=path))


def test_servers_with_certificates_know_each_other_by_name(tmp_path):
    ca = make_authority()
    one = certified(tmp_path / "1", server_pair(ca), ca)
    two = certified(tmp_path / "2", server_pair(ca, "server2"), ca, name="server2")

    assert meet(one, two) == ("server2", "server1")


def test_while_authorities_are_exchanged_both_are_accepted(tmp_path):
    old, new = make_authority(), make_authority()
    one = certified(tmp_path / "1", server_pair(old), old, new)
    two = certified(
        tmp_path / "2", server_pair(new, "server2"), new, old, name="server2"
    )

    assert meet(one, two) == ("server2", "server1")
    assert meet(two, one) == ("server1", "server2")


def test_a_server_of_another_region_is_refused():
    one, two = keyed(KEY), keyed(KEY, name="server2", region="eu")

    with pytest.raises(PeerRefusedError, match=r"another region: server2\.eu\.peer"):
        meet(one, two)


@pytest.mark.parametrize(
    ("dns_names", "reason"),
    [
        (("localhost",), "must name one server, as in NAME.global.*names localhost"),
        (
            (peer_dns_name("server2", "global"), peer_dns_name("server3", "global")),
            "must name one server",
        ),
        ((peer_dns_name("server2", "us"),), "another region"),
        (("peer.nodestate",), "must name one server"),
    ],
)
def test_a_certificate_of_the_right_authority_must_name_one_server(
    tmp_path, dns_names, reason
):
    ca = make_authority()
    one = certified(tmp_path / "1", server_pair(ca), ca)
    certificate, key = write_pair(tmp_path, "x", server_pair(ca, dns_names=dns_names))
    stranger = client_context(client_cert=certificate, client_key=key, skip_verify=True)
    server, _ = shake_hands(one.contexts.accepting, stranger)

    with pytest.raises(PeerRefusedError, match=reason):
        one.peer_name(server)


def test_a_name_is_kept_as_it_is(tmp_path):
    ca = make_authority()
    one = certified(tmp_path / "1", server_pair(ca), ca)
    for name in ("SERVER2", "*", "a.b"):
        certificate, key = write_pair(tmp_path, "x", server_pair(ca, name))
        stranger = client_context(
            client_cert=certificate, client_key=key, skip_verify=True
        )
        server, _ = shake_hands(one.contexts.accepting, stranger)
        assert one.peer_name(server) == name


def test_a_client_without_a_certificate_is_refused():
    with pytest.raises(ssl.SSLError, match=r"(?i)peer.did.not.return.a.cert"):
        shake_hands(keyed(KEY).contexts.accepting, client_context(skip_verify=True))


def own_certificate_is_refused(directory, pair, *trusted, **names):
    with pytest.raises(ConfigError) as caught:
        certified(directory, pair, *trusted, **names)
    text = str(caught.value)
    assert text.startswith('peer_tls_cert = "')
    return text.partition('": ')[2]


def test_what_peers_would_refuse_is_refused_at_start(tmp_path):
    ca, other = make_authority(), make_authority()

    assert own_certificate_is_refused(tmp_path, server_pair(ca, days_ago=2), ca) == (
        "peers would refuse it: certificate has expired"
    )
    assert own_certificate_is_refused(tmp_path, server_pair(ca, days_ago=-2), ca) == (
        "peers would refuse it: certificate is not yet valid"
    )
    assert own_certificate_is_refused(tmp_path, server_pair(other), ca) == (
        "peers would refuse it: unable to get local issuer certificate"
    )
    assert own_certificate_is_refused(
        tmp_path, server_pair(ca, is_server=False), ca
    ).startswith("peers would refuse it: unsuitable certificate purpose")
    assert own_certificate_is_refused(tmp_path, server_pair(ca, "server2"), ca) == (
        'is the certificate of "server2"; it must name server1.global.peer.nodestate'
    )
    assert "another region" in own_certificate_is_refused(
        tmp_path, server_pair(ca, region="eu"), ca
    )


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path):
    ca = make_authority()
    pair = Pair(server_pair(ca).certificate_pem, server_pair(ca).key_pem)

    reason = own_certificate_is_refused(tmp_path, pair, ca)

    assert reason == f"cannot be used with key {tmp_path}/peer-key.pem: " + (
        "key values mismatch"
    )


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path):
    ca = make_authority()
    pair = server_pair(ca)
    key = load_pem_private_key(pair.key_pem, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )

    reason = own_certificate_is_refused(tmp_path, Pair(pair.certificate_pem, key), ca)

    assert reason.endswith("peer-key.pem: the key is encrypted")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no certificates in PEM"),
        (b"nonsense \xff", "has no certificates in PEM"),
        (server_pair(make_authority()).certificate_pem, "has no certificate of a CA"),
    ],
    ids=["empty", "noise", "leaf"],
)
def test_a_file_without_authorities_is_refused(tmp_path, content, reason):
    ca = make_authority()
    settings = peer_settings(tmp_path, server_pair(ca), ca)
    (tmp_path / "ca.pem").write_bytes(content)

    with pytest.raises(ConfigError, match=f"peer_tls_ca = .*: {reason}"):
        PeerTls(ServerConfig(**settings))


def test_reloading_takes_what_is_there_now(tmp_path):
    old, new = make_authority(), make_authority()
    one = certified(tmp_path, server_pair(old), old)
    two = certified(tmp_path / "2", server_pair(new, "server2"), new, name="server2")
    with pytest.raises(ssl.SSLError):
        meet(one, two)

    ended = one.expires_at_s()
    peer_settings(tmp_path, server_pair(new, days_ago=-0.5), new, old)
    with pytest.raises(ConfigError, match="not yet valid"):
        one.reload()
    assert one.expires_at_s() == ended
    peer_settings(tmp_path, server_pair(new, days=3), new, old)
    one.reload()

    assert one.expires_at_s() > ended + 86_400
    assert meet(one, two) == ("server2", "server1")


def test_reloading_what_cannot_be_used_changes_nothing(tmp_path):
    ca = make_authority()
    one = certified(tmp_path, server_pair(ca), ca)
    two = certified(tmp_path / "2", server_pair(ca, "server2"), ca, name="server2")
    contexts = one.contexts

    peer_settings(tmp_path, server_pair(ca, days_ago=9), ca)
    with pytest.raises(ConfigError, match="certificate has expired"):
        one.reload()

    assert one.contexts is contexts
    assert meet(one, two) == ("server2", "server1")


# Clients


def http_settings(directory, authority, **others) -> ServerConfig:
    certificate, key = write_pair(directory, "http", server_pair(authority))
    return ServerConfig(http_tls_cert=certificate, http_tls_key=key, **others)


def test_without_a_certificate_http_is_plain():
    assert http_context(ServerConfig()) is None


def test_a_client_knows_the_server_by_its_authority(tmp_path):
    ca = make_authority()
    accepting = http_context(http_settings(tmp_path, ca))
    assert accepting is not None
    trusting = client_context(ca_cert=write_authority(tmp_path, ca))
    trusting.check_hostname = False  # in memory there is no name to check

    shake_hands(accepting, trusting)
    shake_hands(accepting, client_context(skip_verify=True))
    unaware = client_context()
    unaware.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(accepting, unaware)


def test_tls_1_2_is_for_clients_only(tmp_path):
    accepting = http_context(http_settings(tmp_path, make_authority()))
    assert accepting is not None
    dialling = client_context(skip_verify=True)
    dialling.maximum_version = ssl.TLSVersion.TLSv1_2

    assert shake_hands(accepting, dialling)[0].version() == "TLSv1.2"
    assert accepting.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("is_required", [True, False])
def test_a_clients_certificate_is_asked_for_and_checked(tmp_path, is_required):
    ca, other = make_authority(), make_authority()
    settings = http_settings(
        tmp_path,
        ca,
        http_tls_client_ca=write_authority(tmp_path, ca),
        http_tls_verify_client=is_required,
    )
    accepting = http_context(settings)
    assert accepting is not None

    def client(authority) -> ssl.SSLContext:
        pair = server_pair(authority, is_server=False, dns_names=("client.global",))
        certificate, key = write_pair(tmp_path, "client", pair)
        return client_context(client_cert=certificate, client_key=key, skip_verify=True)

    server, _ = shake_hands(accepting, client(ca))
    assert server.getpeercert()
    with pytest.raises(ssl.SSLError):
        shake_hands(accepting, client(other))
    if is_required:
        with pytest.raises(ssl.SSLError):
            shake_hands(accepting, client_context(skip_verify=True))
    else:
        shake_hands(accepting, client_context(skip_verify=True))


def test_an_http_key_that_others_can_read_is_refused(tmp_path):
    settings = http_settings(tmp_path, make_authority())
    Path(settings.http_tls_key).chmod(0o644)

    with pytest.raises(ConfigError, match=r"http_tls_key = .*has mode 0644"):
        http_context(settings)


def test_when_a_certificate_ends_is_known(tmp_path):
    ca = make_authority()
    settings = http_settings(tmp_path, ca)
    pem = Path(settings.http_tls_cert).read_bytes()

    assert certificate_expires_at_s(settings, "http_tls_cert") == expires_at_s(pem)
    assert expires_at_s(pem) == pytest.approx(time.time() + 86_400, abs=60)
    assert certificate_expires_at_s(settings, "peer_tls_cert") == 0
    assert keyed(KEY).expires_at_s() == 0
