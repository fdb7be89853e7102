"""A client's files and OpenSSL's words; `test_tls.py` has clients meet servers."""

import ssl

import pytest

from nodestate.client_tls import client_context, reason_of
from nodestate.errors import ConfigError
from tests.authorities import make_authority, server_pair, write_authority, write_pair


def test_a_server_is_checked_unless_that_is_called_off(tmp_path):
    checking = client_context(ca_cert=write_authority(tmp_path, make_authority()))
    trusting = client_context(skip_verify=True)

    assert checking.check_hostname
    assert checking.verify_mode is ssl.CERT_REQUIRED
    assert len(checking.get_ca_certs()) == 1
    assert not trusting.check_hostname
    assert trusting.verify_mode is ssl.CERT_NONE
    assert checking.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_without_its_own_key_is_refused(tmp_path):
    authority = make_authority()
    certificate, _ = write_pair(tmp_path, "one", server_pair(authority))
    _, key = write_pair(tmp_path, "other", server_pair(authority))

    with pytest.raises(ConfigError, match=r"other-key\.pem: key values mismatch"):
        client_context(client_cert=certificate, client_key=key)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"client_cert": "x"}, "a client's certificate and its key go together"),
        ({"ca_cert": "/none.pem"}, "CA /none.pem: No such file or directory"),
        (
            {"client_cert": "/none.pem", "client_key": "/k.pem"},
            "certificate /none.pem with key /k.pem: No such file or directory",
        ),
    ],
)
def test_a_clients_files_are_named_if_they_cannot_be_used(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        client_context(**settings)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ssl.SSLError(1, "[SSL] the whole (_ssl.c:1)"), "[SSL] the whole (_ssl.c:1)"),
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or dir"),
        (ValueError("nonsense"), "nonsense"),
    ],
)
def test_an_error_is_put_in_words(error, reason):
    assert reason_of(error).startswith(reason)
