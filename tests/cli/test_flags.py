"""Flags as Go takes them."""

import pytest

from nodestate.cli.flags import Flags, HelpWantedError, UsageError


def flags() -> Flags:
    made = Flags("node try", "Try flags.", "nodestate node try -m x")
    made.switch("enable", "turn it on")
    made.value("m", "<text>", "a message")
    made.value("deadline", "<duration>", "how long")
    made.value("per-page", "<n>", "how many", default=0, kind=int)
    made.pairs("meta", "pairs")
    made.arguments("<node>")
    return made


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("style", ["{}deadline=5m", "{}deadline 5m"])
@pytest.mark.parametrize("position", ["before", "after"])
def test_one_dash_or_two_joined_or_apart_before_or_after(dashes, style, position):
    given = style.format(dashes).split()
    words = [*given, "abc"] if position == "before" else ["abc", *given]

    args = flags().parse(words)

    assert (args.deadline, args.arguments) == ("5m", ["abc"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], False),
        (["-enable"], True),
        (["--enable"], True),
        (["-enable=true"], True),
        (["-enable=1"], True),
        (["-enable=false"], False),
        (["--enable=F"], False),
        (["-enable", "-enable=false"], False),
        (["-enable=false", "-enable"], True),
    ],
)
def test_a_switch_may_say_which_way(words, expected):
    assert flags().parse(words).enable is expected


def test_a_switch_does_not_take_the_next_word():
    args = flags().parse(["-enable", "false"])

    assert args.enable
    assert args.arguments == ["false"]


@pytest.mark.parametrize("value", ["", "-x", "--m", "a b", "a=b", "-", "\N{SNOWMAN}"])
def test_a_value_may_be_anything(value):
    assert flags().parse(["-m", value]).m == value
    assert flags().parse([f"--m={value}"]).m == value


def test_a_flag_that_is_given_twice_has_its_last_value():
    assert flags().parse(["-m", "a", "-m=b"]).m == "b"


def test_pairs_add_up_and_may_lack_a_value():
    args = flags().parse(["-meta", "a=1", "-meta=b=2=3", "--meta", "c"])

    assert args.meta == [("a", "1"), ("b", "2=3"), ("c", "")]
    assert flags().parse([]).meta == []


def test_behind_two_dashes_nothing_is_a_flag():
    assert flags().parse(["x", "--", "-enable", "--"]).arguments == [
        "x",
        "-enable",
        "--",
    ]


def test_a_single_dash_is_an_argument():
    assert flags().parse(["-"]).arguments == ["-"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-mesage=x"], "flag provided but not defined: -mesage"),
        (["-enabl"], "flag provided but not defined: -enabl"),
        (["---enable"], "flag provided but not defined: --enable"),
        (["-m"], "flag needs an argument: -m"),
        (["-m", "--", "x"], "flag needs an argument: -m"),
        (["-enable=maybe"], 'invalid boolean value "maybe" for -enable'),
        (["-enable="], 'invalid boolean value "" for -enable'),
        (["-per-page", "x"], "argument -per-page: invalid int value: 'x'"),
    ],
)
def test_what_cannot_be_used_is_named(words, complaint):
    with pytest.raises(UsageError) as caught:
        flags().parse(words)

    assert str(caught.value) == complaint


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_help_is_asked_for_in_each_way(word):
    with pytest.raises(HelpWantedError):
        flags().parse(["abc", word])


def test_help_has_usage_flags_and_an_example():
    text = flags().help()

    assert text.startswith("usage: nodestate node try [options] <node>\n\nTry flags.")
    assert "\n  -deadline <duration>  how long\n" in text
    assert text.endswith("example:\n  nodestate node try -m x")
