"""Figures beside Nomad's, and beside what this machine can do at all."""

import pytest

from cluster.report import YARDSTICK, YARDSTICK_THERE, Figure, Report, machine_speed


def report(*figures):
    return Report(
        machine="m",
        cores=2,
        python="3.11",
        load_generator="g",
        node_count=1,
        node_bytes=1,
        list_bytes=1,
        figures=figures,
    )


def figure(name, value, unit="/s"):
    return Figure(name=name, title=name, value=value, unit=unit)


def test_the_machine_is_measured_by_bare_aiohttp_averaged_over_the_run():
    speed = machine_speed(
        report(figure(YARDSTICK, 10_000), figure("x", 1), figure(YARDSTICK, 25_000))
    )

    assert speed == 17_500 / YARDSTICK_THERE


def test_without_a_yardstick_nothing_is_claimed():
    assert machine_speed(report(figure("x", 1))) is None


@pytest.mark.parametrize(
    ("name", "value", "unit", "times"),
    [
        ("eligibility_writes_64", 4300, "/s", 2.0),
        ("list_fanout_100", 6.8, "s", 2.0),
        ("memory_pss", 73, "MB", 2.0),
    ],
)
def test_better_is_more_per_second_and_less_time_and_memory(name, value, unit, times):
    assert figure(name, value, unit).times_better == times
