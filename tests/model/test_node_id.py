"""Ids and prefixes of ids, as Nomad reads them."""

import pytest
from hypothesis import given, settings, strategies as st

from nodestate.errors import RequestError
from nodestate.model.node_id import (
    node_key,
    node_key_prefix,
    record_id,
    record_id_prefix,
    typed_digits,
)

ID = "f7476465-4d6e-c0de-26d0-e383c49be941"
KEY = "f74764654d6ec0de26d0e383c49be941"
LOOKUP = "node lookup failed: index error: "
BAD_BYTE = f"{LOOKUP}Invalid UUID: encoding/hex: invalid byte: "


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (ID, KEY),
        (ID.upper(), KEY),
        ("----" + KEY, KEY),
        (KEY + "----", KEY),
        ("f-7476465-4d6e-c0de26d0e383c49be941-", KEY),
        # Two hyphens leave 17 bytes, which no node has.
        ("--" + KEY + "00", KEY + "00"),
    ],
)
def test_hyphens_may_stand_anywhere(text, key):
    assert node_key(text) == key


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "UUID must be 36 characters"),
        (ID[:-1], "UUID must be 36 characters"),
        (ID + "0", "UUID must be 36 characters"),
        ("ä" * 36, "UUID must be 36 characters"),
        ("-----" + KEY[1:], 'UUID should have maximum of 4 "-"; got 5'),
        ("-" * 36, 'UUID should have maximum of 4 "-"; got 36'),
        ("---" + KEY + "0", "Input (without hyphens) must be even length"),
    ],
)
def test_what_is_no_id_is_refused(text, error):
    with pytest.raises(RequestError) as caught:
        node_key(text)

    assert str(caught.value) == LOOKUP + error


@pytest.mark.parametrize(
    ("byte", "shown"),
    [
        ("z", "U+007A 'z'"),
        (" ", "U+0020 ' '"),
        ("'", "U+0027 '''"),
        ("\\", "U+005C '\\'"),
        ("\n", "U+000A"),
        ("\x7f", "U+007F"),
    ],
)
def test_the_first_bad_byte_is_named(byte, shown):
    with pytest.raises(RequestError) as caught:
        node_key("----" + KEY[:10] + byte + "y" + KEY[12:])

    assert str(caught.value) == BAD_BYTE + shown


@pytest.mark.parametrize(
    ("text", "shown"), [("ä", "U+00C3 'Ã'"), ("a\udcff", "U+00FF 'ÿ'")]
)
def test_text_outside_ascii_is_named_byte_by_byte(text, shown):
    with pytest.raises(RequestError) as caught:
        node_key_prefix(text)

    assert str(caught.value) == BAD_BYTE + shown


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", ""),
        ("----", ""),
        ("12", "12"),
        ("1234-5678", "12345678"),
        ("12345678-", "12345678"),
        ("AB", "ab"),
        (KEY, KEY),
        (ID, KEY),
    ],
)
def test_a_prefix_is_the_start_of_keys(text, prefix):
    assert node_key_prefix(text) == prefix


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("123", "Input (without hyphens) must be even length"),
        ("-----", 'UUID should have maximum of 4 "-"; got 5'),
        (ID + "0", "Invalid UUID length. UUID have 36 characters; got 37"),
        ("ä" * 19, "Invalid UUID length. UUID have 36 characters; got 38"),
    ],
)
def test_what_is_no_prefix_is_refused(text, error):
    with pytest.raises(RequestError) as caught:
        node_key_prefix(text)

    assert str(caught.value) == LOOKUP + error


@settings(max_examples=50)
@given(st.text() | st.text(alphabet="0123456789abcdefABCDEF-", max_size=40))
def test_any_text_is_a_key_or_refused(text):
    for read in (node_key, node_key_prefix):
        try:
            key = read(text)
        except RequestError:
            continue
        assert set(key) <= set("0123456789abcdef")
        assert len(key) % 2 == 0


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("", ""),
        ("AB", "ab"),
        ("12345678", "12345678"),
        ("12345678-", "12345678"),
        ("1234567890", "12345678-90"),
        ("12-34-5678", "12345678"),
        (KEY, ID),
        (ID, ID),
        ("0" * 34, "0" * 34),
    ],
)
def test_a_prefix_of_a_record_has_its_hyphens_where_ids_have_them(text, prefix):
    assert record_id_prefix(text, "alloc") == prefix


def test_an_id_of_a_record_is_in_the_form_that_records_have():
    assert record_id(ID.upper(), "eval") == ID
    # Fewer hyphens leave room for too many digits: no record is called so.
    assert record_id("0" * 36, "eval") == "0" * 36


def test_what_is_no_id_of_a_record_says_of_which_kind():
    with pytest.raises(RequestError, match=r"^alloc lookup failed: index error: UUID"):
        record_id("f747", "alloc")
    with pytest.raises(RequestError, match=r"^eval lookup failed: index error: Input"):
        record_id_prefix("f74", "eval")


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("", ""),
        ("F7", "f7"),
        ("f74", "f74"),
        ("f7476465-4", "f74764654"),
        ("f7476465-", "f7476465"),
        ("zz", None),
        ("f7 ", None),
        ("a-b-c-d-e-f", None),
        ("a" * 36, "a" * 36),
        ("a" * 37, None),
        ("é", None),
        ("\udcff", None),
    ],
)
def test_what_is_typed_of_an_id_is_digits_or_nothing(text, digits):
    assert typed_digits(text) == digits
