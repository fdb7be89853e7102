"""The two forms in which measures are sent."""

from tests.api.conftest import Api


async def test_the_default_is_nomads_json(api: Api):
    answer = await api.get("/v1/metrics")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert {"Timestamp", "Gauges", "Points", "Counters", "Samples"} == {*answer.json}
    assert answer.nomad_headers() == set()


async def test_prometheus_gets_its_text(api: Api):
    answer = await api.get("/v1/metrics?format=prometheus")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE nodestate_api_connections gauge" in answer.text
    assert "nodestate_api_connections 1" in answer.text
