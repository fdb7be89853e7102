"""`tls`: what is written, what is never overwritten, and that servers can use it."""

import io
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509

from nodestate.cli.main import execute
from nodestate.cli.session import Console, Session
from nodestate.client_tls import client_context
from nodestate.clock import SystemClock, SystemIdSource
from nodestate.config import ServerConfig
from nodestate.secret import parse_cluster_keys
from nodestate.tls import PeerTls, http_context
from tests.authorities import shake_hands
from tests.cli.conftest import Ran

ALTERNATIVE = x509.SubjectAlternativeName


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(words: str) -> Ran:
    """Run with the real clock: what is made is put to use."""
    out, err = io.StringIO(), io.StringIO()
    session = Session(
        console=Console(out, err, io.StringIO()),
        environment={},
        clock=SystemClock(),
        ids=SystemIdSource(),
    )
    code = execute(["tls", *words.split()], session)
    return Ran(code, out.getvalue(), err.getvalue())


def good(words: str) -> list[str]:
    ran = run(words)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.splitlines()


def names_in(path: str) -> tuple[list[str], list[str]]:
    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    names = certificate.extensions.get_extension_for_class(ALTERNATIVE).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return names.get_values_for_type(x509.DNSName), [str(each) for each in addresses]


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_servers_meet_with_what_was_made(tmp_path):
    assert good("ca create") == [
        "==> Certificate saved to nodestate-ca.pem",
        "==> Key saved to nodestate-ca-key.pem",
    ]
    good("cert create -server server1")
    assert good("cert create -server server2 -days 1") == [
        "==> Certificate saved to global-server-server2.pem",
        "==> Key saved to global-server-server2-key.pem",
    ]
    assert names_in("global-server-server1.pem") == (
        ["server1.global.peer.nodestate", "localhost"],
        ["127.0.0.1"],
    )

    one, two = [
        PeerTls(
            ServerConfig(
                name=name,
                peer_tls_cert=f"global-server-{name}.pem",
                peer_tls_key=f"global-server-{name}-key.pem",
                peer_tls_ca="nodestate-ca.pem",
            )
        )
        for name in ("server1", "server2")
    ]
    server, client = shake_hands(one.contexts.accepting, two.contexts.dialling)

    assert one.peer_name(server) == "server2"
    assert two.peer_name(client) == "server1"


def test_a_client_meets_a_server_and_cannot_pass_for_one():
    good("ca create")
    good("cert create -server server1 -region eu")
    good("cert create -client -region eu -additional-ipaddress 10.0.0.9")
    assert names_in("eu-client.pem") == (["client.eu.nodestate"], ["10.0.0.9"])
    settings = ServerConfig(
        http_tls_cert="eu-server-server1.pem",
        http_tls_key="eu-server-server1-key.pem",
        http_tls_client_ca="nodestate-ca.pem",
        http_tls_verify_client=True,
    )
    accepting = http_context(settings)
    assert accepting is not None
    dialling = client_context(
        ca_cert="nodestate-ca.pem",
        client_cert="eu-client.pem",
        client_key="eu-client-key.pem",
    )
    dialling.check_hostname = False

    server, _ = shake_hands(accepting, dialling)

    assert server.getpeercert()


def test_more_names_and_addresses_are_added():
    good("ca create")
    good(
        "cert create -server s -additional-dnsname a.example "
        "-additional-dnsname=b.example -additional-ipaddress ::1"
    )

    assert names_in("global-server-s.pem") == (
        ["s.global.peer.nodestate", "a.example", "b.example", "localhost"],
        ["::1", "127.0.0.1"],
    )


def test_an_authority_can_be_kept_to_some_domains():
    good("ca create -domain a.example -domain b.example")
    certificate = x509.load_pem_x509_certificate(Path("nodestate-ca.pem").read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.NameConstraints)

    assert found.critical
    assert found.value.permitted_subtrees is not None
    assert [name.value for name in found.value.permitted_subtrees] == [
        "a.example",
        "b.example",
        "localhost",
        "nodestate",
    ]


def test_a_certificate_is_good_for_as_long_as_was_said():
    good("ca create")
    good("cert create -client -days 3")
    certificate = x509.load_pem_x509_certificate(Path("global-client.pem").read_bytes())

    left_s = certificate.not_valid_after_utc.timestamp() - time.time()

    assert 3 * 86_400 - 60 < left_s <= 3 * 86_400


def test_only_its_owner_can_read_a_key():
    good("ca create")
    good("cert create -client")

    for name in ("nodestate-ca", "global-client"):
        assert mode_of(f"{name}-key.pem") == 0o600
        assert mode_of(f"{name}.pem") & 0o022 == 0


@pytest.mark.parametrize("name", ["nodestate-ca.pem", "nodestate-ca-key.pem"])
def test_nothing_is_overwritten(name):
    Path(name).write_bytes(b"precious")

    ran = run("ca create")

    assert ran == Ran(1, "", f"{name} is there already, and is not overwritten\n")
    assert Path(name).read_bytes() == b"precious"
    assert len(list(Path().iterdir())) == 1


def test_a_link_to_nowhere_is_not_followed(tmp_path):
    Path("nodestate-ca-key.pem").symlink_to(tmp_path / "elsewhere")

    ran = run("ca create")

    assert ran == Ran(1, "", "nodestate-ca-key.pem: cannot be written: File exists\n")
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_certificate_of_a_name_is_refused():
    good("ca create")
    good("cert create -server s")
    before = Path("global-server-s-key.pem").read_bytes()

    assert run("cert create -server s").code == 1

    assert Path("global-server-s-key.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("cert create", "Either -server with a name or -client is needed"),
        ("cert create -server s -client", "Either -server with a name or -client"),
        ("cert create -server a/b", '-server "a/b": is no name that a server can'),
        ("cert create -server s -region ../x", '-region "../x": is no name'),
        ("cert create -server s -region eu.west", "-region eu.west: must have no dots"),
        ("cert create -client -days 0", "-days 0: must be from 1 to 36500"),
        ("ca create -days 36501", "-days 36501: must be from 1 to 36500"),
        ("ca create -domain é", '-domain "é": is no DNS name'),
        ("cert create -client -additional-ipaddress x", "-additional-ipaddress: 'x'"),
        (
            "cert create -client -additional-dnsname s.global.peer.nodestate",
            "-additional-dnsname s.global.peer.nodestate: is what -server is for",
        ),
        ("cert create -client -ca none.pem", "none.pem: cannot be read: No such file"),
        (
            "cert create -client -key nodestate-ca.pem",
            "nodestate-ca.pem with nodestate-ca.pem: not a certificate and a plain key",
        ),
        ("ca create x", "This command takes no arguments"),
        ("key create x", "This command takes no arguments"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(words, reason):
    if words.startswith("cert"):
        good("ca create")
    before = sorted(Path().iterdir())

    ran = run(words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(reason)
    assert sorted(Path().iterdir()) == before


def test_a_directory_that_cannot_be_written_to_is_named(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    ran = run("ca create")

    assert ran.code == 1
    assert ran.err == (
        "nodestate-ca-key.pem: cannot be written: No such file or directory\n"
    )


def test_a_key_is_printed_and_another_one_each_time():
    (one,), (two,) = good("key create"), good("key create")

    assert parse_cluster_keys(f"{one}\n{two}\n") != parse_cluster_keys(f"{two} {one}")
