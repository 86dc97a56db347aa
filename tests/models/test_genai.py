"""Official gen_ai instrumentations: found by their distribution, switched on once, switched off again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry import trace

import otel_pipeline
from otel_pipeline.models import genai


class Instrumentor:
    """Stands in for an official one: it makes the spans that they make."""

    is_instrumented_by_opentelemetry = False
    missing = None

    def __call__(self):
        return self

    def _check_dependency_conflicts(self):
        return self.missing

    def instrument(self, **_options):
        self.is_instrumented_by_opentelemetry = True

    def uninstrument(self):
        self.is_instrumented_by_opentelemetry = False


def point(name, distribution, instrumentor):
    return SimpleNamespace(name=name, dist=SimpleNamespace(name=distribution), load=lambda: instrumentor)


@pytest.fixture
def official(monkeypatch):
    """One that is installed with its client, one without, and one that is not of generative models."""
    with_client, without = Instrumentor(), Instrumentor()
    without.missing = "openai"
    points = [
        point("anthropic", "opentelemetry-instrumentation-genai-anthropic", with_client),
        point("openai", "opentelemetry_instrumentation_openai_v2", without),
        point("requests", "opentelemetry-instrumentation-requests", Instrumentor()),
    ]
    monkeypatch.setattr(genai, "entry_points", lambda group: points)
    return with_client, without


def test_they_are_switched_on_and_off(telemetry, official):
    """With their client library only; what we switched on is switched off by `uninstrument()`."""
    pipe = telemetry.instrument()
    states = {
        adapter.name: adapter.state
        for adapter in pipe.status().adapters
        if adapter.name in ("anthropic", "openai", "requests")
    }
    during = [instrumentor.is_instrumented_by_opentelemetry for instrumentor in official]
    pipe.uninstrument()

    assert (states, during) == ({"anthropic": "instrumented", "openai": "skipped"}, [True, False])
    assert not official[0].is_instrumented_by_opentelemetry


def test_what_the_application_switched_on_stays(telemetry, official):
    """It is not ours to switch off."""
    official[0].instrument()
    telemetry.instrument().uninstrument()

    assert official[0].is_instrumented_by_opentelemetry


def test_they_can_be_disabled(telemetry, official):
    """By their name."""
    telemetry.instrument(disable=["anthropic"])

    assert not official[0].is_instrumented_by_opentelemetry


@pytest.mark.no_check
def test_their_spans_say_how_old_the_data_is(telemetry, official, record):
    """Inside of a delivery: age, number of inputs and origin environment."""
    telemetry.instrument()
    with otel_pipeline.process(record):
        trace.get_tracer("gen").start_span("chat m", attributes={"gen_ai.operation.name": "chat"}).end()

    (span,) = [span for span in telemetry.spans() if span.name == "chat m"]
    assert (span.attributes["otel_pipeline.data.inputs"], span.attributes["otel_pipeline.origin.environment"]) == (
        1,
        "staging",
    )
    assert span.attributes["otel_pipeline.data.age"] > 0


@pytest.fixture
def record():
    """A message as kafka-python hands it out."""
    from kafka.consumer.fetcher import ConsumerRecord

    from otel_pipeline.engine import pipeline_header

    header = pipeline_header.encode(
        flags=0, hops=1, environment="staging", origin_ms=1_000, newest_ms=0, path=1, producer_id=0, sequence=0, tag=0
    )
    values = {"topic": "orders", "partition": 0, "offset": 1, "timestamp": 1_000, "headers": [("otelp", header)]}
    return ConsumerRecord(*[values.get(name, 0) for name in ConsumerRecord._fields])
