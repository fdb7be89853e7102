"""Which settings of HTTP cannot be; `test_config.py` has how they are read and shown."""

import pytest

from nodestate.http_settings import HttpSettings, find_unfit_http


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"http_response_headers": {"X-Frame-Options": "DENY", "a_b": ""}},
        {"http_hosts_allowed": ("nodes", "nodes.example", "a-1.b_c.example")},
        {"http_origins_allowed": ("https://nodes.example", "http://localhost:3000")},
        {"audit_enforced": True, "audit_file": "audit.jsonl"},
    ],
)
def test_what_may_be(settings):
    assert find_unfit_http(HttpSettings(**settings)) is None


@pytest.mark.parametrize("name", ["a b", "", "a:", "é", "a\r\nb"])
def test_a_headers_name_is_a_token(name):
    settings = HttpSettings(http_response_headers={name: "x"})

    unfit = find_unfit_http(settings)

    assert unfit is not None
    assert "a name is letters" in unfit[2]


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nX: y", "\x00", "\x7f", "é"])
def test_a_headers_text_cannot_begin_another(text):
    settings = HttpSettings(http_response_headers={"X-A": text})

    unfit = find_unfit_http(settings)

    assert unfit is not None
    assert "no line breaks" in unfit[2]


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Length", "content-type", "DATE", "Transfer-Encoding", "Connection"),
        *("X-Nomad-Index", "x-nodestate-outcome", "X-Request-Id", "Vary", "Allow"),
    ],
)
def test_headers_that_the_server_sets_are_its_own(name):
    settings = HttpSettings(http_response_headers={"A": "b", name: "1"})

    assert find_unfit_http(settings) == (
        "http_response_headers",
        name,
        "is a header that the server sets itself",
    )


def test_a_header_is_set_once():
    settings = HttpSettings(http_response_headers={"A": "1", "a": "2"})

    assert find_unfit_http(settings) == ("http_response_headers", "a", "is there twice")


@pytest.mark.parametrize("host", ["", "*", "a:80", "[::1]", "a/b", ".a", "a.", "a b"])
def test_a_host_is_a_name_without_a_port(host):
    unfit = find_unfit_http(HttpSettings(http_hosts_allowed=("good", host)))

    assert unfit is not None
    assert unfit[:2] == ("http_hosts_allowed", host)


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "nodes.example", "https://", "https://a/", "ftp://a", "http://a:b"],
)
def test_an_origin_is_what_browsers_send(origin):
    unfit = find_unfit_http(HttpSettings(http_origins_allowed=(origin,)))

    assert unfit is not None
    assert unfit[:2] == ("http_origins_allowed", origin)


def test_nothing_can_be_enforced_that_is_not_written():
    unfit = find_unfit_http(HttpSettings(audit_enforced=True))

    assert unfit == ("audit_enforced", True, "is of no use without audit_file")
