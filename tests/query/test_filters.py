"""Filter expressions over nodes: who matches, and which questions make no sense."""

import pytest
from hypothesis import given, strategies
from msgspec.structs import replace

from nodestate.errors import RequestError
from nodestate.model.job import Job, JobType
from nodestate.model.node import DrainStrategy, LastDrain, Node, NodeEvent, NodeStatus
from nodestate.query.filters import FILTERS_KEPT_MAX, PATTERNS_MAX, compile_filter


def matching(text: str, nodes: dict[str, Node]) -> set[str]:
    found = compile_filter(text)
    return {name for name, node in nodes.items() if found.matches(node)}


META = {
    "N1": Node(meta={"foo": "bar"}),
    "N2": Node(meta={"foo": "x"}),
    "N3": Node(meta=None),
}
GPU = Node(node_class="gpu", status=NodeStatus.READY)
FLEET = {
    "ready": GPU,
    "down": Node(node_class="gpu", status=NodeStatus.DOWN),
    "draining": replace(
        GPU,
        scheduling_eligibility="ineligible",
        drain=True,
        drain_strategy=DrainStrategy(),
        last_drain=LastDrain(status="draining", meta={"owner": "as"}),
    ),
    "drained": replace(
        GPU,
        scheduling_eligibility="ineligible",
        last_drain=LastDrain(status="complete", meta={"owner": "as"}),
    ),
    "web": Node(node_class="web", status=NodeStatus.READY),
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('Meta["foo"] == "bar"', {"N1"}),
        ('Meta["foo"] != "bar"', {"N2", "N3"}),
        ('"foo" in Meta', {"N1", "N2"}),
        ('"foo" not in Meta', {"N3"}),
        ("Meta contains foo", {"N1", "N2"}),
        ('Meta["foo"] is empty', {"N3"}),
        ('Meta["foo"] is not empty', {"N1", "N2"}),
        ('Meta["foo"] is nil', {"N3"}),
        ('Meta["foo"] is not nil', {"N1", "N2"}),
        ('Meta["foo"] matches "^b"', {"N1"}),
        ('Meta["foo"] not matches "^b"', {"N2", "N3"}),
        ('Meta["foo"] contains "a"', {"N1"}),
        ('Meta["foo"] not contains "a"', {"N2", "N3"}),
        ('Meta.foo == "bar"', {"N1"}),
        ('"/Meta/foo" == "bar"', {"N1"}),
        ('not Meta.foo == "bar"', {"N2", "N3"}),
        ("Meta is empty", {"N3"}),
    ],
)
def test_an_absent_key_is_an_answer_and_no_error(text, names):
    assert matching(text, META) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            'Status == "ready" and SchedulingEligibility == "eligible" and '
            'NodeClass == "gpu"',
            {"ready"},
        ),
        (
            'LastDrain.Meta["owner"] == "as" and LastDrain.Status == "complete"',
            {"drained"},
        ),
        ("DrainStrategy is empty", {"ready", "down", "drained", "web"}),
        ("DrainStrategy is not empty", {"draining"}),
        ("DrainStrategy is not nil", {"draining"}),
        ("Drain == true", {"draining"}),
        ("Drain != t", {"ready", "down", "drained", "web"}),
        ("NodeClass == web or Status == down", {"down", "web"}),
        ("not (NodeClass == gpu or Status == down)", {"web"}),
        ("Status matches `^(down|initializing)$`", {"down"}),
        ("Status contains ead", {"ready", "draining", "drained", "web"}),
        ("DrainStrategy.Deadline == 0", {"draining"}),
    ],
)
def test_nodes_are_chosen_as_the_autoscaler_does(text, names):
    assert matching(text, FLEET) == names


def test_numbers_are_compared_as_numbers():
    nodes = {"a": Node(create_index=16), "b": Node(create_index=17)}

    assert matching("CreateIndex == 16", nodes) == {"a"}
    assert matching('CreateIndex == "0x10"', nodes) == {"a"}
    assert matching("CreateIndex != 16", nodes) == {"b"}


def test_a_position_past_the_end_of_a_list_is_absent():
    nodes = {"some": Node(events=(NodeEvent(message="x"),)), "none": Node()}

    assert matching("Events.0.Message == x", nodes) == {"some"}
    assert matching("Events is empty", nodes) == {"none"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Nope == 1", "no field is called 'Nope'"),
        ("CreateIndex == x", "CreateIndex is a whole number, which 'x' is not"),
        ("CreateIndex == 1.5", "which '1.5' is not"),
        ("Drain == maybe", "Drain is true or false, which 'maybe' is not"),
        ("Meta == x", "Meta is a map: it cannot be compared"),
        ("DrainStrategy == x", "DrainStrategy is an object: it cannot be compared"),
        ("x in Events", "Events is a list: it cannot contain a value"),
        ("CreateIndex contains 1", "CreateIndex is a whole number: it cannot contain"),
        ("Drain is empty", "Drain is true or false: it cannot be empty"),
        ("Meta matches x", "Meta is a map: it cannot match a regular expression"),
        ("Name matches `(`", "regular expression '(': missing )"),
        ("Name matches `(?=x)`", "regular expression '(?=x)': invalid perl operator"),
        ("Name matches `\\pL{900}`", "pattern too large"),
        ("Name == `\ud800`", "not valid Unicode"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_node_is_seen(text, complaint):
    with pytest.raises(RequestError) as caught:
        compile_filter(text)

    assert complaint in str(caught.value)


def test_the_limit_on_regular_expressions():
    question = "Name matches `x`"

    compile_filter(" and ".join([question] * PATTERNS_MAX))
    with pytest.raises(RequestError, match="more than 8 regular expressions"):
        compile_filter(" or ".join([f"not {question}"] * (PATTERNS_MAX + 1)))


def test_a_hostile_regular_expression_is_linear():
    """With a backtracking engine this takes longer than the universe has been there."""
    node = Node(name="a" * 5_000)

    assert not compile_filter("Name matches `^(a+)+$b`").matches(node)


def test_filters_are_kept_and_forgotten():
    kept = compile_filter("Name == kept")

    assert compile_filter("Name == kept") is kept
    for number in range(FILTERS_KEPT_MAX):
        compile_filter(f"Name == n{number}")
    assert compile_filter("Name == kept") is not kept


@given(strategies.text(alphabet='NameMt.[]"`()=! andortisemp0\\/\n', max_size=60))
def test_any_text_is_a_filter_or_a_request_error(text):
    try:
        found = compile_filter(text)
    except RequestError:
        return

    assert found.matches(Node()) in {True, False}


def test_other_records_are_filtered_by_their_own_fields():
    found = compile_filter('Type == "batch" and Meta.owner == "as"', Job)

    assert found.matches(Job(type=JobType.BATCH, meta={"owner": "as"}))
    assert not found.matches(Job(meta={"owner": "as"}))
    with pytest.raises(RequestError, match="no field is called 'Type'"):
        compile_filter('Type == "batch"')


def test_what_is_only_kept_is_there_or_not_and_is_not_looked_into():
    assert compile_filter("Periodic is nil", Job).matches(Job())
    assert not compile_filter("Periodic is nil", Job).matches(Job(periodic={"a": 1}))
    with pytest.raises(RequestError, match="Periodic is an object"):
        compile_filter("Periodic.Spec == x", Job)
