"""What the scheduler is set to, and that it stays so."""

import pytest

from tests.api.conftest import Api

PATH = "/v1/operator/scheduler/configuration"


async def test_it_packs_and_preempts_nobody(api: Api):
    answer = await api.get(PATH)

    assert answer.json == {
        "Index": 1,
        "KnownLeader": True,
        "LastContact": 0,
        "SchedulerConfig": {
            "CreateIndex": 1,
            "MemoryOversubscriptionEnabled": False,
            "ModifyIndex": 1,
            "PauseEvalBroker": False,
            "PreemptionConfig": {
                "BatchSchedulerEnabled": False,
                "ServiceSchedulerEnabled": False,
                "SysBatchSchedulerEnabled": False,
                "SystemSchedulerEnabled": False,
            },
            "RejectJobRegistration": False,
            "SchedulerAlgorithm": "binpack",
        },
    }


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_what_was_read_can_be_written_back(api: Api, method):
    read = (await api.get(PATH)).json["SchedulerConfig"]

    answer = await api.ask(method, PATH, read)

    assert (answer.status, answer.json) == (200, {"Index": 1, "Updated": True})


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"SchedulerAlgorithm": "spread"}, 'SchedulerAlgorithm is "binpack"'),
        (
            {"PreemptionConfig": {"SystemSchedulerEnabled": True}},
            "PreemptionConfig.SystemSchedulerEnabled is false",
        ),
        ({"PauseEvalBroker": True}, "PauseEvalBroker is false"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name(api: Api, sent, shown):
    answer = await api.put(PATH, sent)

    assert answer.status == 501
    assert shown in answer.text
