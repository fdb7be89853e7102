"""The judge bites: with one rule switched off, some schedule breaks a promise.

Random schedules find most of them; each has a number of seeds within which it must be
found, several times as many as it takes on average. The others need events in an order
that chance hardly ever brings about, and have schedules directed by hand.
"""

from pathlib import Path

import pytest

from cluster.run import play_one
from cluster.simulation.draw import WORK, draw_schedule
from cluster.simulation.judge import (
    COMMIT,
    DURABLE,
    EXACTLY_ONCE,
    LINEARIZABLE,
    LOG_MATCHING,
    WATCHERS,
)
from cluster.simulation.schedule import read_schedule
from cluster.simulation.work import QUIET, REST
from cluster.simulation.work_judge import DRAINS, ONCE, PACING, PLACEMENT
from tests.fsm import test_plans
from tests.fsm.work import WorkLog, register_job
from tests.replication import test_schedules_log as by_hand
from tests.simulation import mutants

SCHEDULES = Path(__file__).parent / "schedules"

FOUND_BY_CHANCE = [
    (mutants.acknowledges_before_sync, "crashes", DURABLE, 10),
    (mutants.counts_itself_before_sync, "disks", COMMIT, 20),
    (mutants.cuts_what_matches, "links", LOG_MATCHING, 80),
    (mutants.votes_before_sync, "crashes", DURABLE, 10),
    (mutants.installs_before_verifying, "members", DURABLE, 30),
    (mutants.forgets_requests, "all", EXACTLY_ONCE, 40),
    (mutants.reads_before_its_own_entry, "crashes", LINEARIZABLE, 60),
    (mutants.watches_before_registering, "all", WATCHERS, 50),
    (mutants.drains_without_pacing, WORK, PACING, 20),
    (mutants.ends_drains_before_agents_report, WORK, DRAINS, 20),
    (mutants.forgets_drains_of_earlier_leaders, WORK, REST, 20),
    (mutants.places_on_any_node, WORK, PLACEMENT, 30),
    (mutants.looks_at_one_job_twice_at_a_time, WORK, ONCE, 30),
    (mutants.never_looks_for_room_again, WORK, REST, 30),
    (mutants.never_misses_a_heartbeat, WORK, REST, 30),
    (mutants.writes_every_heartbeat, WORK, QUIET, 10),
]


def put_off_a_deadline_as_it_passes():
    schedule = read_schedule(SCHEDULES / "a-deadline-put-off-as-it-passes.json")
    assert play_one(schedule).violations == ()


def carry_out_a_plan_of_an_evaluation_that_was_planned_for_since():
    log = WorkLog(register_job())
    test_plans.test_a_plan_of_an_evaluation_that_moved_on_is_refused(log, "plan")


DIRECTED = [
    (
        mutants.takes_acks_of_any_term,
        by_hand.test_an_acknowledgement_of_an_earlier_term_counts_for_nothing,
    ),
    (
        mutants.commits_old_terms_by_count,
        by_hand.test_figure_8_an_old_entry_on_a_majority_is_not_committed,
    ),
    (
        mutants.forces_by_a_deadline_that_was_put_off,
        put_off_a_deadline_as_it_passes,
    ),
    (
        mutants.carries_out_old_plans,
        carry_out_a_plan_of_an_evaluation_that_was_planned_for_since,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "scenario", "promise", "seeds"),
    FOUND_BY_CHANCE,
    ids=[mutant.__name__ for mutant, *_ in FOUND_BY_CHANCE],
)
def test_chance_finds_it(quiet_logs, monkeypatch, mutant, scenario, promise, seeds):
    mutant(monkeypatch)

    for seed in range(1, seeds + 1):
        verdict = play_one(draw_schedule(seed, 3, scenario))
        if promise in {violation.promise for violation in verdict.violations}:
            return
    pytest.fail(f"not found in {seeds} schedules")


@pytest.mark.parametrize(
    ("mutant", "schedule"), DIRECTED, ids=[mutant.__name__ for mutant, _ in DIRECTED]
)
def test_a_directed_schedule_finds_it(quiet_logs, monkeypatch, mutant, schedule):
    schedule()
    mutant(monkeypatch)

    with pytest.raises(AssertionError):
        schedule()


def test_every_mutant_is_shown():
    shown = {mutant for mutant, *_ in FOUND_BY_CHANCE} | {one for one, _ in DIRECTED}

    assert shown == set(mutants.ALL.values())
