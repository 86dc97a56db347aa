"""Model calls on what kafka-python's consumers have returned: in a loop over it, and on all of it at once."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from otel_pipeline.engine import inference
from otel_pipeline.engine.model_methods import ModelMethods

AGE, DURATION = "otel_pipeline.decision.age", "otel_pipeline.inference.duration"


@pytest.fixture
def model():
    """Makes a model of a pipeline."""

    def make(pipe):
        methods = ModelMethods(inference._inferences, pipe._guard, "ours", "ours")
        method = methods.around("predict", lambda args, _kwargs: len(args[0]), lambda _self, rows: len(rows))
        return type("Model", (), {"predict": method})()

    return make


def polled(mock, *values):
    """These values, sent, and what a consumer has returned of them in one call."""
    topic, producer = mock.topic(), mock.producer(linger_ms=200)
    sent = [
        producer.send(topic, value, partition=0) for value in values
    ]  # One batch of the log: one poll has all of it.
    for each in sent:
        each.get(10)
    consumer = mock.consumer(topic)
    for _ in range(40):
        for records in consumer.poll(500).values():
            assert len(records) == len(values)
            return records
    raise AssertionError("nothing came")


def counted(telemetry, name):
    return sum(point.count for point in telemetry.metric(name).points)


def test_a_loop_over_a_batch_that_is_not_recorded_is_short(telemetry, mock, model, monkeypatch):
    """A call for each message; where the sampler is as we know it none of them takes the way of a recorded one."""
    telemetry.sample(ParentBased(ALWAYS_OFF))
    telemetry.real_time()
    scorer = model(telemetry.instrument())
    records, long_way, opened = polled(mock, b"a", b"b", b"c"), [], inference.Inferences.open
    monkeypatch.setattr(inference.Inferences, "open", lambda *given: long_way.append(1) or opened(*given))
    for record in records:
        scorer.predict([record.value])

    expected = 0 if inference._inferences.spans.drops_unsampled else 3
    assert (counted(telemetry, DURATION), counted(telemetry, AGE), len(long_way)) == (3, 3, expected)


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ParentBased(ALWAYS_OFF)], ids=["recorded", "not recorded"])
def test_all_of_what_was_polled(telemetry, mock, model, sampler):
    """As many rows as messages: a decision for each; otherwise one."""
    telemetry.sample(sampler)
    telemetry.real_time()
    scorer = model(telemetry.instrument())
    records = polled(mock, b"a", b"b", b"c")
    values = list(map(bytes, (records[at].value for at in range(3))))
    scorer.predict(values)
    before = counted(telemetry, AGE)
    scorer.predict(values[:2])

    assert (before, counted(telemetry, AGE), counted(telemetry, DURATION)) == (3, 4, 2)
