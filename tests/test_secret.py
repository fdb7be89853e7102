"""Secrets and cluster keys as texts: what is taken, and that nothing shows them."""

import base64

import msgspec
import pytest

from nodestate.errors import ConfigError
from nodestate.secret import Secret, new_cluster_key, parse_cluster_keys

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
KEY_TEXT = base64.b64encode(KEY).decode()
OTHER_TEXT = base64.b64encode(OTHER).decode()


def test_a_new_key_is_one_and_no_two_are_alike():
    keys = {parse_cluster_keys(new_cluster_key()) for _ in range(8)}

    assert len(keys) == 8
    assert {len(key) for (key,) in keys} == {32}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (KEY_TEXT, (KEY,)),
        (f"\n {KEY_TEXT}\r\n\n", (KEY,)),
        (f"{OTHER_TEXT}\n{KEY_TEXT}\n", (OTHER, KEY)),
        (f"{KEY_TEXT},{OTHER_TEXT}", (KEY, OTHER)),
    ],
)
def test_the_first_key_is_the_one_to_use(text, keys):
    assert parse_cluster_keys(text) == keys


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 keys"),
        (f"{KEY_TEXT} {OTHER_TEXT} {KEY_TEXT}", "has 3 keys"),
        (f"{KEY_TEXT} {KEY_TEXT}", "has the same key twice"),
        (KEY_TEXT[:-1], "key 1 is not 32 bytes in base64"),
        (KEY_TEXT.replace("A", "*"), "key 1 is not 32 bytes in base64"),
        (f"{KEY_TEXT} {base64.b64encode(KEY[1:]).decode()}", "key 2 is not 32 bytes"),
        (base64.b64encode(KEY + b"0").decode(), "key 1 is not 32 bytes in base64"),
        ("ä" * 44, "key 1 is not 32 bytes in base64"),
        (base64.b64encode(bytes(32)).decode(), "key 1 was not made at random"),
        (base64.b64encode(b"password" * 4).decode(), "key 1 was not made at random"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_cluster_keys(text)

    assert all(word not in str(caught.value) for word in text.split())


def test_a_secret_is_shown_to_nobody_who_does_not_ask():
    secret = Secret(KEY_TEXT)

    assert secret.reveal() == KEY_TEXT
    for shown in (str(secret), repr(secret), f"{secret}", f"{[secret]}"):
        assert KEY_TEXT not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": secret})


def test_secrets_compare_by_what_they_are_and_only_with_each_other():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("a")
    assert not Secret("")
