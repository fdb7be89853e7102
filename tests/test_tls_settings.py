"""Which TLS settings go together; `test_config.py` has how they are read and shown."""

from typing import Any

import pytest

from nodestate.secret import Secret, new_cluster_key
from nodestate.tls_settings import TlsSettings, find_unfit

PEER: dict[str, Any] = {"peer_tls_cert": "c", "peer_tls_key": "k", "peer_tls_ca": "a"}
HTTP: dict[str, Any] = {"http_tls_cert": "c", "http_tls_key": "k"}
KEY = Secret(new_cluster_key())


@pytest.mark.parametrize(
    ("settings", "has_peer_tls", "has_http_tls"),
    [
        ({}, False, False),
        (PEER, True, False),
        ({"cluster_key_file": "f"}, True, False),
        ({"cluster_keys": KEY}, True, False),
        (HTTP, False, True),
        ({**HTTP, **PEER, "http_tls_client_ca": "a"}, True, True),
        (
            {**HTTP, "http_tls_client_ca": "a", "http_tls_verify_client": True},
            False,
            True,
        ),
    ],
)
def test_what_goes_together(settings, has_peer_tls, has_http_tls):
    tls = TlsSettings(**settings)

    assert find_unfit(tls, region="global") is None
    assert (tls.has_peer_tls, tls.has_http_tls) == (has_peer_tls, has_http_tls)


@pytest.mark.parametrize(
    ("settings", "unfit"),
    [
        (
            {"peer_tls_cert": "c"},
            (
                "peer_tls_cert",
                "is of no use without peer_tls_key and peer_tls_ca",
            ),
        ),
        (
            {"peer_tls_key": "k", "peer_tls_ca": "a"},
            ("peer_tls_key", "is of no use without peer_tls_cert"),
        ),
        (
            {"http_tls_key": "k"},
            ("http_tls_key", "is of no use without http_tls_cert"),
        ),
        (
            {**PEER, "cluster_key_file": "f"},
            (
                "cluster_key_file",
                "cannot be combined with peer_tls_cert: set one of them",
            ),
        ),
        (
            {"cluster_keys": KEY, "cluster_key_file": "f"},
            (
                "cluster_keys",
                "cannot be combined with cluster_key_file: set one of them",
            ),
        ),
        (
            {"cluster_keys": Secret("x y z")},
            (
                "cluster_keys",
                "has 3 keys, and should have one, or two while they are exchanged",
            ),
        ),
        (
            {"http_tls_client_ca": "a"},
            ("http_tls_client_ca", "is of no use without http_tls_cert"),
        ),
        (
            {**HTTP, "http_tls_verify_client": True},
            ("http_tls_verify_client", "is of no use without http_tls_client_ca"),
        ),
    ],
)
def test_what_does_not_go_together_is_named_with_what_is_missing(settings, unfit):
    assert find_unfit(TlsSettings(**settings), region="global") == unfit


def test_a_certificate_must_not_name_two_servers():
    dotted = "region", "has no dots where servers have certificates"

    assert find_unfit(TlsSettings(cluster_keys=KEY), region="eu.west") == dotted
    assert find_unfit(TlsSettings(**HTTP), region="eu.west") is None
